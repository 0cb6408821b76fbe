"""Sessions: asking for one, looking at it, closing it."""

import base64
import secrets
from typing import Annotated, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, insert, or_, select

from gateway.domain.instants import MINUTE_MS, SECOND_MS
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.service import State
from gateway.domain.sessions import (
    IDLE_BYTES_S,
    IDLE_STREAMS_S,
    MINUTES_DEFAULT,
    MINUTES_MAX,
    REASON_CHARS_MAX,
    SESSIONS_OF_DEVICE_MAX,
    SESSIONS_OF_PERSON_MAX,
)
from gateway.domain.settings import Key
from gateway.operations.devices import find
from gateway.operations.draining import CARRIED, IS_DRAINED
from gateway.operations.newest_first import of_companies
from gateway.operations.registry import Call, Page, operation
from gateway.operations.session_ends import end_session, record_of
from gateway.operations.session_views import Session, find_session, rows, show
from gateway.operations.targets import meant
from gateway.operations.telling import tell
from gateway.storage.schema import relay, session
from gateway.storage.setting_rows import setting_of
from gateway.storage.transaction import AnyRow
from wire.endings import Ended
from wire.relay_control import LEASE_S

ID_BYTES = 16
HOST_BYTES = 17
HOST_CHARS = 26  # 130 bits
_RELAY_OF = select(session.c.relay_id).where(session.c.id == bindparam("wanted"))


