"""Loads what decides about sessions' hops: for the diagnosis and for what relays tell visitors."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from gateway.domain.diagnosis import Facts
from gateway.domain.rights import Principal, Right, Role, authorize
from gateway.domain.service import State
from gateway.operations.inside import asks
from gateway.operations.treasury import Treasury
from gateway.people.memberships import in_force
from gateway.storage.schema import device, device_live, membership, node, outbox, relay, session
from gateway.storage.transaction import AnyRow, Transaction

_FACTS = (
    select(
        session,
        device.c.registered,
        device.c.ended_at.label("tenure_ended_at"),
        device.c.company_id.label("held_by"),
        device.c.state.label("service"),
        device_live.c.presence,
        device_live.c.last_heard_at,
        device_live.c.nonce,
        node.c.probe_at,
        relay.c.epoch,
        relay.c.seen_at,
        outbox.c.sent_at,
        outbox.c.answered_at,
        outbox.c.outcome,
        outbox.c.answer,
    )
    .join(device, device.c.id == session.c.device_id)
    .join(device_live, device_live.c.device_id == session.c.device_id)
    .join(relay, relay.c.id == session.c.relay_id)
    .outerjoin(node, node.c.name == device_live.c.node)
    .outerjoin(outbox, outbox.c.id == session.c.open_id)
)


def rows_where(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Sessions with all that `facts_of` needs."""
    return _FACTS.where(*conditions)


def facts_of(tx: Transaction, rows: Iterable[AnyRow]) -> list[Facts]:
    """The facts of sessions selected by `rows_where`, in their order."""
    found = list(rows)
    treasury = Treasury.of(tx)
    roles = roles_of(tx, {row.person_id for row in found})
    return [_facts(tx, treasury, row, roles.get(row.person_id, {})) for row in found]


def roles_of(tx: Transaction, people: set[int]) -> dict[int, dict[int, Role]]:
    """Memberships of these people, by person and company."""
    roles: dict[int, dict[int, Role]] = {}
    for row in tx.all(
        select(membership.c.person_id, membership.c.company_id, membership.c.role).where(
            membership.c.person_id.in_(people), in_force(tx.now_ms)
        )
    ):
        roles.setdefault(row.person_id, {})[row.company_id] = Role(row.role)
    return roles


def still_may(treasury: Treasury, row: AnyRow, roles: dict[int, Role]) -> bool:
    """Whether the person of a session has the right that it needs, now."""
    principal = Principal(row.actor, row.person_id, memberships=roles)
    path = treasury.path(row.company_id)
    return authorize(principal, Right(row.right), path, asks=asks(treasury.tx, row.company_id))


def _facts(tx: Transaction, treasury: Treasury, row: AnyRow, roles: dict[int, Role]) -> Facts:
    answer = {} if row.answer is None else json.loads(row.answer)
    registered = row.registered and row.tenure_ended_at is None
    return Facts(
        now_ms=tx.now_ms,
        ended_at=row.ended_at,
        ended_because=row.ended_because,
        may=still_may(treasury, row, roles),
        registered=registered and row.held_by == row.company_id,
        served=row.service == State.ACTIVE,
        suspended=treasury.suspended(row.company_id),
        presence=row.presence,
        heard_at=row.last_heard_at,
        signed_in=row.nonce is not None,
        told_at=row.told_at,
        sent_at=row.sent_at,
        answered_at=row.answered_at,
        outcome=row.outcome,
        error=str(answer.get("error", "")),
        link_state=row.link_state,
        link_error=row.link_error,
        link_at=row.link_at,
        mqtt_seen_at=row.probe_at,
        relay_epoch=row.epoch != "",
        relay_seen_at=row.seen_at,
        linked=row.linked,
        linked_at=row.linked_at,
        refused_reason=row.refused_reason,
        refused_at=row.refused_at,
        used_at=row.used_at,
    )
