"""After a deafness the node's clock waits until devices had the time to come back."""

import pytest

from gateway.domain.presence import PROBE_GAP_MS_MAX, RETURN_MS_MAX, standstill_ms

GAPS = [
    (0, 0),
    (-5_000, 0),
    (PROBE_GAP_MS_MAX, 0),
    (PROBE_GAP_MS_MAX + 1, PROBE_GAP_MS_MAX + 1),
    (40_000, 40_000),
    (600_000, RETURN_MS_MAX),
]


@pytest.mark.parametrize(("gap_ms", "stands_ms"), GAPS)
def test_as_long_as_the_gap_and_at_most_a_minute(gap_ms: int, stands_ms: int) -> None:
    assert standstill_ms(gap_ms) == stands_ms
