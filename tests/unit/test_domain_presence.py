"""Presence and the clock of a node, at both sides of each limit."""

import pytest

from gateway.domain.presence import (
    PROBE_GAP_MS_MAX,
    PROBE_INTERVAL_MS,
    RETURN_MS_MAX,
    Deadlines,
    NodeClock,
    Presence,
    after_leaving,
    after_probe,
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


AT, CLOCK = 1_000_000, 77
PROBES = [
    # after the probe before, the clock runs on by, and stands until
    (PROBE_INTERVAL_MS, PROBE_INTERVAL_MS, 0),
    (PROBE_GAP_MS_MAX, PROBE_GAP_MS_MAX, 0),
    (PROBE_GAP_MS_MAX + 1, 0, AT + 2 * (PROBE_GAP_MS_MAX + 1)),  # it was deaf
    (600_000, 0, AT + 600_000 + RETURN_MS_MAX),
    (0, 0, 0),
    (-500, 0, 0),  # a clock that was set back
]


@pytest.mark.parametrize(("gap_ms", "runs_ms", "still_until"), PROBES)
def test_the_clock_of_a_node_stands_still_while_it_is_deaf(
    gap_ms: int, runs_ms: int, still_until: int
) -> None:
    after = after_probe(NodeClock(CLOCK, AT, 0), AT + gap_ms)
    assert after == NodeClock(CLOCK + runs_ms, AT + gap_ms, still_until)


def test_the_first_probe_of_a_node_begins_its_clock() -> None:
    assert after_probe(NodeClock(0, None, 0), AT) == NodeClock(0, AT, AT)


def test_after_a_deafness_the_clock_waits_whichever_gateway_hears_the_next_probe() -> None:
    node = after_probe(NodeClock(CLOCK, AT, 0), AT + 40_000)
    for after_ms in range(2_500, 40_000, 2_500):
        node = after_probe(node, AT + 40_000 + after_ms)
        assert node.clock_ms == CLOCK
    node = after_probe(node, AT + 80_000)
    assert node.clock_ms == CLOCK + 2_500
    assert after_probe(node, AT + 82_500).clock_ms == CLOCK + 5_000


def test_a_wait_does_not_outlast_a_clock_that_is_set_back() -> None:
    node = after_probe(NodeClock(CLOCK, AT, AT + 30_000), AT - 3_600_000)
    assert node.still_until == AT - 3_600_000 + RETURN_MS_MAX
