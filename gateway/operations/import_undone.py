"""Undoing an import: devices that were never heard are taken out again, as if not registered."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import delete, select, update

from gateway.domain.ledger import prepaid_name
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.service import NOT_ACTIVATED
from gateway.operations.audit_writing import record
from gateway.operations.forgetting import forget_tenure
from gateway.operations.held import Held, book, save_all
from gateway.operations.import_lines import parts
from gateway.operations.import_writing import held_by_id
from gateway.operations.importing import OneImport, find_import
from gateway.operations.prepaid import Paid, give_back, paid_of_many
from gateway.operations.registration_end import book_end, leave_service, take_login, tell_payer
from gateway.operations.registry import Call, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.storage.schema import account, device, device_import, join_code, session
from gateway.storage.transaction import AnyRow
from wire.endings import Ended

CAUSE = "import_undone"


class Kept(msgspec.Struct):
    """A device of the import that stays: it was `heard`, or is `elsewhere` by now."""

    serial: str
    because: Literal["heard", "elsewhere"]


class ImportUndone(msgspec.Struct):
    """How many devices were taken out, the days that went back, and who stays."""

    import_id: str
    undone: int
    days_returned: int
    kept: list[Kept]


@operation(
    "imports.undo",
    "POST",
    "/devices/imports/{import_id}/undo",
    right=Right.UNREGISTER,
    result=ImportUndone,
    errors=(Code.TOO_LATE,),
    moves_credits=True,
    irrevocable=True,
)
def undo_import(call: Call, given: OneImport) -> ImportUndone:
    """Takes out the devices of an import that were never heard; their credits go back."""
    tx = call.tx
    row = find_import(call, given.import_id, Right.UNREGISTER)
    of_import = device.c.import_id == row.id
    tx.lock_devices(select(device.c.id).where(of_import))
    found = tx.all(
        select(device)
        # Whatever was unregistered and registered again since is not the import's doing.
        .where(of_import, device.c.registered, device.c.registered_at == row.done_at)
        .order_by(device.c.serial)
    )
    ending, kept = _sorted_out(call, found)
    if not ending:
        raise Refused(
            Code.TOO_LATE,
            "No device of this import is left that was never heard; unregister what is not wanted.",
        )
    returned = _take_out(call, ending)
    # Asked again, it says that there is nothing left.
    tx.run(
        update(device_import)
        .where(device_import.c.id == row.id)
        .values(state="undone", undone_at=tx.now_ms)
    )
    undone = ImportUndone(str(row.id), len(ending), returned, kept)
    record(
        tx,
        "devices.import_undone",
        actor=call.principal.name,
        owner_id=None,
        company_id=row.company_id,
        device_id=None,
        serial=None,
        subject=str(row.id),
        detail={"undone": len(ending), "days_returned": returned, "kept": len(kept)},
    )
    return undone


def _sorted_out(call: Call, found: Sequence[AnyRow]) -> tuple[list[AnyRow], list[Kept]]:
    ending: list[AnyRow] = []
    kept: list[Kept] = []
    for row in found:
        if row.first_heard_at is not None:
            kept.append(Kept(row.serial, "heard"))
        elif not call.allows(Right.UNREGISTER, row.company_id):
            kept.append(Kept(row.serial, "elsewhere"))
        else:
            ending.append(row)
    return ending, kept


def _take_out(call: Call, ending: Sequence[AnyRow]) -> int:
    """Ends all these registrations; how many days went back to who had paid."""
    _end_sessions(call, ending)
    returned = _give_back(call, [row for row in ending if row.period_start is not None])
    joined = [row for row in ending if row.joined_at is not None]
    _forget(call, [row for row in ending if row.joined_at is None])
    for row in joined:
        take_login(call, row)
        # One that was woken sleeps again, and can be woken again.
        if row.joined_at >= row.registered_at:
            forget_tenure(call, row)
    return returned


def _give_back(call: Call, rows: Sequence[AnyRow]) -> int:
    """Books the end of these periods, none of which was of use; how many days went back."""
    tx, treasury = call.tx, call.treasury
    lots: dict[int, list[Paid]] = {}
    for part in parts(rows):
        names = [prepaid_name(row.id) for row in part]
        accounts = [row.id for row in tx.all(select(account.c.id).where(account.c.name.in_(names)))]
        lots |= paid_of_many(tx, [row.id for row in part], accounts)
    back_to = {lot.account_id for some in lots.values() for lot in some}
    treasury.prepare((), {row.id for row in rows}, back_to)
    treasury.gather()
    held = held_by_id(tx, [row.id for row in rows])
    returned = 0
    ended: list[Held] = []
    for row in rows:
        one = held[row.id]
        if row.period_end <= tx.now_ms:
            # It ran out, and no job has come by yet.
            returned += book_end(call, row, cause=CAUSE).days_returned
            continue
        booking = book(tx, treasury, one, actor=call.principal.name, cause=CAUSE)
        days = give_back(booking, treasury.prepaid(one.id), lots[one.id])
        tell_payer(call, one, 0, days)
        leave_service(one)
        ended.append(one)
        returned += days
    save_all(tx, ended)
    treasury.write()
    return returned


def _end_sessions(call: Call, ending: Sequence[AnyRow]) -> None:
    for part in parts([row.id for row in ending]):
        open_ones = (
            select(session.c.device_id)
            .where(session.c.device_id.in_(part), session.c.ended_at.is_(None))
            .order_by(session.c.device_id)
            .distinct()
        )
        for row in call.tx.all(open_ones):
            end_sessions_of(call.tx, row.device_id, Ended.UNREGISTERED, call.principal.name)


def _forget(call: Call, ending: Sequence[AnyRow]) -> None:
    """Devices that never joined have no credential: one statement for many of them."""
    for part in parts(ending):
        call.tx.run(delete(join_code).where(join_code.c.serial.in_([row.serial for row in part])))
        call.tx.run(
            update(device)
            .where(device.c.id.in_([row.id for row in part]))
            .values(
                registered=False,
                dormant_at=call.tx.now_ms,
                ended_at=call.tx.now_ms,
                grace_from=None,
                grace_until=None,
                state=NOT_ACTIVATED.state.value,
                reason=NOT_ACTIVATED.reason.value,
            )
        )
