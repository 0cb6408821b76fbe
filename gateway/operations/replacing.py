"""A broken router's place is taken by another; undone within a day, everything is back."""

import json
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from gateway.domain.refusals import Code, Refused
from gateway.domain.registering import Outcome
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.carrying import (
    end_commands,
    end_tenure,
    forget_credential,
    hand_over,
    is_over,
    kept_credential,
    lots_of,
)
from gateway.operations.devices import Device, find, show
from gateway.operations.logins import set_login
from gateway.operations.queueing import queue_recheck
from gateway.operations.registering import (
    begin_tenure,
    newest,
    outcome_for,
    serial_unavailable,
)
from gateway.operations.registration_end import book_end
from gateway.operations.registry import Call, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.session_locks import lock_sessions_of
from gateway.storage.schema import device, device_live, replacement, target
from gateway.storage.transaction import AnyRow
from wire.endings import Ended
from wire.serials import is_serial

# What a device is called and known by; the one in its place is called so, too.
NAMES = "alias alias_key name tags notes reference".split()


class ReplaceDevice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which router is broken, and the `serial` of the one that takes its place."""

    broken: str
    serial: str


@operation(
    "devices.replace",
    "POST",
    "/devices/{broken}/replace",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.CANNOT_REPLACE, Code.SERIAL_UNAVAILABLE),
    moves_credits=True,
)
def replace_device(call: Call, given: ReplaceDevice) -> Device:
    """Puts a new router in the place of a broken one, with its name, days and history."""
    if not is_serial(given.serial):
        raise Refused(Code.VALIDATION, "serial: 6 to 32 of A-Z, a-z, 0-9, _ and -", field="serial")
    if given.serial == given.broken:
        raise Refused(Code.VALIDATION, "serial: this is the broken router itself", field="serial")
    lock_both(call, given.broken, given.serial)
    row = find(call, given.broken, Right.MANAGE_DEVICES)
    former = newest(call, given.serial)
    _require_free(call, row, former)
    lock_sessions_of(call.tx, [row.id] if former is None else [row.id, former.id])
    end_sessions_of(call.tx, row.id, Ended.UNREGISTERED, call.principal.name)
    kept = _kept(call, row, former)
    new_id = _take_place(call, row, former, given.serial)
    call.tx.run(
        insert(replacement),
        {
            "old_device_id": row.id,
            "new_device_id": new_id,
            "company_id": row.company_id,
            "actor": call.principal.name,
            "at": call.tx.now_ms,
            "kept": json.dumps(kept),
        },
    )
    record_replacement(call, "device.replaced", row.company_id, new_id, given.broken, given.serial)
    forget_credential(call, row.id, row.serial)
    set_login(call.tx, row.serial, None)
    if former is not None and former.registered:
        set_login(call.tx, former.serial, None)
    return show(call, given.serial)


def _kept(call: Call, row: AnyRow, former: AnyRow | None) -> dict[str, Any]:
    """What undoing needs: the credential, and what the new serial was before."""
    kept: dict[str, Any] = {"credential": kept_credential(call, row.id)}
    # A registration elsewhere that had lapsed is over for good: its credits go back.
    if former is not None and (not former.registered or former.company_id == row.company_id):
        kept |= {"former_id": former.id, "registered": former.registered}
    return kept


def record_replacement(
    call: Call, verb: str, company_id: int, device_id: int, broken: str, serial: str
) -> None:
    """People see who did it, under both serials."""
    for subject in (broken, serial):
        record(
            call.tx,
            verb,
            actor=call.principal.name,
            owner_id=None,
            company_id=company_id,
            device_id=device_id,
            serial=subject,
            subject=subject,
            detail={"broken": broken, "serial": serial},
        )


def lock_both(call: Call, *serials: str) -> None:
    """Locks the tenures of several serials at once: in the order in which everybody does."""
    call.tx.lock_devices(
        select(device.c.id).where(device.c.serial.in_(serials), device.c.ended_at.is_(None))
    )


def _require_free(call: Call, row: AnyRow, former: AnyRow | None) -> None:
    """Whether the new serial can take the place. Raises `Refused`."""
    if former is None or not former.registered:
        return
    if former.company_id == row.company_id:
        why = None
        if former.joined_at is not None:
            why = "it has joined already and is a device of its own; unregister it first"
        elif former.period_end is not None:
            why = "it has days of its own; unregister it first, and they are given back"
        if why is not None:
            raise Refused(Code.CANNOT_REPLACE, f"serial: {why}", field="serial")
    elif outcome_for(call, former, row.company_id) is Outcome.UNAVAILABLE:
        raise serial_unavailable()


def _take_place(call: Call, row: AnyRow, former: AnyRow | None, serial: str) -> int:
    """The new router's tenure, with all that the broken one's had."""
    tx = call.tx
    lapsed = former is not None and former.registered and former.company_id != row.company_id
    gone = [] if former is None or not lapsed else [former]
    if former is not None:
        tx.run(
            update(device)
            .where(device.c.id == former.id)
            .values(ended_at=tx.now_ms, registered=False)
        )
    end_tenure(call, row.id)
    end_commands(call, row.id, "replaced")
    values = {name: getattr(row, name) for name in NAMES} | {"auto_extend": row.auto_extend}
    values["mac"] = former.mac if former is not None and former.registered else None
    new_id = begin_tenure(call, None, serial, row.company_id, row.start, values)
    # A day on which the broken router was heard is not counted again.
    live = {"node": row.node, "last_day": row.last_day}
    tx.run(update(device_live).where(device_live.c.device_id == new_id).values(**live))
    tx.run(update(target).where(target.c.device_id == row.id).values(device_id=new_id))
    call.treasury.prepare(
        (row.company_id,) if is_over(row, tx.now_ms) else (),
        {row.id, new_id, *(one.id for one in gone)},
        [lot.account_id for one in gone for lot in lots_of(call, one)],
    )
    for one in gone:
        book_end(call, one, cause="registration_lapsed")
    hand_over(call, row, new_id, cause="replaced", more={})
    queue_recheck(tx, row.company_id)
    return new_id
