"""Prepaid days that change companies with their device: written down, as no transfer says so."""

from sqlalchemy import func, insert, select

from gateway.operations.carrying import is_over, lots_of
from gateway.operations.registry import Call
from gateway.storage.schema import device_move, transfer
from gateway.storage.transaction import AnyRow


def note_days_along(call: Call, row: AnyRow, device_id: int, target: int) -> None:
    """Before a device goes to another company: how many days of its period it takes along.

    `row` is its row of before, `device_id` that which holds it from now on.
    """
    lots = [] if is_over(row, call.tx.now_ms) else lots_of(call, row)
    if not lots:
        return
    free = sum(lot.days for lot in lots if lot.free)
    call.tx.run(
        insert(device_move),
        {
            "device_id": device_id,
            "from_company_id": row.company_id,
            "to_company_id": target,
            "free_days": free,
            "paid_days": sum(lot.days for lot in lots) - free,
            "seq": call.tx.scalar(select(func.max(transfer.c.seq))) or 0,
            "at": call.tx.now_ms,
        },
    )
