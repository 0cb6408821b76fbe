"""What /status tells of remote access: sessions, and the relays that carry them."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import func, select

from gateway.domain.instants import SECOND_MS, instant_text
from gateway.operations.draining import CARRIED, IS_DRAINED
from gateway.storage.schema import relay, session
from gateway.storage.transaction import Transaction
from wire.relay_control import LEASE_S

RELAYS_MAX = 100


class RelayFacts(msgspec.Struct):
    """One relay as the database knows it."""

    id: str
    draining: bool
    sessions: int
    epoch_at: int | None
    seen_at: int | None
    revocations: int  # the newest one's number
    applied: int
    links: int
    streams: int
    memory_bytes: int


class Relay(msgspec.Struct):
    """One relay; `present` when it was heard a moment ago, and its counts are of now."""

    id: str
    present: bool
    draining: bool  # taken out of service: it ends when it carries no session any more
    sessions: int
    epoch_at: str | None  # when its present life was first heard of
    epoch_age_s: float | None
    seen_at: str | None
    seen_age_s: float | None
    lease_at: str | None  # when this gateway last renewed its lease
    lease_age_s: float | None
    revocations: int
    applied: int
    links: int
    streams: int
    memory_bytes: int


class Sessions(msgspec.Struct):
    """Sessions that are wanted: with a link, or waiting for one."""

    waiting: int
    open: int


class Tunnels(msgspec.Struct):
    """What one look into the database found."""

    sessions: Sessions
    relays: list[RelayFacts]


_SESSIONS = (
    select(session.c.linked, func.count().label("wanted"))
    .where(session.c.ended_at.is_(None))
    .group_by(session.c.linked)
)


def count_tunnels(tx: Transaction) -> Tunnels:
    """Wanted sessions by state, and every relay that was ever registered."""
    counts = {row.linked: row.wanted for row in tx.all(_SESSIONS)}
    found = select(relay, IS_DRAINED.label("drained"), CARRIED.label("carried"))
    rows = tx.all(found.order_by(relay.c.id).limit(RELAYS_MAX))
    return Tunnels(
        Sessions(waiting=counts.get(False, 0), open=counts.get(True, 0)),
        [
            RelayFacts(
                row.id,
                bool(row.drained),
                row.carried,
                row.epoch_at,
                row.seen_at,
                row.newest,
                row.applied,
                row.links,
                row.streams,
                row.memory_bytes,
            )
            for row in rows
        ],
    )


def relays_now(
    facts: list[RelayFacts], leases_at_ms: Mapping[str, int], now_ms: int
) -> list[Relay]:
    """The relays with their ages; what one said that is silent now is not passed on as present."""
    return [_relay(one, leases_at_ms.get(one.id), now_ms) for one in facts]


def _relay(facts: RelayFacts, lease_at_ms: int | None, now_ms: int) -> Relay:
    seen_age_s = _age_s(facts.seen_at, now_ms)
    present = seen_age_s is not None and seen_age_s < LEASE_S
    return Relay(
        facts.id,
        present,
        facts.draining,
        facts.sessions,
        _instant(facts.epoch_at),
        _age_s(facts.epoch_at, now_ms),
        _instant(facts.seen_at),
        seen_age_s,
        _instant(lease_at_ms),
        _age_s(lease_at_ms, now_ms),
        facts.revocations,
        facts.applied,
        facts.links if present else 0,
        facts.streams if present else 0,
        facts.memory_bytes if present else 0,
    )


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)


def _age_s(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else max(0, now_ms - at_ms) / SECOND_MS
