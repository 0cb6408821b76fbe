"""Tickets for visitors: each lets the session's own person in once; rights are checked anew."""

import json
import re
from typing import Annotated, Literal

import msgspec
from sqlalchemy import bindparam, select

from gateway.domain.diagnosis import advice, mqtt_away, relay_away
from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.sessions import WEB_PROTOCOLS
from gateway.operations.devices import find
from gateway.operations.registry import Call, operation
from gateway.operations.session_ends import record_of
from gateway.operations.session_facts import facts_of, rows_where
from gateway.operations.session_views import base_url, find_session
from gateway.operations.sessions import require_served
from gateway.operations.ticket_making import claims_for
from gateway.storage.schema import relay, session
from gateway.storage.transaction import AnyRow
from wire.tickets import Party, Way

_STATE = re.compile(r"[0-9a-f]{64}")
_RELAY = select(relay).where(relay.c.id == bindparam("wanted"))


class MakeTicket(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How one comes: `connect` with `fleetgate connect`, `web` with a browser.

    `state` binds a web ticket to the browser that asked: the SHA-256 in hex of its state cookie.
    """

    session_id: str
    way: Literal["web", "connect"]
    state: Annotated[str, msgspec.Meta(max_length=64)] = ""


class RelayShown(msgspec.Struct):
    """Where a visitor's link goes: dial a host, speak TLS or not, for this name."""

    hosts: list[str]
    port: int
    tls: bool
    name: str


class Ticket(msgspec.Struct, omit_defaults=True):
    """Good once, until `expires_at`.

    A browser takes a web ticket to `url`, at `.fleetgate/enter?ticket=…&state=…`.
    """

    ticket: str
    expires_at: str
    url: str | None = None
    relay: RelayShown | None = None


@operation(
    "sessions.ticket",
    "POST",
    "/sessions/{session_id}/tickets",
    right=Right.REACH,
    result=Ticket,
    status=201,
    errors=(
        Code.SESSION_OVER,
        Code.COMPANY_SUSPENDED,
        Code.SERVICE_UNPAID,
        Code.UNAVAILABLE,
    ),
)
def make_ticket(call: Call, given: MakeTicket) -> Ticket:
    """Makes a ticket that lets the session's own person in, once, within a minute."""
    row = find_session(call, given.session_id, own=True)
    way = Way(given.way)
    if way is Way.WEB:
        if row.protocol not in WEB_PROTOCOLS:
            raise Refused(Code.VALIDATION, "way: this session is not for browsers", field="way")
        if _STATE.fullmatch(given.state) is None:
            raise Refused(Code.VALIDATION, "state: 64 hexadecimal digits", field="state")
    elif given.state:
        raise Refused(Code.VALIDATION, "state: only with the way web", field="state")
    require_still(call, row)
    at = _relay_at_work(call, row)
    claims = claims_for(
        row, Party.VISITOR, way, epoch=at.epoch, now_ms=call.tx.now_ms, state=given.state
    )
    record_of(call.tx, "session.ticket", row, call.principal.name, way=given.way, jti=claims.jti)
    ticket = call.site.tickets.sign(claims)
    until = instant_text(claims.expires_ms)
    if way is Way.WEB:
        return Ticket(ticket, until, url=f"{base_url(row)}/")
    hosts = json.loads(at.hosts)
    where = RelayShown(hosts, at.public_port, at.tls, f"{row.host}.{at.domain}")
    return Ticket(ticket, until, relay=where)


def require_still(call: Call, row: AnyRow) -> None:
    """Time, right, service and company as they are now; the sweep may not have come by yet."""
    if row.ended_at is not None or row.expires_at <= call.tx.now_ms:
        raise Refused(
            Code.SESSION_OVER,
            f"The session is over: {row.ended_because or 'expired'}. Open a new one.",
        )
    held = find(call, row.serial, Right.REACH)
    if held.id != row.device_id or held.company_id != row.company_id:
        raise Refused(Code.SESSION_OVER, "The device belongs to somebody else now.")
    call.require(Right(row.right), held.company_id, see=Right.SEE_DEVICES, what="device")
    require_served(call, held)


def _relay_at_work(call: Call, row: AnyRow) -> AnyRow:
    at = call.tx.one(_RELAY, {"wanted": row.relay_id})
    if at is None or not at.epoch or relay_away(at.seen_at, call.tx.now_ms):
        (facts,) = facts_of(call.tx, call.tx.all(rows_where(session.c.id == row.id)))
        code = "mqtt_away" if mqtt_away(facts) else "relay_away"
        raise Refused(Code.UNAVAILABLE, f"{advice(code)} Then try again. ({code})")
    return at
