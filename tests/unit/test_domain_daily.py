"""The plan `daily` in plain values: what is wanted, what is due, and how long grace lasts."""

from dataclasses import replace

import pytest

from gateway.domain.daily import (
    DailyStanding,
    days_due,
    grace_of_days,
    is_wanted,
    owed_of,
    owed_text,
)
from gateway.domain.instants import DAY_MS
from gateway.domain.payers import limit_step
from gateway.domain.periods import Grace

TODAY = 20_605
PAID = DailyStanding("on_contact", True, False, True, True, (), None)


@pytest.mark.parametrize(
    ("start", "auto_extend", "had_period", "wanted"),
    [
        ("on_contact", True, False, True),
        ("now", True, False, True),
        ("on_contact", False, False, False),
        ("later", True, False, False),
        ("later", True, True, True),  # somebody activated it
        ("later", False, True, False),
    ],
)
def test_who_wants_service(start: str, auto_extend: bool, had_period: bool, wanted: bool) -> None:
    standing = replace(PAID, start=start, auto_extend=auto_extend, had_period=had_period)
    assert is_wanted(standing) is wanted


@pytest.mark.parametrize(
    ("owed", "due"),
    [
        ((), (TODAY,)),
        ((TODAY,), (TODAY,)),
        ((TODAY - 2, TODAY - 1), (TODAY - 2, TODAY - 1, TODAY)),
        ((TODAY + 3,), (TODAY, TODAY + 3)),  # the clock was set back
    ],
)
def test_what_the_first_sample_of_a_day_costs(owed: tuple[int, ...], due: tuple[int, ...]) -> None:
    assert days_due(owed, TODAY) == due


def test_owed_days_are_kept_as_text() -> None:
    assert owed_of("") == () and owed_text(()) == ""
    assert owed_of(owed_text((TODAY, TODAY + 1))) == (TODAY, TODAY + 1)


def test_grace_begins_with_the_first_day_that_nobody_could_pay() -> None:
    whole = Grace(TODAY * DAY_MS, (TODAY + 3) * DAY_MS)
    assert grace_of_days(PAID, TODAY, 3) == whole
    for later in (TODAY + 1, TODAY + 9):
        assert grace_of_days(replace(PAID, owed=(TODAY,)), later, 3) == whole
    # What was stopped in between, or was of a period before, does not lengthen it.
    stopped = Grace(whole.from_ms, whole.from_ms + 1)
    assert grace_of_days(replace(PAID, owed=(TODAY,), grace=stopped), TODAY + 1, 3) == whole
    assert grace_of_days(replace(PAID, grace=stopped), TODAY + 1, 3) == stopped


def test_there_is_no_grace_before_a_paid_day() -> None:
    assert grace_of_days(replace(PAID, paid_before=False), TODAY, 3) is None
    nothing = grace_of_days(PAID, TODAY, 0)
    assert nothing is not None and nothing.until_ms == nothing.from_ms


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (0, 119, None),
        (0, 120, 80),
        (119, 120, 80),
        (120, 149, None),
        (149, 150, 100),
        (0, 150, 100),
        (150, 180, None),  # the limit was lowered since
    ],
)
def test_the_steps_of_a_limit(before: int, after: int, percent: int | None) -> None:
    assert limit_step(150, before, after) == percent
