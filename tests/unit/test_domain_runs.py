"""What a message changes in a run, against a plain set of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.runs import (
    DEVICE_TIME,
    INTERPOLATED,
    LOST_MAX,
    SERVER_TIME,
    RunRow,
    instant_of,
    take,
    wants_receipt,
)
from wire.heartbeat import NUMBER_MAX, Message, Origin, Sample
from wire.ranges import RANGES_MAX, Settled

RUN = "run00000001"
NOW = 1_800_000_000_000


def row(**changed: object) -> RunRow:
    made = RunRow(1, RUN, Settled(), 0, True, None, 1, False, False)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def message(
    first: int,
    count: int = 1,
    *,
    base: int = 0,
    low: int = 1,
    ask: bool = False,
    origin: Origin | None = None,
) -> Message:
    samples = [Sample(first + index, 10 * (count - index), {1: first}) for index in range(count)]
    return Message(RUN, RUN, 1, base, low, 60, ask, 0, origin, samples)


def held(settled: Settled) -> set[int]:
    above = {n for first, last in settled.ranges for n in range(first, last + 1)}
    return set(range(1, settled.upto + 1)) | above


SENT = st.tuples(st.integers(1, 160), st.integers(1, 6), st.integers(0, 40))


@given(st.lists(SENT, max_size=60))
def test_every_number_is_stored_once_and_lost_ones_are_counted(
    sent: list[tuple[int, int, int]],
) -> None:
    one, model, stored, lost = row(), set[int](), set[int](), 0
    for first, count, back in sent:
        low = max(1, first - back)
        taken = take(one, message(first, count, low=low))
        numbers = set(range(first, first + count))
        # The plain rules: what is below `low` is given up, then the numbers are settled.
        given_up = set(range(1, low)) - model
        model |= given_up
        expected = numbers - model
        assert {sample.number for sample in taken.fresh} == expected
        assert taken.repeats == len(numbers - expected)
        assert not stored & expected
        stored |= expected
        model |= numbers
        more = held(one.settled) - model  # closed because there were too many ranges
        assert taken.lost == len(given_up) + len(more)
        model |= more
        lost += taken.lost
        assert model == held(one.settled)
        assert len(one.settled.ranges) <= RANGES_MAX
        tidy = [one.settled.upto, *(n for pair in one.settled.ranges for n in pair)]
        assert tidy == sorted(tidy)
    assert len(stored) + lost == len(model)


@given(st.lists(SENT, max_size=40))
def test_the_state_only_ever_goes_forward(sent: list[tuple[int, int, int]]) -> None:
    one, newest = row(), 0
    for first, count, back in sent:
        taken = take(one, message(first, count, low=max(1, first - back)))
        assert [s.number for s in taken.state] == sorted(s.number for s in taken.state)
        assert all(sample.number > newest for sample in taken.state)
        newest = max([newest, *(sample.number for sample in taken.state)])
        assert one.state_seq == newest


FULL = [
    # row before, message, need_full after
    (row(), message(1), False),
    (row(), message(5), False),
    (row(), message(5, base=3), True),  # on a base that is not held
    (row(settled=Settled(3), need_full=False), message(5, base=3), False),
    (row(settled=Settled(3), need_full=False), message(5, base=4), True),
    (row(settled=Settled(3), need_full=True), message(5, base=3), True),  # until a full one
    (row(settled=Settled(3), state_seq=9), message(5), True),  # a full one that is too old
    (row(settled=Settled(3), state_seq=9), message(5, 6), True),  # only its first is full
    (row(settled=Settled(3), state_seq=9), message(10, 2), False),
    (row(superseded=True), message(1), True),  # no state at all
    # A base that is given up by this very message was not held.
    (row(need_full=False), message(9, base=5, low=8), True),
]


@pytest.mark.parametrize(("before", "sent", "need_full"), FULL)
def test_when_a_full_sample_is_asked_for(before: RunRow, sent: Message, need_full: bool) -> None:
    take(before, sent)
    assert before.need_full is need_full


def test_a_superseded_run_changes_no_state() -> None:
    one = row(superseded=True, state_seq=0)
    taken = take(one, message(1, 5))
    assert len(taken.fresh) == 5 and taken.state == [] and one.state_seq == 0


def test_a_leap_of_numbers_cannot_outgrow_the_counter() -> None:
    assert take(row(), message(NUMBER_MAX, low=NUMBER_MAX)).lost == LOST_MAX


RECEIPTS = [
    (message(1), False),
    (message(4), True),
    (message(1, 3), False),
    (message(1, 4), True),
    (message(5, ask=True), True),
]


@pytest.mark.parametrize(("sent", "due"), RECEIPTS)
def test_when_a_receipt_is_due(sent: Message, due: bool) -> None:
    assert wants_receipt(sent, 4) is due


def timed(clock_ms: int, origin: Origin | None) -> Message:
    return message(1, origin=origin)._replace(samples=[Sample(1, clock_ms, {})])


INSTANTS = [
    # clock of the sample, origin, newest instant of earlier runs; when, and how it is known
    (5_000, None, None, NOW - 5_000, SERVER_TIME),
    (NUMBER_MAX, None, None, 1_577_836_800_000, INTERPOLATED),
    (5_000, Origin(NOW - 50_000), None, NOW - 45_000, DEVICE_TIME),
    (5_000, Origin(NOW), 7, 5_007, INTERPOLATED),  # a device's clock that is ahead
    (5_000, Origin(0), 7, 5_007, INTERPOLATED),  # a clock that was never set
    (5_000, Origin(None), NOW - 9_000, NOW - 4_000, INTERPOLATED),
    (5_000, Origin(None), NOW, NOW, INTERPOLATED),
    (5_000, Origin(None), None, NOW, INTERPOLATED),
]


@pytest.mark.parametrize(("clock", "origin", "before", "at", "known"), INSTANTS)
def test_when_a_sample_was_made(
    clock: int, origin: Origin | None, before: int | None, at: int, known: int
) -> None:
    sent = timed(clock, origin)
    assert instant_of(sent.samples[0], sent, NOW, before) == (at, known)


@given(
    st.lists(st.integers(0, NUMBER_MAX), min_size=1, max_size=5),
    st.none() | st.builds(Origin, st.none() | st.integers(-NUMBER_MAX, NUMBER_MAX)),
    st.none() | st.integers(1_577_836_800_000, NOW),
)
def test_no_sample_is_from_the_future_or_from_before_any_agent(
    clocks: list[int], origin: Origin | None, before: int | None
) -> None:
    samples = [Sample(index + 1, clock, {}) for index, clock in enumerate(clocks)]
    sent = message(1, origin=origin)._replace(samples=samples)
    for sample in samples:
        at, known = instant_of(sample, sent, NOW, before)
        assert 1_577_836_800_000 <= at <= NOW and known in (0, 1, 2)
