"""The node's clock, and who became late or offline by it."""

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.presence import Presence
from gateway.storage.schema import device, device_live, node, presence_change
from gateway.storage.transaction import Transaction

SWEPT_AT_ONCE = 60  # heartbeats do not wait longer than some 20 ms for a job

_DUE = {
    Presence.OFFLINE: select(
        device_live.c.device_id, device_live.c.presence, device.c.company_id
    ).where(
        device_live.c.presence.in_([Presence.ONLINE.value, Presence.LATE.value]),
        device_live.c.late_at <= bindparam("clock"),  # said for the index
        device_live.c.offline_at <= bindparam("clock"),
    ),
    Presence.LATE: select(
        device_live.c.device_id, device_live.c.presence, device.c.company_id
    ).where(
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


def load_clock(tx: Transaction, name: str) -> int:
    """The node's clock as it stood; a new node's begins at 0."""
    return int(tx.scalar(select(node.c.clock).where(node.c.name == name)) or 0)


def load_probe_at(tx: Transaction, name: str) -> int | None:
    """When the node was last heard, by the wall clock."""
    found = tx.scalar(select(node.c.probe_at).where(node.c.name == name))
    return None if found is None else int(found)


def save_clock(tx: Transaction, name: str, clock_ms: int, probe_at_ms: int | None) -> None:
    """Keeps the node's clock, so that it goes on after a restart."""
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(node)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"clock": statement.excluded.clock, "probe_at": statement.excluded.probe_at},
        ),
        {"name": name, "clock": clock_ms, "probe_at": probe_at_ms, "login_version": 0},
    )


def sweep(tx: Transaction, name: str, clock_ms: int) -> int:
    """Makes silent devices of the node late or offline; how many changed.

    Each change is a compare-and-set, so that of several gateways one tells of it.
    """
    changed = 0
    for presence, due in _DUE.items():
        rows = tx.all(
            due.join_from(device_live, device, device.c.id == device_live.c.device_id)
            .where(device_live.c.node == name)
            .limit(SWEPT_AT_ONCE),
            {"clock": clock_ms},
        )
        for row in rows:
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
    return changed


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
