"""When the MQTT server is told to read its logins again."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt_server.pacing import (
    CROWDED_CONNECTIONS,
    PAUSE_CROWDED_S,
    PAUSE_S,
    REMOVAL_S_MAX,
    Pacing,
)

FEW, MANY = CROWDED_CONNECTIONS, CROWDED_CONNECTIONS + 1

DUE = [
    # done at, asked at, removal asked at, connections, expected due
    (None, None, None, FEW, None),
    (10.0, None, None, FEW, None),
    (None, 3.0, None, FEW, 3.0),
    (10.0, 10.5, None, FEW, 12.0),
    (10.0, 99.0, None, FEW, 99.0),
    (10.0, 10.5, 10.5, FEW, 12.0),
    (10.0, 10.5, None, MANY, 20.0),
    (10.0, 10.5, 10.5, MANY, 13.5),
    (10.0, 10.5, 18.0, MANY, 20.0),
    (10.0, 40.0, 40.0, MANY, 40.0),
]


def test_the_due_time_of_each_case() -> None:
    for done, asked, removal, connections, expected in DUE:
        pacing = Pacing(asked, removal, done)
        assert pacing.due_at_s(connections) == expected, (done, asked, removal, connections)


def test_the_oldest_waiting_change_counts_and_a_turn_takes_all() -> None:
    pacing = Pacing().ask(1.0, removal=False).ask(2.0, removal=True).ask(3.0, removal=True)
    assert pacing == Pacing(asked_at_s=1.0, removal_asked_at_s=2.0)
    assert pacing.begin(4.0) == Pacing(done_at_s=4.0)


@given(
    changes=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60),
    connections=st.sampled_from([FEW, MANY]),
)
def test_pauses_are_kept_and_no_removal_waits_longer_than_its_limit(
    changes: list[tuple[int, bool]], connections: int
) -> None:
    pause_s = PAUSE_S
    pacing = Pacing()
    now_s = 0.0
    turns: list[float] = []
    removals: list[float] = []
    plain: list[float] = []

    def work_until(limit_s: float) -> None:
        nonlocal pacing
        while (due_s := pacing.due_at_s(connections)) is not None and due_s <= limit_s:
            turns.append(due_s)
            assert all(due_s - asked_s <= REMOVAL_S_MAX for asked_s in removals)
            assert all(due_s - asked_s <= PAUSE_CROWDED_S for asked_s in plain)
            removals.clear()
            plain.clear()
            pacing = pacing.begin(due_s)

    for gap_quarters, removal in changes:
        gap_s = gap_quarters / 4  # exact in binary, so that limits can be compared exactly
        work_until(now_s + gap_s)
        now_s += gap_s
        pacing = pacing.ask(now_s, removal=removal)
        (removals if removal else plain).append(now_s)
    work_until(now_s + 60)
    assert not removals
    assert not plain
    assert all(later - earlier >= pause_s for earlier, later in itertools.pairwise(turns))
