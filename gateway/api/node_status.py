"""What /status tells of the MQTT servers, each with all its gateways."""

import msgspec
from sqlalchemy import func, select

from gateway.domain.instants import SECOND_MS, instant_text
from gateway.domain.presence import Presence
from gateway.storage.schema import device_live, node
from gateway.storage.transaction import Transaction

NODES_MAX = 100


class NodeFacts(msgspec.Struct):
    """A node as the database knows it."""

    name: str
    probe_at: int | None
    clock_ms: int
    logins_written: int
    online: int


class NodeNow(msgspec.Struct):
    """One MQTT server of the installation, as all its gateways found it."""

    name: str
    probe_at: str | None  # when a probe came back last, to any of its gateways
    probe_age_s: float | None
    clock_ms: int
    logins_written: int
    online: int  # devices


_NODES = (
    select(
        node,
        select(func.count())
        .where(
            device_live.c.node == node.c.name,
            device_live.c.presence == Presence.ONLINE.value,
        )
        .scalar_subquery()
        .label("online"),
    )
    .order_by(node.c.name)
    .limit(NODES_MAX)
)


def count_nodes(tx: Transaction) -> list[NodeFacts]:
    """Every node that ever had a gateway."""
    return [
        NodeFacts(row.name, row.probe_at, row.clock, row.login_version, row.online)
        for row in tx.all(_NODES)
    ]


def node_now(facts: NodeFacts, now_ms: int) -> NodeNow:
    """A node with the age of what is known of it."""
    at = facts.probe_at
    return NodeNow(
        facts.name,
        None if at is None else instant_text(at),
        None if at is None else max(0, now_ms - at) / SECOND_MS,
        facts.clock_ms,
        facts.logins_written,
        facts.online,
    )
