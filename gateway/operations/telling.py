"""Tells devices of the sessions that are wanted of them, again whenever they may not know."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, update

from gateway.domain.instants import SECOND_MS
from gateway.domain.presence import Presence
from gateway.operations import outbox
from gateway.operations.session_locks import locked
from gateway.operations.ticket_making import TicketSigner, claims_for
from gateway.storage.schema import device_live, relay, session
from gateway.storage.schema import outbox as queue
from gateway.storage.transaction import AnyRow, Transaction
from wire.commands import Outcome, Verb
from wire.session_commands import LinkState, Open, Report
from wire.targets import spelled_target
from wire.tickets import Party, Way

TOLD_AGAIN_MS_MIN = 2 * SECOND_MS  # a session is told so often at most, whatever an agent says
UNANSWERED_MS = 15 * SECOND_MS  # after which a command that had no effect is repeated
TOLD_AT_ONCE = 50  # a job's transaction lasts about 20 ms, so that heartbeats do not wait
# Why an agent may refuse a session now and take it a little later.
_PASSING = ("busy", "stopping", "expired")

_TO_TELL = select(
    session.c.id, session.c.device_id, session.c.serial, session.c.actor, device_live.c.node
).join(device_live, device_live.c.device_id == session.c.device_id)
_ONE = _TO_TELL.where(session.c.id == bindparam("wanted"))
_OF_DEVICE = _TO_TELL.where(
    session.c.device_id == bindparam("of_device"), session.c.ended_at.is_(None)
)
_ORDER = (
    select(session, relay.c.epoch, relay.c.hosts, relay.c.port)
    .join(relay, relay.c.id == session.c.relay_id)
    .where(session.c.id == bindparam("wanted"))
)
_TOLD = (
    update(session)
    .where(session.c.id == bindparam("told"))
    .values(told_at=bindparam("at"), open_id=bindparam("command"))
)
_REPORTED = (
    update(session)
    .where(
        session.c.id == bindparam("reported"),
        session.c.device_id == bindparam("by_device"),
        session.c.ended_at.is_(None),
    )
    .values(link_state=bindparam("link"), link_error=bindparam("error"), link_at=bindparam("at"))
    .returning(session.c.told_at)
)


def tell(tx: Transaction, session_id: str) -> None:
    """Queues the command `open`; its ticket is made when it goes out."""
    row = tx.one(_ONE, {"wanted": session_id})
    assert row is not None
    _tell(tx, row, row.node)


def tell_device(tx: Transaction, device_id: int, node: str) -> int:
    """A device signed in anew, at this node: it is told all that is wanted of it. How many."""
    rows = tx.all(_OF_DEVICE, {"of_device": device_id})
    for row in rows:
        _tell(tx, row, node)
    return len(rows)


def _tell(tx: Transaction, row: AnyRow, node: str) -> None:
    command = outbox.put(
        tx,
        device_id=row.device_id,
        serial=row.serial,
        node=node,
        verb=Verb.OPEN,
        args={"session": row.id},
        actor=row.actor,
    )
    tx.run(_TOLD, {"told": row.id, "at": tx.now_ms, "command": command})


def open_order(tx: Transaction, session_id: str, tickets: TicketSigner) -> Open | str:
    """The command's arguments with a fresh ticket; or why there is nothing to say any more."""
    row = tx.one(_ORDER, {"wanted": session_id})
    if row is None or row.ended_at is not None or row.expires_at <= tx.now_ms:
        return "session_over"
    if not row.epoch:
        return "relay_away"
    claims = claims_for(row, Party.DEVICE, Way.LINK, epoch=row.epoch, now_ms=tx.now_ms)
    return Open(
        row.id,
        row.epoch,
        tickets.sign(claims),
        tuple(json.loads(row.hosts)),
        row.port,
        spelled_target(row.target),
        max(1, (row.expires_at - tx.now_ms) // SECOND_MS),
    )


def take_report(tx: Transaction, device_id: int, report: Report) -> None:
    """What an agent says of a session's link; of somebody else's session it can say nothing."""
    row = tx.one(
        _REPORTED,
        {
            "reported": report.session,
            "by_device": device_id,
            "link": report.link.value,
            "error": report.error,
            "at": tx.now_ms,
        },
    )
    if row is None or report.link is not LinkState.UNKNOWN:
        return
    if row.told_at is None or row.told_at <= tx.now_ms - TOLD_AGAIN_MS_MIN:
        tell(tx, report.session)


def _untold(now_ms: int) -> ColumnElement[bool]:
    """Sessions whose device does not know of them, and could be told.

    Of a device that is away it is known that it will be told when it comes back.
    """
    could = and_(device_live.c.nonce.is_not(None), device_live.c.presence != Presence.OFFLINE.value)
    unknown = and_(
        session.c.link_state == LinkState.UNKNOWN.value,
        session.c.link_at >= session.c.told_at,
        session.c.told_at <= now_ms - TOLD_AGAIN_MS_MIN,
    )
    passing = [queue.c.answer.contains(f'"{error}"', autoescape=True) for error in _PASSING]
    without_effect = and_(
        queue.c.answered_at.is_not(None),
        or_(queue.c.outcome.in_([Outcome.UNKNOWN.value, Outcome.FAILED.value]), *passing),
        session.c.told_at <= now_ms - UNANSWERED_MS,
    )
    return or_(session.c.told_at.is_(None), and_(could, or_(unknown, without_effect)))


def _due(now_ms: int) -> Any:
    return (
        _TO_TELL.join(relay, relay.c.id == session.c.relay_id)
        .outerjoin(queue, queue.c.id == session.c.open_id)
        .where(
            session.c.ended_at.is_(None),
            session.c.linked.is_(False),
            session.c.expires_at > now_ms,
            relay.c.epoch != "",  # until then there is no ticket to send
            _untold(now_ms),
        )
        .limit(TOLD_AT_ONCE)
    )


def anybody_untold(tx: Transaction) -> bool:
    """Whether `tell_untold` would find a session: asked each second, so it only reads."""
    return tx.one(_due(tx.now_ms)) is not None


def tell_untold(tx: Transaction) -> int:
    """Tells some devices of sessions that they do not know; how many sessions."""
    if not tx.alone("telling"):
        return 0
    return _tell_all(tx, locked(tx, _due(tx.now_ms)))


def tell_untold_of(tx: Transaction, relay_id: str) -> int:
    """The same for the sessions of a relay that is locked."""
    return _tell_all(tx, tx.all(_due(tx.now_ms).where(session.c.relay_id == relay_id)))


def _tell_all(tx: Transaction, rows: Sequence[AnyRow]) -> int:
    for row in rows:
        _tell(tx, row, row.node)
    return len(rows)
