"""Periods, grace and wishes, each at both sides of its limits."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.periods import (
    SEAMLESS_MS,
    Grace,
    Period,
    Standing,
    Wish,
    credits_beyond,
    grace_after,
    next_start,
    wish,
)
from gateway.domain.refusals import STATUS, Code
from gateway.domain.service import LIMIT, NO_CREDIT, PAIRS, Reason, State, unpaid

T = 2_000_000_000_000  # some instant
PERIOD_MS = 30 * DAY_MS

LEFT = [
    # days since the start, days left of 30
    (0, 30),
    (1 / DAY_MS, 29),
    (1, 29),
    (12.5, 17),
    (29, 1),
    (29.5, 0),
    (30, 0),
    (400, 0),
]


@pytest.mark.parametrize(("since", "left"), LEFT)
def test_a_begun_day_is_used(since: float, left: int) -> None:
    assert Period(T, T + PERIOD_MS).days_left(T + round(since * DAY_MS)) == left


def test_a_period_is_whole_days_and_is_extended_by_whole_days() -> None:
    assert Period(T, T + PERIOD_MS).extended(60) == Period(T, T + 3 * PERIOD_MS)
    for end in (T, T - DAY_MS, T + DAY_MS + 1):
        with pytest.raises(AssertionError):
            Period(T, end)


SERVED = [
    # now, outages, days served of a grace of three days from 0
    (0, [], 0),
    (1, [], 1),
    (3, [], 3),
    (9, [], 3),
    (3, [(1, 2)], 2),
    (3, [(-5, 1)], 2),
    (3, [(2, 70)], 2),
    (70, [(2, 68)], 2),
    (3, [(-9, -1)], 3),
    (3, [(4, 5)], 3),
    (3, [(-1, 4)], 0),
    (3, [(0, 1), (2, 3)], 1),
]


@pytest.mark.parametrize(("now", "outages", "served"), SERVED)
def test_time_served_in_grace_leaves_outages_out(
    now: int, outages: list[tuple[int, int]], served: int
) -> None:
    grace = Grace(T, T + 3 * DAY_MS)
    moved = [(T + start * DAY_MS, T + stop * DAY_MS) for start, stop in outages]
    assert grace.served_ms(T + now * DAY_MS, moved) == served * DAY_MS
    start = next_start(T + now * DAY_MS, T, grace, moved)
    assert start == T + (now - served) * DAY_MS


def test_a_stopped_grace_owes_what_was_served_and_goes_on_with_the_rest() -> None:
    grace = Grace(T, T + 3 * DAY_MS)
    stopped = grace.stopped(T + DAY_MS)
    later = T + 20 * DAY_MS
    assert stopped.served_ms(later, []) == DAY_MS
    assert stopped.resumed(later, 3, []) == Grace(later - DAY_MS, later + 2 * DAY_MS)
    assert grace.resumed(later, 3, []) is None
    assert grace.stopped(T - DAY_MS) == Grace(T, T)


AFTER = [
    # ms late, grace days, from when
    (0, 3, 0),
    (SEAMLESS_MS, 3, 0),
    (SEAMLESS_MS + 1, 3, SEAMLESS_MS + 1),
    (0, 0, None),
]


@pytest.mark.parametrize(("late", "grace_days", "from_ms"), AFTER)
def test_grace_begins_where_the_period_ended(
    late: int, grace_days: int, from_ms: int | None
) -> None:
    grace = grace_after(T, T + late, grace_days)
    expected = None if from_ms is None else Grace(T + from_ms, T + from_ms + grace_days * DAY_MS)
    assert grace == expected


STARTS = [
    # last end, now, start
    (None, T, T),
    (T, T, T),
    (T, T + SEAMLESS_MS, T),
    (T, T + SEAMLESS_MS + 1, T + SEAMLESS_MS + 1),
]


@pytest.mark.parametrize(("last_end", "now", "start"), STARTS)
def test_an_hour_without_a_hole(last_end: int | None, now: int, start: int) -> None:
    assert next_start(now, last_end, None, []) == start


@given(st.integers(0, 400 * DAY_MS))
def test_the_fewest_credits_reach_beyond_now(served_ms: int) -> None:
    start = T - served_ms
    credits = credits_beyond(start, T)
    assert start + credits * PERIOD_MS > T
    assert credits == 1 or start + (credits - 1) * PERIOD_MS <= T


def test_a_clock_that_was_set_back_still_pays_a_whole_credit() -> None:
    assert next_start(T - DAY_MS, T, None, []) == T
    assert credits_beyond(T, T - DAY_MS) == credits_beyond(T, T - 90 * DAY_MS) == 1


GRACE = Grace(T, T + 3 * DAY_MS)
STANDING = Standing("on_contact", True, None, None, None, None, False)


def standing(**changed: object) -> Standing:
    values = {name: getattr(STANDING, name) for name in Standing.__slots__}
    return Standing(**{**values, **changed})


ENDED = {"last_end_ms": T, "last_start_ms": T - PERIOD_MS}
HEARD = {**ENDED, "last_heard_ms": T - DAY_MS}
WISHES = [
    # standing                                          now               contact  wish
    ({"start": "later"}, T, False, Wish.NOTHING),
    ({"start": "later"}, T, True, Wish.NOTHING),
    ({}, T, False, Wish.WAIT),
    ({}, T, True, Wish.CHARGE),
    ({"last_heard_ms": T - 1}, T, False, Wish.CHARGE),  # it waited for credits
    ({"auto_extend": False}, T, True, Wish.CHARGE),  # that is about later periods
    ({**HEARD, "auto_extend": False}, T, True, Wish.NOTHING),
    ({**HEARD, "start": "later"}, T, False, Wish.CHARGE),  # somebody activated it since
    (HEARD, T, False, Wish.CHARGE),
    (HEARD, T + SEAMLESS_MS, False, Wish.CHARGE),
    (HEARD, T + SEAMLESS_MS + 1, False, Wish.WAIT),
    (HEARD, T + SEAMLESS_MS + 1, True, Wish.CHARGE),
    ({**HEARD, "last_heard_ms": T + 1}, T + 9 * DAY_MS, False, Wish.CHARGE),
    (ENDED, T, False, Wish.WAIT),
    ({**ENDED, "last_heard_ms": T - PERIOD_MS - 1}, T, False, Wish.WAIT),
    ({**ENDED, "last_heard_ms": T - PERIOD_MS}, T, False, Wish.CHARGE),
    ({**ENDED, "extend_unheard": True}, T + 9 * DAY_MS, False, Wish.CHARGE),
    (ENDED, T + 9 * DAY_MS, True, Wish.CHARGE),
    ({**HEARD, "grace": GRACE}, T + 2 * DAY_MS, False, Wish.CHARGE),
    ({**HEARD, "grace": GRACE}, T + 3 * DAY_MS, False, Wish.WAIT),
    ({**HEARD, "grace": GRACE, "last_heard_ms": T + 1}, T + 3 * DAY_MS, False, Wish.CHARGE),
]


@pytest.mark.parametrize(("changed", "now", "contact", "expected"), WISHES)
def test_what_is_wanted(
    changed: dict[str, object], now: int, contact: bool, expected: Wish
) -> None:
    assert wish(standing(**changed), now, contact=contact) is expected


def test_a_heartbeat_never_waits() -> None:
    for start, auto, end, heard, grace, unheard in product(
        ("now", "on_contact", "later"),
        (True, False),
        (None, T),
        (None, T - DAY_MS),
        (None, GRACE),
        (True, False),
    ):
        one = Standing(start, auto, end, end and T - PERIOD_MS, heard, grace, unheard)
        assert wish(one, T + HOUR_MS, contact=True) is not Wish.WAIT


def test_every_refusal_has_a_status_and_every_state_a_pair() -> None:
    assert set(STATUS) == set(Code)
    assert {pair.state for pair in PAIRS} == set(State)
    assert {pair.reason for pair in PAIRS} == set(Reason)
    assert unpaid(Code.PARENT_LIMIT_REACHED) == LIMIT
    assert unpaid(Code.CREDITS_INSUFFICIENT) == NO_CREDIT
