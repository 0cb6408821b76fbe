"""What relays say and are told, as the store sees it; nothing here knows MQTT."""

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.diagnosis import Found, culprit, diagnose
from gateway.domain.sessions import USAGE_KEPT_MS, ended_because
from gateway.operations import telling
from gateway.operations.draining import CARRIED, IS_DRAINED
from gateway.operations.session_ends import end_session, revoke
from gateway.operations.session_facts import facts_of, rows_where
from gateway.storage.schema import relay, revocation, session, session_usage
from gateway.storage.transaction import AnyRow, Signal, Transaction
from wire.endings import Ended
from wire.relay_control import (
    NOTES_MAX,
    REVOCATIONS_MAX,
    Happening,
    Lease,
    Note,
    Revocation,
    State,
)

_RELAY = select(relay).where(relay.c.id == bindparam("of_relay"))
_LEAVES = select(relay.c.id).where(relay.c.id == bindparam("of_relay"), IS_DRAINED, CARRIED == 0)
_SESSION = select(session).where(
    session.c.id == bindparam("said"), session.c.relay_id == bindparam("of_relay")
)
_TO_REVOKE = (
    select(revocation)
    .where(
        revocation.c.relay_id == bindparam("of_relay"), revocation.c.number > bindparam("applied")
    )
    .order_by(revocation.c.number)
    .limit(REVOCATIONS_MAX)
)
_WITHOUT_LINK = (
    rows_where(
        session.c.relay_id == bindparam("of_relay"),
        session.c.ended_at.is_(None),
        session.c.linked.is_(False),
    )
    .order_by(session.c.created_at.desc())
    .limit(NOTES_MAX)
)
_CHANGE = update(session).where(session.c.id == bindparam("changed"))
_LINKED = _CHANGE.where(session.c.linked != bindparam("up")).values(
    linked=bindparam("up"), linked_at=bindparam("at")
)
_REFUSED = _CHANGE.values(refused_reason=bindparam("because"), refused_at=bindparam("at"))
_TOTALS = {
    total: select(func.sum(session_usage.c[counted]))
    .where(session_usage.c.session_id == session.c.id)
    .scalar_subquery()
    for total, counted in (
        ("bytes_to_device", "to_device"),
        ("bytes_from_device", "from_device"),
    )
}


def register_relay(
    tx: Transaction,
    relay_id: str,
    *,
    hosts: Sequence[str],
    port: int,
    domain: str,
    public_port: int,
    tls: bool,
) -> None:
    """Keeps where a relay is reached: devices dial `hosts` and `port`, and visitors the names
    below `domain` at `public_port`, with TLS or (on loopback, or behind a proxy) without."""
    where = {
        "hosts": json.dumps(list(hosts)),
        "port": port,
        "domain": domain,
        "public_port": public_port,
        "tls": tls,
    }
    unheard = {
        "epoch": "",
        "former_epoch": "",
        "newest": 0,
        "applied": 0,
        "happened": 0,
        "links": 0,
        "streams": 0,
        "memory_bytes": 0,
    }
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(relay)
    tx.run(
        statement.on_conflict_do_update(index_elements=["id"], set_=where),
        {"id": relay_id, **where, **unheard},
    )


def take_state(tx: Transaction, relay_id: str, state: State) -> None:
    """Stores what a relay said of itself. A repeat changes nothing. Writes.

    A relay that nobody registered says nothing of interest, nor does a former life of one.
    """
    tx.lock_relay(relay_id)
    row = tx.one(_RELAY, {"of_relay": relay_id})
    if row is None or state.epoch == row.former_epoch:
        return
    happened = row.happened
    if state.epoch != row.epoch:
        _begin_epoch(tx, row, state.epoch)
        happened = 0
    if state.applied > row.newest:
        _catch_up(tx, relay_id, state.applied)
    _take_counts(tx, relay_id, state)  # first: the entry of a session's end tells them
    for happening in sorted(state.happened):
        if happening.number > happened:
            _take_happening(tx, relay_id, happening)
            happened = happening.number
    _take_links(tx, relay_id, state)
    tx.run(
        update(relay)
        .where(relay.c.id == relay_id)
        .values(
            seen_at=tx.now_ms,
            applied=state.applied,
            happened=happened,
            links=state.links,
            streams=state.streams,
            memory_bytes=state.memory_bytes,
        )
    )
    tx.run(
        delete(revocation).where(
            revocation.c.relay_id == relay_id, revocation.c.number <= state.applied
        )
    )


def _begin_epoch(tx: Transaction, row: AnyRow, epoch: str) -> None:
    """The relay forgot everything: no session has a link, and every device needs a new ticket."""
    tx.run(
        update(relay)
        .where(relay.c.id == row.id)
        .values(epoch=epoch, former_epoch=row.epoch, epoch_at=tx.now_ms)
    )
    wanted = session.c.relay_id == row.id, session.c.ended_at.is_(None)
    lost = update(session).where(*wanted, session.c.linked)
    tx.run(lost.values(linked=False, linked_at=tx.now_ms))
    tx.run(update(session).where(*wanted).values(told_at=None))
    telling.tell_untold_of(tx, row.id)  # some at once, the job tells the others
    tx.signals.add(Signal.RELAY)


