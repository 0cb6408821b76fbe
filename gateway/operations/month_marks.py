"""Where months end in the ledger: what is booked later for an earlier month counts in the next.

Once a month is over its end is marked, so that a clock that went back changes no statement that
was given out.
"""

import json
from typing import NamedTuple

from gateway.domain.instants import MINUTE_MS
from gateway.domain.statements import after, instant_of, month_begin
from gateway.storage.installation_facts import get, put
from gateway.storage.transaction import Transaction

SETTLED_MS = MINUTE_MS  # transactions that began in the month are done by then
NEVER = 2**62
_CLOSED = "months_closed"
_ROLLED = "months_rolled_up"
_FROM = "SELECT seq FROM transfer WHERE at >= ? AND seq >= ? ORDER BY seq LIMIT 1"


class Bound(NamedTuple):
    """An instant between two months, as the ledger sees it."""

    at_ms: int
    first_seq: int  # no transfer before this one is of a later month
    late_seq: int  # all from this one on count as later, whatever their instant


def closed_months(tx: Transaction) -> dict[int, Bound]:
    """The marks, by the month that ended."""
    kept = json.loads(get(tx, _CLOSED) or "{}")
    return {int(month): Bound(*mark) for month, mark in kept.items()}


def keep_closed(tx: Transaction, marks: dict[int, Bound]) -> None:
    """Keeps the marks."""
    put(tx, _CLOSED, json.dumps(marks))


def rolled_up_to(tx: Transaction) -> int:
    """The last month whose heard days are rolled up; 0 before the first."""
    return int(get(tx, _ROLLED) or 0)


def keep_rolled_up(tx: Transaction, month: int) -> None:
    """This month and all before it are rolled up."""
    put(tx, _ROLLED, str(month))


def bound_after(tx: Transaction, month: int, marks: dict[int, Bound]) -> Bound:
    """Where this month ends."""
    if month in marks:
        return marks[month]
    at_ms = instant_of(after(month_begin(month)))
    if marks and month < (oldest := min(marks)):
        # The oldest mark is of the month before the installation began.
        return marks[oldest]._replace(at_ms=at_ms)
    if at_ms > tx.now_ms:
        return Bound(at_ms, 0, NEVER)
    low = max((mark.first_seq for before, mark in marks.items() if before < month), default=0)
    first = _first(tx, at_ms, low)
    late = NEVER if first == NEVER else _first(tx, at_ms + SETTLED_MS, first)
    return Bound(at_ms, first, late)


def _first(tx: Transaction, at_ms: int, low: int) -> int:
    found = tx.fetch(_FROM, (at_ms, low))
    return int(found[0][0]) if found else NEVER
