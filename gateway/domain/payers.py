"""Who pays: the climb from a device's company to the first that can pay the whole charge."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.ledger import Draw, Lot, spend
from gateway.domain.refusals import Code

LIMIT_STEPS = (100, 80)  # per cent of a monthly limit, of which people above are told


@dataclass(frozen=True, slots=True)
class Purse:
    """One company on the way up, as it stands in the paying transaction."""

    company_id: int
    lots: Sequence[Lot]
    use_parent_credits: bool
    suspended: bool
    limit_days_left: int | None  # what it and all below may still take from above this month


@dataclass(frozen=True, slots=True)
class Payment:
    """Who pays, the companies asked on the way, and from which lots."""

    payer_id: int
    path: tuple[int, ...]
    draws: tuple[Draw, ...]
    limits_used: tuple[int, ...]  # companies whose monthly limit this counts against


def find_payer(purses: Sequence[Purse], days: int, today: int) -> Payment | Code:
    """The payment of `days`, or why nobody pays.

    `purses` begins with the device's company and goes up to the root. A charge is paid whole by
    one company; the climb stops at the first without the flag, at a suspended one, at a root.
    """
    path: list[int] = []
    for purse in purses:
        path.append(purse.company_id)
        if purse.suspended:
            return Code.COMPANY_SUSPENDED if len(path) == 1 else Code.CREDITS_INSUFFICIENT
        draws = spend(purse.lots, days, today)
        if draws is not None:
            return Payment(purse.company_id, tuple(path), draws, tuple(path[:-1]))
        if not purse.use_parent_credits:
            return Code.CREDITS_INSUFFICIENT
        if purse.limit_days_left is not None and purse.limit_days_left < days:
            return Code.PARENT_LIMIT_REACHED
    return Code.CREDITS_INSUFFICIENT


def limit_step(limit_days: int, before: int, after: int) -> int | None:
    """The highest step that a charge reached: days taken before it and after; None if none."""
    for percent in LIMIT_STEPS:
        if before * 100 < limit_days * percent <= after * 100:
            return percent
    return None