def _catch_up(tx: Transaction, relay_id: str, applied: int) -> None:
    """The relay has applied numbers that this database forgot, as after a backup was restored.

    What is to be revoked gets numbers that the relay has not seen.
    """
    of_relay = revocation.c.relay_id == relay_id
    tx.run(update(revocation).where(of_relay).values(number=revocation.c.number + applied))
    tx.run(update(relay).where(relay.c.id == relay_id).values(newest=relay.c.newest + applied))


def _sessions_in(tx: Transaction, relay_id: str, state: State) -> dict[str, AnyRow]:
    said = [usage.session for usage in state.usage]
    rows = tx.all(select(session).where(session.c.id.in_(said), session.c.relay_id == relay_id))
    return {row.id: row for row in rows}


def _take_counts(tx: Transaction, relay_id: str, state: State) -> None:
    """Absolute counts of this epoch, which only grow: a message that comes late changes nothing."""
    sessions = _sessions_in(tx, relay_id, state)
    rows = tx.all(
        select(session_usage).where(
            session_usage.c.session_id.in_(list(sessions)), session_usage.c.epoch == state.epoch
        )
    )
    stored = {row.session_id: (row.to_device, row.from_device) for row in rows}
    changed: dict[str, dict[str, object]] = {}
    used = []
    for usage in state.usage:
        row = sessions.get(usage.session)
        if row is None:
            _revoke_unknown(tx, relay_id, usage.session)
            continue
        if row.ended_at is not None and row.ended_at < tx.now_ms - USAGE_KEPT_MS:
            continue  # what other lives of the relay counted may be gone: its totals stand
        before = stored.get(usage.session, (0, 0))
        counts = max(before[0], usage.to_device), max(before[1], usage.from_device)
        if counts != before:
            changed[usage.session] = {
                "session_id": usage.session,
                "epoch": state.epoch,
                "to_device": counts[0],
                "from_device": counts[1],
                "at": tx.now_ms,
            }
        if counts[1] > before[1]:
            used.append(usage.session)
    if changed:
        _save_counts(tx, list(changed.values()))
        tx.run(update(session).where(session.c.id.in_(list(changed))).values(_TOTALS))
        tx.run(update(session).where(session.c.id.in_(used)).values(used_at=tx.now_ms))


def _save_counts(tx: Transaction, counts: list[dict[str, object]]) -> None:
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(session_usage)
    fresh = {name: statement.excluded[name] for name in ("to_device", "from_device", "at")}
    tx.connection.execute(
        statement.on_conflict_do_update(index_elements=["session_id", "epoch"], set_=fresh), counts
    )


def _take_links(tx: Transaction, relay_id: str, state: State) -> None:
    """Which links are up now, whatever happened before."""
    sessions = _sessions_in(tx, relay_id, state)
    for usage in state.usage:
        row = sessions.get(usage.session)
        if row is not None and row.ended_at is None and row.linked != usage.link:
            tx.run(_LINKED, {"changed": row.id, "up": usage.link, "at": tx.now_ms})


def _revoke_unknown(tx: Transaction, relay_id: str, session_id: str) -> None:
    """A session that this database does not know, as after a backup was restored, must end."""
    known = exists().where(revocation.c.session_id == session_id)
    if not tx.scalar(select(known)):
        revoke(tx, relay_id, session_id, Ended.OVER)


def _take_happening(tx: Transaction, relay_id: str, happening: Happening) -> None:
    row = tx.one(_SESSION, {"said": happening.session, "of_relay": relay_id})
    if row is None or row.ended_at is not None:
        return
    said = {"changed": row.id, "at": tx.now_ms}
    match happening.what:
        case "link_up" | "link_lost":
            tx.run(_LINKED, {**said, "up": happening.what == "link_up"})
        case "refused":
            tx.run(_REFUSED, {**said, "because": happening.detail})
        case "ended":
            end_session(tx, row, ended_because(happening.detail), f"relay:{relay_id}")


def lease_for(tx: Transaction, relay_id: str) -> Lease | None:
    """The lease to send now; None as long as the relay has not said its epoch. Only reads."""
    row = tx.one(_RELAY, {"of_relay": relay_id})
    if row is None or not row.epoch:
        return None
    revoked = tx.all(_TO_REVOKE, {"of_relay": relay_id, "applied": row.applied})
    waiting = tx.all(_WITHOUT_LINK, {"of_relay": relay_id})
    notes = []
    for session_row, facts in zip(waiting, facts_of(tx, waiting), strict=True):
        found = culprit(diagnose(facts))
        if found is not None:
            notes.append(_note(session_row.id, found))
    return Lease(
        row.epoch,
        row.newest,
        row.happened,
        tuple(Revocation(one.number, one.session_id, one.reason) for one in revoked),
        tuple(notes),
        leave=tx.one(_LEAVES, {"of_relay": relay_id}) is not None,
    )


def _note(session_id: str, found: Found) -> Note:
    return Note(session_id, found.hop.value, found.code, found.at_ms or 0)
