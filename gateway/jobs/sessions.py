"""Sessions that may not go on, devices that do not know of theirs, and final counts."""

import json
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    exists,
    false,
    or_,
    select,
    update,
)

from gateway.domain.instants import SECOND_MS
from gateway.domain.rights import Reach, Right, roles_with
from gateway.domain.service import State
from gateway.operations import telling
from gateway.operations.inside import ASK
from gateway.operations.session_ends import end_session, record_of
from gateway.operations.session_locks import locked
from gateway.people.memberships import in_force
from gateway.storage.schema import (
    audit,
    company,
    company_path,
    device,
    membership,
    session,
    setting,
    support_access,
)
from gateway.storage.transaction import Transaction
from wire.endings import Ended

ENDED_AT_ONCE = 30  # a job's transaction lasts about 20 ms, so that heartbeats do not wait
SETTLED_AT_ONCE = 60
SETTLE_MS = 10 * SECOND_MS  # by then the relay has said what it counted last
ACTOR = "gateway"
_END_TOLD = (
    select(audit.c.detail)
    .where(
        audit.c.subject == bindparam("ended"),
        audit.c.verb == "session.ended",
    )
    .order_by(audit.c.id.desc())
    .limit(1)
)


class Work(NamedTuple):
    """What there is to do."""

    end: bool
    tell: bool
    settle: bool


def _right_lost(now_ms: int) -> ColumnElement[bool]:
    """`authorize`, said of all sessions at once: no membership above carries the right."""
    held: list[ColumnElement[bool]] = [
        and_(
            session.c.right == right.value,
            or_(
                membership.c.role.in_([role.value for role in roles_with(right, Reach.BELOW)]),
                and_(
                    company_path.c.depth == 0,
                    membership.c.role.in_([role.value for role in roles_with(right, Reach.OWN)]),
                ),
            ),
        )
        for right in (Right.REACH, Right.REACH_ANY)
    ]
    return ~exists().where(
        company_path.c.descendant_id == session.c.company_id,
        membership.c.company_id == company_path.c.ancestor_id,
        membership.c.person_id == session.c.person_id,
        in_force(now_ms),
        or_(false(), *held),
        ~_asked_to_stay_out(company_path.c.depth, now_ms),
    )


def _asked_to_stay_out(depth: ColumnElement[int], now_ms: int) -> ColumnElement[bool]:
    """`inside.asks`, said of all sessions at once: a company below this depth shuts its door."""
    shut, nearer, granted = (company_path.alias(name) for name in ("shut", "nearer", "granted"))
    said = setting.alias("said")
    said_nearer = exists().where(
        nearer.c.descendant_id == session.c.company_id,
        nearer.c.depth < shut.c.depth,
        said.c.company_id == nearer.c.ancestor_id,
        said.c.key == "inside",
    )
    let_in = exists().where(
        granted.c.descendant_id == session.c.company_id,
        granted.c.depth <= shut.c.depth,
        support_access.c.company_id == granted.c.ancestor_id,
        support_access.c.ended_at.is_(None),
        support_access.c.until > now_ms,
    )
    return exists().where(
        shut.c.descendant_id == session.c.company_id,
        shut.c.depth < depth,
        setting.c.company_id == shut.c.ancestor_id,
        setting.c.key == "inside",
        setting.c.value == json.dumps(ASK),
        ~said_nearer,
        ~let_in,
    )


def _suspended() -> ColumnElement[bool]:
    return exists().where(
        company_path.c.descendant_id == session.c.company_id,
        company.c.id == company_path.c.ancestor_id,
        company.c.suspended_at.is_not(None),
    )


def _due(now_ms: int, at_once: int) -> Select[Any]:
    """Wanted sessions that may not go on, with the first reason that applies."""
    reasons: list[tuple[ColumnElement[bool], Ended]] = [
        (or_(device.c.registered.is_(False), device.c.ended_at.is_not(None)), Ended.UNREGISTERED),
        (device.c.company_id != session.c.company_id, Ended.MOVED),
        (_suspended(), Ended.COMPANY_SUSPENDED),
        (device.c.state != State.ACTIVE.value, Ended.SERVICE_UNPAID),
        (_right_lost(now_ms), Ended.RIGHT_LOST),
        (session.c.expires_at <= now_ms, Ended.EXPIRED),
    ]
    why = case(*((condition, reason.value) for condition, reason in reasons))
    return (
        select(session, why.label("why"))
        .join(device, device.c.id == session.c.device_id)
        .where(session.c.ended_at.is_(None), or_(*(condition for condition, _ in reasons)))
        .order_by(session.c.expires_at)
        .limit(at_once)
    )


def _unsettled(now_ms: int, at_once: int) -> Select[Any]:
    return (
        select(session)
        .where(~session.c.settled, session.c.ended_at <= now_ms - SETTLE_MS)
        .limit(at_once)
    )


def anything_due(tx: Transaction) -> Work:
    """What there is to do: asked each second, so it only reads."""
    return Work(
        tx.one(_due(tx.now_ms, 1)) is not None,
        telling.anybody_untold(tx),
        tx.one(_unsettled(tx.now_ms, 1)) is not None,
    )


def end_due(tx: Transaction) -> int:
    """Ends sessions whose time, device, service, company or right is gone; how many."""
    if not tx.alone("sessions"):
        return 0
    rows = locked(tx, _due(tx.now_ms, ENDED_AT_ONCE))
    return sum(end_session(tx, row, Ended(row.why), ACTOR) for row in rows)


def settle(tx: Transaction) -> int:
    """Writes what relays counted until the very end into the audit; how many were looked at.

    The entry of a session's end has the counts of that instant, which lag by seconds.
    """
    if not tx.alone("sessions"):
        return 0
    rows = locked(tx, _unsettled(tx.now_ms, SETTLED_AT_ONCE))
    for row in rows:
        counts = {"bytes_out": row.bytes_to_device, "bytes_in": row.bytes_from_device}
        told = json.loads(tx.scalar(_END_TOLD, {"ended": row.id}))
        if counts != {name: told[name] for name in counts}:
            because = row.ended_because
            record_of(tx, "session.counted", row, ACTOR, ended_because=because, **counts)
        tx.run(update(session).where(session.c.id == row.id).values(settled=True))
    return len(rows)
