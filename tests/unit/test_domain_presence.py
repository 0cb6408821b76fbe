"""Presence and the clock of a node, at both sides of each limit."""

import pytest

from gateway.domain.presence import (
    PROBE_GAP_MS_MAX,
    PROBE_INTERVAL_MS,
    Deadlines,
    Presence,
    advanced,
    after_leaving,
    deadlines,
    presence,
)

PRESENCE = [
    # seconds after a heartbeat at an interval of 60 s
    (0, Presence.ONLINE),
    (104.999, Presence.ONLINE),
    (105, Presence.LATE),
    (209.999, Presence.LATE),
    (210, Presence.OFFLINE),
]


@pytest.mark.parametrize(("after_s", "expected"), PRESENCE)
def test_presence_at_both_sides_of_each_limit(after_s: float, expected: Presence) -> None:
    assert presence(deadlines(1_000, 60), 1_000 + round(after_s * 1_000)) is expected


LEAVING = [
    # clock, deadlines before, deadlines after a Last Will
    (0, Deadlines(105_000, 210_000), Deadlines(30_000, 30_000)),
    (0, Deadlines(20_000, 210_000), Deadlines(20_000, 30_000)),
    (200_000, Deadlines(105_000, 210_000), Deadlines(105_000, 210_000)),
    (900_000, Deadlines(105_000, 210_000), Deadlines(105_000, 210_000)),
]


@pytest.mark.parametrize(("clock", "before", "after"), LEAVING)
def test_leaving_makes_nothing_later(clock: int, before: Deadlines, after: Deadlines) -> None:
    assert after_leaving(clock, before) == after


PROBES = [
    # last probe, this probe, by how much the node's clock runs on
    (None, 5_000, 0),
    (1_000, 1_000 + PROBE_INTERVAL_MS, PROBE_INTERVAL_MS),
    (1_000, 1_000 + PROBE_GAP_MS_MAX, PROBE_GAP_MS_MAX),
    (1_000, 1_001 + PROBE_GAP_MS_MAX, 0),  # it was deaf
    (1_000, 1_000 + 600_000, 0),
    (1_000, 1_000, 0),
    (1_000, 500, 0),  # a clock that was set back
]


@pytest.mark.parametrize(("last", "probe", "runs"), PROBES)
def test_the_clock_of_a_node_stands_still_while_it_is_deaf(
    last: int | None, probe: int, runs: int
) -> None:
    assert advanced(77, last, probe) == 77 + runs
