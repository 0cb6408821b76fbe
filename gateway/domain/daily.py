"""The plan `daily`: a day is taken on each UTC day on which the device was heard."""

from dataclasses import dataclass

from gateway.domain.instants import DAY_MS
from gateway.domain.periods import Grace

TRIAL_DAYS_MAX = 365


@dataclass(frozen=True, slots=True)
class DailyStanding:
    """What decides about a device without a running period under this plan."""

    start: str  # how it was registered: now, on_contact, later
    auto_extend: bool
    had_period: bool  # in this registration, as the next three
    heard: bool
    paid_before: bool  # a day or a period
    owed: tuple[int, ...]  # days served in grace, to be paid with the next
    grace: Grace | None


def is_wanted(standing: DailyStanding) -> bool:
    """Whether somebody wants service: days are taken by themselves, so auto extend decides too."""
    return standing.auto_extend and (standing.start != "later" or standing.had_period)


def days_due(owed: tuple[int, ...], today: int) -> tuple[int, ...]:
    """The days that are to be paid with a first sample of today, in order."""
    return tuple(sorted({*owed, today}))


def grace_of_days(standing: DailyStanding, today: int, grace_days: int) -> Grace | None:
    """The grace in which a device is served that nobody can pay for; None when there is none.

    There is none before the first day that was paid. It begins with the first day that nobody
    could pay, and goes by the calendar, whatever stops service meanwhile.
    """
    if standing.owed:
        first = standing.owed[0]
    elif standing.grace is not None:
        return standing.grace  # of the period that ended before the plan was changed
    elif standing.paid_before:
        first = today
    else:
        return None
    return Grace(first * DAY_MS, (first + grace_days) * DAY_MS)


def owed_text(days: tuple[int, ...]) -> str:
    """How a device's row keeps the days that are owed."""
    return ",".join(map(str, days))


def owed_of(text: str) -> tuple[int, ...]:
    """The reverse of `owed_text`."""
    return tuple(int(part) for part in text.split(",") if part)