class OpenSession(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to reach behind a device, and for how long.

    `target` is the name of a saved target, `host:port`, an address or a name with dots alone (the
    protocol's usual port) or nothing: the router itself. `protocol` is http, https, ssh, telnet,
    rdp, vnc or tcp; of a saved target it may be left out.
    """

    serial: str
    target: Annotated[str, msgspec.Meta(max_length=300)] = ""
    protocol: Annotated[str, msgspec.Meta(max_length=16)] = ""
    minutes: Annotated[int, msgspec.Meta(ge=1, le=MINUTES_MAX)] = MINUTES_DEFAULT
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS_MAX)] = ""


class ListSessions(Page, kw_only=True):
    """Which sessions: of a device, of a company and those below, in a state, only one's own."""

    serial: str = ""
    company: str = ""
    state: Literal["waiting", "open", "ended"] | None = None
    mine: bool = False


class Sessions(msgspec.Struct):
    """A page of sessions, newest first."""

    items: list[Session]
    next_cursor: str | None


class OneSession(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a session."""

    session_id: str


@operation(
    "sessions.open",
    "POST",
    "/sessions",
    right=Right.REACH,
    result=Session,
    status=201,
    errors=(
        Code.COMPANY_SUSPENDED,
        Code.SERVICE_UNPAID,
        Code.NOT_JOINED,
        Code.UNAVAILABLE,
        Code.TOO_MANY_SESSIONS,
    ),
)
def open_session(call: Call, given: OpenSession) -> Session:
    """Asks for a session; it is wanted until its end, be the device there or not."""
    held = find(call, given.serial, Right.REACH)
    wish = meant(call, held.id, given.target.strip(), given.protocol)
    call.require(wish.right, held.company_id, see=Right.SEE_DEVICES, what="device")
    require_served(call, held)
    if held.joined_at is None:
        raise Refused(Code.NOT_JOINED, "The device has not joined yet.")
    person_id = call.principal.user_id
    if person_id is None:
        raise Refused(Code.FORBIDDEN, "A session belongs to a person.")
    reason = _checked_reason(call, given.reason, held.company_id)
    call.tx.lock_person(person_id)
    _require_room(call, held.id, person_id)
    relay_id = _choose_relay(call)
    call.tx.lock_relay(relay_id)
    if call.tx.scalar(select(relay.c.id).where(relay.c.id == relay_id, IS_DRAINED)):
        raise Refused(Code.UNAVAILABLE, "The relay was just taken out of service; try again.")
    values = {
        "id": secrets.token_hex(ID_BYTES),
        "host": _host_label(),
        "device_id": held.id,
        "serial": held.serial,
        "company_id": held.company_id,
        "person_id": person_id,
        "actor": call.principal.name,
        "relay_id": relay_id,
        "target": str(wish.target),
        "target_name": wish.name,
        "protocol": wish.protocol,
        "right": wish.right.value,
        "reason": reason,
        "created_at": call.tx.now_ms,
        "expires_at": call.tx.now_ms + given.minutes * MINUTE_MS,
        "idle_streams_s": IDLE_STREAMS_S,
        "idle_bytes_s": IDLE_BYTES_S,
        "settled": False,
        "link_state": "",
        "link_error": "",
        "linked": False,
        "refused_reason": "",
        "bytes_to_device": 0,
        "bytes_from_device": 0,
    }
    call.tx.run(insert(session), values)
    row = find_session(call, values["id"], own=True)
    record_of(call.tx, "session.opened", row, call.principal.name, minutes=given.minutes)
    tell(call.tx, row.id)
    return show(call, row)


def require_served(call: Call, held: AnyRow) -> None:
    """Refuses where the company is suspended or the device's service is not active."""
    if call.treasury.suspended(held.company_id):
        raise Refused(Code.COMPANY_SUSPENDED, "The company is suspended.")
    if held.state != State.ACTIVE:
        raise Refused(Code.SERVICE_UNPAID, "The device's service is not active; activate it first.")


def _require_room(call: Call, device_id: int, person_id: int) -> None:
    for column, value, most, whose in (
        (session.c.device_id, device_id, SESSIONS_OF_DEVICE_MAX, "The device"),
        (session.c.person_id, person_id, SESSIONS_OF_PERSON_MAX, "One person"),
    ):
        if call.tx.scalar(_wanted_of(column, value, call.tx.now_ms)) >= most:
            raise Refused(
                Code.TOO_MANY_SESSIONS,
                f"{whose} has at most {most} open sessions; close one that is not needed.",
            )


def _wanted_of(column: ColumnElement[int], value: int, now_ms: int) -> Select[int]:
    """How many sessions somebody has; what is over does not count, even before the sweep."""
    return select(func.count()).where(
        column == value, session.c.ended_at.is_(None), session.c.expires_at > now_ms
    )


def _choose_relay(call: Call) -> str:
    """One that was heard a moment ago, with the fewest sessions; else the one heard last, which
    the session waits for. None that is taken out of service."""
    seen_at = func.coalesce(relay.c.seen_at, 0)
    present = seen_at > call.tx.now_ms - LEASE_S * SECOND_MS
    found = call.tx.one(
        select(relay.c.id, IS_DRAINED.label("drained"))
        .order_by(
            case((IS_DRAINED, 1), else_=0),
            case((present, 0), else_=1),
            case((present, CARRIED), else_=0),
            seen_at.desc(),
            relay.c.id,
        )
        .limit(1)
    )
    if found is None:
        raise Refused(Code.UNAVAILABLE, "No relay is set up that could carry a session.")
    if found.drained:
        raise Refused(
            Code.UNAVAILABLE,
            "Every relay is being taken out of service; an operator can put one back.",
        )
    return str(found.id)


def _host_label() -> str:
    text = base64.b32encode(secrets.token_bytes(HOST_BYTES)).decode().lower()
    return f"s-{text[:HOST_CHARS]}"


def _checked_reason(call: Call, text: str, company_id: int) -> str:
    """The reason as kept; some companies want one for every session. Raises `Refused`."""
    reason = " ".join(text.split())
    if not reason and setting_of(call.tx, company_id, Key.REQUIRE_REASON):
        raise Refused(
            Code.VALIDATION,
            "reason: the company wants to know what each session is for; say it",
            field="reason",
        )
    if not reason.isprintable():
        raise Refused(
            Code.VALIDATION, "reason: has characters that cannot be shown", field="reason"
        )
    return reason


@operation("sessions.list", "GET", "/sessions", right=Right.REACH, result=Sessions)
def list_sessions(call: Call, given: ListSessions) -> Sessions:
    """Lists one's own sessions and those of companies whose sessions one may see, newest first."""
    visible = call.visible_of(given.company, Right.SEE_SESSIONS)
    own = session.c.person_id == call.principal.user_id
    if call.principal.token is not None:
        # A token shows its person's sessions only where it is for such things itself.
        reached = call.visible(Right.REACH).has(session.c.company_id)
        own = and_(own, or_(visible.has(session.c.company_id), reached))
    seen = or_(own, of_companies(call, session.c.company_id, visible))
    statement = rows().where(own if given.mine else seen)
    if given.company:
        statement = statement.where(of_companies(call, session.c.company_id, visible))
    if given.serial:
        statement = statement.where(session.c.serial == given.serial)
    if given.state == "ended":
        statement = statement.where(session.c.ended_at.is_not(None))
    elif given.state is not None:
        linked = given.state == "open"
        statement = statement.where(session.c.ended_at.is_(None), session.c.linked.is_(linked))
    if given.cursor:
        at, id_ = _position(given.cursor)
        statement = statement.where(
            or_(
                session.c.created_at < at,
                and_(session.c.created_at == at, session.c.id < id_),
            )
        )
    found = call.tx.all(
        statement.order_by(session.c.created_at.desc(), session.c.id.desc()).limit(given.limit + 1)
    )
    items = [show(call, row) for row in found[: given.limit]]
    if len(found) <= given.limit:
        return Sessions(items, None)
    last = found[given.limit - 1]
    return Sessions(items, f"{last.created_at}.{last.id}")


def _position(cursor: str) -> tuple[int, str]:
    at, _, id_ = cursor.partition(".")
    if not (at.isascii() and at.isdigit() and len(cursor) < 60):
        raise Refused(Code.VALIDATION, "cursor: not one that a list gave out", field="cursor")
    return int(at), id_


@operation("sessions.show", "GET", "/sessions/{session_id}", right=Right.REACH, result=Session)
def show_session(call: Call, given: OneSession) -> Session:
    """Shows one session."""
    return show(call, find_session(call, given.session_id))


@operation("sessions.close", "DELETE", "/sessions/{session_id}", right=Right.REACH, result=Session)
def close_session(call: Call, given: OneSession) -> Session:
    """Ends a session at once and for good; one that is over stays as it was."""
    call.tx.lock_relays(_RELAY_OF, {"wanted": given.session_id})
    row = find_session(call, given.session_id)
    if not call.carried(Right.REACH, row.company_id):
        raise Refused(Code.FORBIDDEN, f"This token is not for {Right.REACH.value}.")
    end_session(call.tx, row, Ended.CLOSED, call.principal.name)
    return show(call, find_session(call, given.session_id))
