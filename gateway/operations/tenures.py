"""Whose history a serial's is: of its present tenure, or of a former one that the caller held."""

from collections.abc import Sequence

from sqlalchemy import bindparam, or_, select

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.devices import find
from gateway.operations.registry import Call
from gateway.storage.schema import device, replacement
from gateway.storage.transaction import Transaction
from wire.serials import is_serial

_FORMER = (
    select(device.c.id, device.c.company_id)
    .where(device.c.serial == bindparam("wanted"), device.c.ended_at.is_not(None))
    .order_by(device.c.ended_at.desc(), device.c.id.desc())
)
# A replacement that was undone left the samples of some hours with the router that went again.
_BESIDE = select(replacement).where(
    or_(
        (replacement.c.new_device_id == bindparam("of")) & replacement.c.undone_at.is_(None),
        (replacement.c.old_device_id == bindparam("of")) & replacement.c.undone_at.is_not(None),
    )
)


def history_of(call: Call, serial: str, right: Right) -> tuple[int, ...]:
    """The rows of `device` whose samples are one history, the newest first.

    Of the present tenure, else of the newest former one in a company of the caller's: a device that
    was sold begins anew with its new company, and what it reported before stays with the old one.
    Raises `Refused`.
    """
    try:
        return _with_replaced(call.tx, int(find(call, serial, right).id))
    except Refused as refused:
        if refused.code is not Code.NOT_FOUND or not is_serial(serial):
            raise
        for row in call.tx.all(_FORMER, {"wanted": serial}):
            if call.allows(right, row.company_id):
                return _with_replaced(call.tx, int(row.id))
        raise


def sees_position(call: Call, tenures: Sequence[int]) -> bool:
    """Whether the caller sees where the device was whose history this is."""
    company_id = call.tx.scalar(select(device.c.company_id).where(device.c.id == tenures[0]))
    return call.allows(Right.SEE_POSITION, int(company_id))


def _with_replaced(tx: Transaction, device_id: int) -> tuple[int, ...]:
    """The device, and those in whose place it stands; each once."""
    found, open_ = [device_id], [device_id]
    while open_:
        of = open_.pop()
        for row in tx.all(_BESIDE, {"of": of}):
            for other in (row.old_device_id, row.new_device_id):
                if other not in found:
                    found.append(other)
                    if row.undone_at is None:
                        open_.append(other)
    return tuple(found)
