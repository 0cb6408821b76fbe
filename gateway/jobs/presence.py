"""The node's clock, and who became late or offline by it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.happenings import Happening
from gateway.domain.presence import NodeClock, Presence, after_probe
from gateway.operations.happening import happened
from gateway.storage.schema import device, device_live, node, presence_change
from gateway.storage.transaction import AnyRow, Transaction

SWEPT_AT_ONCE = 60  # heartbeats do not wait longer than some 20 ms for a job

_SHOWN = (device_live.c.device_id, device_live.c.presence, device.c.company_id, device.c.serial)
_DUE = {
    Presence.OFFLINE: select(*_SHOWN).where(
        device_live.c.presence.in_([Presence.ONLINE.value, Presence.LATE.value]),
        device_live.c.late_at <= bindparam("clock"),  # said for the index
        device_live.c.offline_at <= bindparam("clock"),
    ),
    Presence.LATE: select(*_SHOWN).where(
        device_live.c.presence == Presence.ONLINE.value,
        device_live.c.late_at <= bindparam("clock"),
        # Those that are offline already get there in one step, however many they are.
        device_live.c.offline_at > bindparam("clock"),
    ),
}
_CHANGE = (
    update(device_live)
    .where(
        device_live.c.device_id == bindparam("device"),
        device_live.c.presence == bindparam("before"),
    )
    .values(presence=bindparam("after"))
)


def clock_of(tx: Transaction, name: str) -> int:
    """The node's clock as it stands; a new node's begins at 0."""
    return int(tx.scalar(select(node.c.clock).where(node.c.name == name)) or 0)


def note_probe(tx: Transaction, name: str) -> int:
    """A probe came back to a gateway of this node; the node's clock then.

    All gateways of a node advance one row, by the database host's clock: theirs cannot run apart.
    """
    row = tx.one(select(node).where(node.c.name == name))
    if row is None:
        dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
        tx.run(
            dialect.insert(node).on_conflict_do_nothing(),
            {"name": name, "clock": 0, "probe_at": tx.now_ms, "login_version": 0},
        )
        return clock_of(tx, name)
    after = after_probe(NodeClock(row.clock, row.probe_at, row.still_until or 0), tx.now_ms)
    # Compared and set: what another gateway noted at the same moment is as good.
    tx.run(
        update(node)
        .where(node.c.name == name, node.c.probe_at.is_not_distinct_from(row.probe_at))
        .values(clock=after.clock_ms, probe_at=after.probe_at, still_until=after.still_until)
    )
    return clock_of(tx, name)


def _of_node(due: Select[Any], name: str) -> Select[Any]:
    return due.join_from(device_live, device, device.c.id == device_live.c.device_id).where(
        device_live.c.node == name
    )


def anybody_silent(tx: Transaction, name: str, clock_ms: int) -> bool:
    """Whether `sweep` would find a device: asked at each step of the clock, so it only reads."""
    return any(tx.one(_of_node(due, name), {"clock": clock_ms}) for due in _DUE.values())


def sweep(tx: Transaction, name: str, clock_ms: int) -> int:
    """Makes silent devices of the node late or offline; how many changed.

    Of several gateways one tells of it; a device that is being heard now is left alone.
    """
    changed = 0
    for presence, due in _DUE.items():
        for row in _silent(tx, _of_node(due, name), clock_ms):
            after = presence.value
            values = {"device": row.device_id, "before": row.presence, "after": after}
            if tx.run(_CHANGE, values) == 1:
                changed += 1
                tx.run(
                    insert(presence_change),
                    {
                        "device_id": row.device_id,
                        "company_id": row.company_id,
                        "presence": after,
                        "before": row.presence,
                        "at": tx.now_ms,
                    },
                )
                shown = {"presence": after, "before": row.presence}
                happened(
                    tx,
                    Happening.DEVICE_PRESENCE,
                    row.company_id,
                    serial=row.serial,
                    detail=shown,
                )
    return changed


def _silent(tx: Transaction, due: Select[Any], clock_ms: int) -> Sequence[AnyRow]:
    """Some devices that are due, read once they are locked."""
    clock = {"clock": clock_ms}
    found = [row.device_id for row in tx.all(due.limit(SWEPT_AT_ONCE), clock)]
    if not found:
        return ()
    claimed = tx.claim_devices(select(device.c.id).where(device.c.id.in_(found)))
    return tx.all(due.where(device_live.c.device_id.in_(claimed)), clock)


def online(tx: Transaction, name: str) -> int:
    """How many devices of the node are online."""
    return int(
        tx.scalar(
            select(func.count())
            .select_from(device_live)
            .where(device_live.c.presence == Presence.ONLINE.value, device_live.c.node == name)
        )
        or 0
    )
