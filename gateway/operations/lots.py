"""Takes days out of a company's own lots, each day with its lot: who gets them keeps its expiry."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple

from gateway.domain.ledger import Draw, Lot, credits_text, spend, spendable
from gateway.domain.refusals import Code, Refused
from gateway.operations.booking import pool_account
from gateway.operations.registry import Call
from gateway.storage.locks import Raced


class Taken(NamedTuple):
    """Days of one lot, and the accounts that they pass, the last of which keeps them."""

    draw: Draw
    ends: tuple[int, ...]


def take(
    call: Call,
    company_id: int,
    days: int,
    ends_of: Callable[[Lot], tuple[int, ...]],
    *,
    without_redeemed: bool = False,
    accounts: Iterable[int] = (),
) -> list[Taken]:
    """Which lots give the days, in the order of spending, with everything locked.

    `ends_of` names or makes the accounts that days of a lot pass; `accounts` are locked as well,
    since a transaction locks accounts once. Raises `Refused` when the lots do not hold the days.
    """
    today = call.tx.today
    # Whoever makes accounts at the same time makes them in the same order.
    found = sorted(call.treasury.lots(company_id), key=_by_name)
    ends = {
        lot.account_id: ends_of(lot)
        for lot in found
        if lot.expires_day is None or lot.expires_day >= today
    }
    wanted = {*chain.from_iterable(ends.values()), *accounts}
    call.treasury.prepare((), pools=(company_id,), accounts=wanted)
    lots = [
        lot for lot in call.treasury.lots(company_id) if not (without_redeemed and lot.redeemed)
    ]
    draws = spend(lots, days, today)
    if draws is None:
        raise not_enough(days, spendable(lots, today))
    if any(draw.account_id not in ends for draw in draws):
        raise Raced("a lot came while the lots were locked")
    return [Taken(draw, ends[draw.account_id]) for draw in draws]


def _by_name(lot: Lot) -> tuple[bool, int, bool, bool]:
    return lot.expires_day is None, lot.expires_day or 0, lot.free, lot.redeemed


def not_enough(wanted: int, held: int) -> Refused:
    """A company's own lots do not hold what is asked for."""
    return Refused(
        Code.CREDITS_INSUFFICIENT,
        f"There are {credits_text(held)} that can be taken here, and {credits_text(wanted)} are "
        "asked for.",
        field="days",
    )


def pool_for(call: Call, company_id: int, lot: Lot, *, redeemed: bool = False) -> int:
    """The pool of a company that is to hold days of a lot, made when it is the first."""
    return pool_account(call.tx, company_id, lot.expires_day, free=lot.free, redeemed=redeemed)
