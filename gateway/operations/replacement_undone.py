"""Undoing a replacement within a day: the first router is back with its credential and days."""

import json

from sqlalchemy import or_, select, update

from gateway.domain.refusals import Code, Refused
from gateway.domain.registering import UNDONE_WITHIN_MS
from gateway.domain.rights import Right
from gateway.operations.carrying import (
    end_commands,
    end_tenure,
    forget_credential,
    hand_over,
    is_over,
    restore_credential,
)
from gateway.operations.devices import Device, OneDevice, find, rows, show
from gateway.operations.logins import set_login
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import Call, not_found, operation
from gateway.operations.replacing import NAMES, record_replacement
from gateway.operations.session_ends import end_sessions_of
from gateway.storage.schema import device, device_live, replacement, target
from gateway.storage.search_rows import note_names
from gateway.storage.transaction import AnyRow
from wire.endings import Ended

_OLD, _NEW = device.alias("old"), device.alias("new")


@operation(
    "devices.undo-replace",
    "POST",
    "/devices/{serial}/undo-replace",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.CANNOT_REPLACE, Code.TOO_LATE, Code.SERIAL_UNAVAILABLE),
    moves_credits=True,
)
def undo_replacement(call: Call, given: OneDevice) -> Device:
    """Undoes a replacement of the last 24 h, named by either serial; days used stay used."""
    done = _newest_of(call, given.serial)
    if done is None:
        find(call, given.serial, Right.MANAGE_DEVICES)
        raise Refused(Code.CANNOT_REPLACE, "It took no other's place, or that was undone already.")
    call.require(Right.MANAGE_DEVICES, done.company, see=Right.SEE_DEVICES, what="device")
    if call.tx.now_ms - done.at > UNDONE_WITHIN_MS:
        raise Refused(
            Code.TOO_LATE, "A replacement can be undone for 24 hours; replace the device again."
        )
    call.tx.lock_devices(
        select(device.c.id).where(
            or_(
                device.c.id.in_((done.old_device_id, done.new_device_id)),
                (device.c.serial == done.broken) & device.c.ended_at.is_(None),
            )
        )
    )
    if _newest_of(call, given.serial) != done:
        raise not_found("device")  # somebody was quicker
    row = call.tx.one(rows().where(device.c.id == done.new_device_id))
    if row is None:
        raise Refused(
            Code.CANNOT_REPLACE,
            f"{done.serial} was unregistered, sold or replaced since; undo that first.",
        )
    _require_free(call, done.broken)
    end_sessions_of(call.tx, row.id, Ended.UNREGISTERED, call.principal.name)
    _go_back(call, done, row)
    return show(call, done.broken)


def _newest_of(call: Call, serial: str) -> AnyRow | None:
    return call.tx.one(
        select(
            replacement,
            _OLD.c.serial.label("broken"),
            _NEW.c.serial.label("serial"),
            _NEW.c.company_id.label("company"),
        )
        .join(_OLD, _OLD.c.id == replacement.c.old_device_id)
        .join(_NEW, _NEW.c.id == replacement.c.new_device_id)
        .where(
            replacement.c.undone_at.is_(None), or_(_OLD.c.serial == serial, _NEW.c.serial == serial)
        )
        .order_by(replacement.c.id.desc())
        .limit(1)
    )


def _require_free(call: Call, serial: str) -> None:
    """Nobody has registered the broken router since; one that sleeps again elsewhere has ended."""
    there = device.c.serial == serial, device.c.ended_at.is_(None)
    if call.tx.one(select(device.c.id).where(*there, device.c.registered)) is not None:
        raise Refused(
            Code.SERIAL_UNAVAILABLE,
            "The broken router's serial was registered since; unregister it first.",
        )
    call.tx.run(update(device).where(*there).values(ended_at=call.tx.now_ms))


def _go_back(call: Call, done: AnyRow, row: AnyRow) -> None:
    tx, kept = call.tx, json.loads(done.kept)
    end_tenure(call, row.id)
    end_commands(call, row.id, "replacement_undone")
    names = {name: getattr(row, name) for name in NAMES}
    tx.run(
        update(device)
        .where(device.c.id == done.old_device_id)
        .values(registered=True, ended_at=None, company_id=row.company_id, **names)
    )
    note_names(tx, [done.old_device_id])
    if "former_id" in kept:
        _bring_former(call, kept["former_id"], registered=kept["registered"])
    days = device_live.c.last_day < row.last_day
    mine = device_live.c.device_id == done.old_device_id
    tx.run(update(device_live).where(mine, days).values(last_day=row.last_day))
    tx.run(update(device_live).where(mine).values(need_full=True))
    tx.run(update(target).where(target.c.device_id == row.id).values(device_id=done.old_device_id))
    tx.run(
        update(replacement)
        .where(replacement.c.id == done.id)
        .values(undone_at=tx.now_ms, kept="{}")
    )
    call.treasury.prepare(
        (row.company_id,) if is_over(row, tx.now_ms) else (), (row.id, done.old_device_id)
    )
    hand_over(call, row, done.old_device_id, cause="replacement_undone", more={}, again=True)
    queue_recheck(tx, row.company_id)
    record_replacement(
        call,
        "device.replacement_undone",
        row.company_id,
        done.old_device_id,
        done.broken,
        done.serial,
    )
    forget_credential(call, row.id, row.serial)
    set_login(tx, row.serial, None)
    restore_credential(call, done.broken, kept["credential"])


def _bring_former(call: Call, device_id: int, *, registered: bool) -> None:
    """What the new serial was before; without its alias, where another device has that by now."""
    tx, mine = call.tx, device.c.id == device_id
    if registered:
        other = device.alias()
        taken = select(other.c.id).where(
            other.c.registered,
            other.c.company_id == device.c.company_id,
            other.c.alias_key == device.c.alias_key,
        )
        tx.run(update(device).where(mine, taken.exists()).values(alias=None, alias_key=None))
    tx.run(update(device).where(mine).values(ended_at=None, registered=registered))
    note_names(tx, [device_id])
