"""Months that are over: their end in the ledger is marked, their heard days are rolled up.

Statements of the past are made of both, so that they stay as they are and are made fast.
"""

import json

from sqlalchemy import delete

from gateway.domain.instants import month_of
from gateway.domain.statements import after, instant_of, month_before, month_begin
from gateway.operations.clock_state import trust_of
from gateway.operations.month_marks import (
    NEVER,
    SETTLED_MS,
    Bound,
    bound_after,
    closed_months,
    keep_closed,
    keep_rolled_up,
    rolled_up_to,
)
from gateway.operations.statement_rows import HEARD_SUMS, heard_between
from gateway.storage.installation_facts import get, put
from gateway.storage.schema import monitored_month
from gateway.storage.transaction import Transaction

DEVICES_AT_ONCE = 200  # 6,000 days or so: heartbeats do not wait longer than some 20 ms
_ROLLING = "months_rolling_up"
_FIRST_AT = "SELECT min(created_at) FROM company"
_LAST_SEQ = "SELECT max(seq) FROM transfer"
_LAST_DEVICE = "SELECT max(id) FROM (SELECT id FROM device WHERE id > ? ORDER BY id LIMIT ?) AS d"
_MAKE = """
INSERT INTO monitored_month (company_id, month, device_id, days, paid_days, free_days)
SELECT m.company_id, {month}, m.device_id, {sums} {heard} GROUP BY m.company_id, m.device_id
"""


def close(tx: Transaction) -> int:
    """Marks the ends of months that are over; how many were marked."""
    if not trust_of(tx).sure or not tx.alone("months"):
        return 0
    marks = closed_months(tx)
    month = _next_of(max(marks)) if marks else _month_before_all(tx)
    done = 0
    while month is not None and _end_ms(month) + SETTLED_MS <= tx.now_ms:
        found = bound_after(tx, month, marks)
        ((last,),) = tx.fetch(_LAST_SEQ)
        next_seq = (last or 0) + 1
        # Nothing was booked in the next one so far: what comes from now on is.
        first, late = (next_seq if seq == NEVER else seq for seq in found[1:])
        marks[month] = Bound(found.at_ms, first, late)
        month = _next_of(month)
        done += 1
    if done:
        keep_closed(tx, marks)
    return done


def roll_up(tx: Transaction) -> int:
    """Rolls up the heard days of some devices in the oldest month left; 0 when none is left."""
    if trust_of(tx).doubt or not tx.alone("months"):
        return 0
    marks = closed_months(tx)
    before = rolled_up_to(tx)
    month = min((number for number in marks if number > before), default=None)
    if month is None:
        return 0
    begun, device_id = json.loads(get(tx, _ROLLING) or "[0, 0]")
    if begun != month:
        device_id = 0
        tx.run(delete(monitored_month).where(monitored_month.c.month == month))
    ((last,),) = tx.fetch(_LAST_DEVICE, (device_id, DEVICES_AT_ONCE))
    if last is None:
        keep_rolled_up(tx, month)
        return 1
    which = f"m.device_id > {device_id} AND m.device_id <= {last}"
    heard = heard_between(instant_of(month_begin(month)), _end_ms(month), which)
    tx.change(_MAKE.format(month=month, sums=HEARD_SUMS, heard=heard), ())
    put(tx, _ROLLING, json.dumps([month, last]))
    return 1


def _month_before_all(tx: Transaction) -> int | None:
    """The one before there was a company: nothing is of it, nor ever will be."""
    ((first,),) = tx.fetch(_FIRST_AT)
    return None if first is None else month_before(month_of(first))


def _next_of(month: int) -> int:
    begin = after(month_begin(month))
    return begin.year * 100 + begin.month


def _end_ms(month: int) -> int:
    return instant_of(after(month_begin(month)))
