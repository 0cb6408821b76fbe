"""What the rows in which devices are found must hold, made anew from the devices themselves."""

from sqlalchemy import select

from gateway.storage import latest_values
from gateway.storage.schema import device, device_latest, device_live, device_search
from gateway.storage.search_rows import RSRP, RSSI, named, told_of
from gateway.storage.transaction import Transaction

_NAMED = (
    device.c.id,
    device.c.serial,
    device.c.name,
    device.c.alias,
    device.c.reference,
    device.c.mac,
    device.c.tags,
)


def stale_rows(tx: Transaction) -> list[str]:
    """Devices whose row says something else than they do."""
    kept = {row.device_id: tuple(row) for row in tx.all(select(device_search))}
    statement = (
        select(*_NAMED, device_live.c.recent, device_live.c.signal, device_latest.c.latest)
        .join(device_live, device_live.c.device_id == device.c.id)
        .join(device_latest, device_latest.c.device_id == device.c.id)
    )
    wrong = []
    for row in tx.all(statement):
        values = latest_values.both(row.latest, row.recent)
        wanted = (*named(tuple(row)[: len(_NAMED)])[:3], *told_of(values))
        if kept.get(row.id) != wanted:
            wrong.append(f"device_search of {row.serial}: {kept.get(row.id)}, not {wanted}")
        signal = None
        if RSRP in values:
            signal = values[RSRP][0]
        elif RSSI in values:
            signal = values[RSSI][0] - 1_010
        if row.signal != signal:
            wrong.append(f"signal of {row.serial}: {row.signal}, not {signal}")
    return wrong
