"""Forgetting a device: its registration and its credential end at once, for good."""

from sqlalchemy import update

from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.carrying import forget_credential
from gateway.operations.devices import OneDevice
from gateway.operations.registering import newest
from gateway.operations.registration_end import Unregistered, end_registration
from gateway.operations.registry import Call, operation
from gateway.storage.schema import device
from gateway.storage.transaction import AnyRow
from wire.serials import is_serial


@operation(
    "devices.forget",
    "POST",
    "/devices/{serial}/forget",
    right=Right.MOVE_DEVICES,
    result=Unregistered,
    moves_credits=True,
    irrevocable=True,
)
def forget_device(call: Call, given: OneDevice) -> Unregistered:
    """Unregisters a device if it is registered, and deletes its credential: nothing wakes it."""
    row = newest(call, given.serial) if is_serial(given.serial) else None
    if row is None:
        raise call.missing(Right.MOVE_DEVICES, see=Right.SEE_DEVICES, what="device", looks=0)
    call.require(Right.MOVE_DEVICES, row.company_id, see=Right.SEE_DEVICES, what="device")
    ended = Unregistered(row.serial, 0, 0, 0)
    if row.registered:
        ended = end_registration(call, row, cause="unregistered")
    forget_tenure(call, row)
    record(
        call.tx,
        "device.forgotten",
        actor=call.principal.name,
        owner_id=None,
        company_id=row.company_id,
        device_id=row.id,
        serial=row.serial,
        subject=row.serial,
        detail={"was_registered": row.registered},
    )
    return ended


def forget_tenure(call: Call, row: AnyRow) -> None:
    """A dormant tenure is over: its credential is gone, and the serial is nobody's."""
    forget_credential(call, row.id, row.serial)
    call.tx.run(update(device).where(device.c.id == row.id).values(ended_at=call.tx.now_ms))
