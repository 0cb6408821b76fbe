"""Taking back: a transfer the other way round, of at most what is still there."""

from typing import NamedTuple

import msgspec
from sqlalchemy import func, select

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import Kind, Lot, spendable
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.announcing import tell
from gateway.operations.booking import Booking
from gateway.operations.clock_state import clock_refused, trust_of
from gateway.operations.credit_moves import DayCount, Note
from gateway.operations.credits import Shown, Transfer, ledger_rows
from gateway.operations.devices import one_standing
from gateway.operations.held import Held, book, held_of, save
from gateway.operations.prepaid import still_ahead
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import Call, not_found, operation
from gateway.storage.schema import account, device, transfer
from gateway.storage.transaction import AnyRow

REVERSIBLE = frozenset({Kind.GRANT, Kind.MOVE, Kind.COURTESY})


class Reverse(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which transfer, by its id; `days`: fewer than all that is still there."""

    transfer: str
    days: DayCount | None = None
    note: Note = ""


class _Back(NamedTuple):
    """What was booked: how many days, whose they were, and of which of its devices."""

    id: str
    days: int
    company_id: int
    serial: str = ""


@operation(
    "credits.reverse",
    "POST",
    "/credits/reversals",
    right=Right.MOVE_CREDITS,
    result=Transfer,
    status=201,
    errors=(Code.NOTHING_TO_REVERSE, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def reverse(call: Call, given: Reverse) -> Transfer:
    """Takes back a grant, a move or given days, at most what is still there of it."""
    tx = call.tx
    row = tx.one(ledger_rows().where(transfer.c.id == given.transfer))
    if row is None:
        raise call.missing(Right.MOVE_CREDITS, see=Right.SEE_CREDITS, what="transfer")
    _require(call, row)
    call.about(company_id=row.company_id)
    take = _from_device if row.kind == Kind.COURTESY else _from_pool
    back = take(call, row, given)
    if back.company_id not in call.principal.memberships:
        detail = {"days": back.days, "serial": back.serial, "note": given.note}
        tell(tx, back.company_id, Notice.CREDITS_TAKEN_BACK, row.id, detail, back.id)
    if row.from_company is not None:
        queue_recheck(tx, row.from_company)
    made = tx.one(ledger_rows().where(transfer.c.id == back.id))
    assert made is not None
    return Shown(call).transfer(made)


def _require(call: Call, row: AnyRow) -> None:
    """Who may reverse is who may do: of a grant an operator, of all else whoever may take there.

    It takes from where the days went, so nobody takes from a company above what was once given up.
    """
    sees = call.allows(Right.SEE_CREDITS, row.company_id)
    operates = row.kind == Kind.GRANT and call.allows(Right.OPERATE)
    if not sees and not operates:
        raise not_found("transfer")
    if row.kind not in REVERSIBLE:
        raise Refused(
            Code.NOTHING_TO_REVERSE,
            f"A transfer of the kind `{row.kind}` cannot be taken back; grants, moves and given "
            "days can.",
            field="transfer",
        )
    if row.kind == Kind.GRANT:
        if not operates:
            raise Refused(Code.FORBIDDEN, "A grant is taken back by an operator.")
        return
    ends = [row.from_company] if row.kind == Kind.COURTESY else [row.from_company, row.to_company]
    if not all(call.allows(Right.MOVE_CREDITS, end) for end in ends):
        raise Refused(
            Code.FORBIDDEN,
            "It is taken back by people who may move credits where they came from and where they "
            "went.",
        )
    call.require_open(row.from_company)


def _from_pool(call: Call, row: AnyRow, given: Reverse) -> _Back:
    """Out of the lot that the days went to."""
    tx = call.tx
    back = _taken_back(call, row.id)
    accounts = (row.to_account,) if row.kind == Kind.GRANT else (row.from_account, row.to_account)
    call.treasury.prepare((), accounts=accounts)
    # Whoever had the lock before may have taken it back.
    left = row.days - max(back, _taken_back(call, row.id))
    held = tx.one(select(account).where(account.c.id == row.to_account))
    assert held is not None
    lot = Lot(held.id, held.expires_day, held.free, held.redeemed, held.balance)
    days = _days_of(row, given, left, spendable((lot,), tx.today))
    path = call.treasury.path(row.company_id)
    booking = Booking(tx, call.principal.name, "operator", row.company_id, path, note=given.note)
    return _Back(_post(booking, row, days), days, row.to_company)


def _from_device(call: Call, row: AnyRow, given: Reverse) -> _Back:
    """Out of the running period, which gets shorter: only what of this gift is not used."""
    tx = call.tx
    if doubt := trust_of(tx).doubt:
        raise clock_refused(doubt)
    tx.lock_devices(select(device.c.id).where(device.c.id == row.device_id))
    held = held_of(one_standing(call, row.device_id))
    _require_below(call, held, row)
    period, ahead = held.period, 0
    if period is not None:
        # A begun day is used, the first one too: a period without a day is none.
        free = min(period.days_left(tx.now_ms), period.days - 1)
        used = period.days - period.days_left(tx.now_ms)
        ahead = min(free, still_ahead(tx, held.id, held.period_seq or 0, row.id, used))
    days = _days_of(row, given, row.days - _taken_back(call, row.id), ahead)
    assert held.period_end is not None
    call.treasury.prepare((), (held.id,), accounts=(row.from_account,))
    booking = book(
        tx, call.treasury, held, actor=call.principal.name, cause="operator", note=given.note
    )
    id_ = _post(booking, row, days)
    held.period_end -= days * DAY_MS
    save(tx, held)
    return _Back(id_, days, held.company_id, held.serial)


def _require_below(call: Call, held: Held, row: AnyRow) -> None:
    """Days that went with the device to somebody else are somebody else's."""
    path = call.treasury.path(held.company_id)
    if row.from_company not in path:
        raise Refused(
            Code.NOTHING_TO_REVERSE,
            "The device belongs to a company that is not below the one that gave any more.",
            field="transfer",
        )


def _post(booking: Booking, row: AnyRow, days: int) -> str:
    return booking.post(
        Kind.REVERSE,
        row.to_account,
        row.from_account,
        days,
        free=row.free,
        payer_id=row.payer_company_id,
        reverses=row.id,
    )


def _days_of(row: AnyRow, given: Reverse, left: int, there: int) -> int:
    """How many days are taken back. Raises `Refused`."""
    there = min(left, there)
    days = there if given.days is None else given.days
    if not 0 < days <= there:
        raise Refused(
            Code.NOTHING_TO_REVERSE,
            f"Of its {row.days} days {row.days - left} were taken back, and {there} are there "
            "that can be.",
            field="days",
        )
    return days


def _taken_back(call: Call, id_: str) -> int:
    statement = select(func.coalesce(func.sum(transfer.c.days), 0))
    return int(call.tx.scalar(statement.where(transfer.c.reverses == id_)) or 0)
