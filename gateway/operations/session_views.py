"""Sessions as people see them, and which of them one may see."""

import msgspec
from sqlalchemy import Select, bindparam, select

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.sessions import WEB_PROTOCOLS, state_of
from gateway.operations.registry import Call, not_found
from gateway.storage.schema import person, relay, session
from gateway.storage.transaction import AnyRow
from wire.tickets import is_session_id

_PORTS = {"http": 80, "https": 443}


class Other(msgspec.Struct):
    """Somebody else who has a session to the same target."""

    person: str
    protocol: str
    since: str


class Session(msgspec.Struct):
    """Permission to reach one target of one device until a time.

    `state` is waiting (the device's link is not up), open or ended. `bytes_out` went towards the
    device, `bytes_in` came from it. `url` is there for http and https alone. `ended_because` is
    closed, expired, idle_streams, idle_bytes, unregistered, service_unpaid, company_suspended,
    right_lost, moved, released, control_link_lost or over.
    """

    id: str
    serial: str
    company_id: str
    target: str
    target_name: str
    protocol: str
    state: str
    person: str
    person_id: str
    reason: str
    created_at: str
    expires_at: str
    url: str | None
    host: str
    link_since: str | None
    last_used_at: str | None
    others: list[Other]
    bytes_in: int
    bytes_out: int
    ended_at: str | None
    ended_because: str | None
    ended_by: str | None


_OTHERS = (
    select(person.c.name, session.c.protocol, session.c.created_at)
    .join(person, person.c.id == session.c.person_id)
    .where(
        session.c.device_id == bindparam("of_device"),
        session.c.target == bindparam("same"),
        session.c.id != bindparam("without"),
        session.c.ended_at.is_(None),
    )
    .order_by(session.c.created_at)
)


def rows() -> Select[tuple[object, ...]]:
    """Sessions with what showing them needs."""
    return (
        select(
            session,
            person.c.name.label("person_name"),
            relay.c.domain,
            relay.c.public_port,
            relay.c.tls,
        )
        .join(person, person.c.id == session.c.person_id)
        .join(relay, relay.c.id == session.c.relay_id)
    )


_ONE = rows().where(session.c.id == bindparam("wanted"))


def find_session(call: Call, session_id: str, *, own: bool = False) -> AnyRow:
    """The session, if it is one's own or one may see those of its company. Raises `Refused`.

    `own`: only its own person will do.
    """
    row = call.tx.one(_ONE, {"wanted": session_id}) if is_session_id(session_id) else None
    if row is None:
        raise call.missing(Right.SEE_SESSIONS, see=Right.SEE_COMPANIES, what="session")
    sees = call.allows(Right.SEE_SESSIONS, row.company_id)
    if row.person_id == call.principal.user_id and (
        sees or call.carried(Right.REACH, row.company_id)
    ):
        return row
    if not sees:
        raise not_found("session")
    if own:
        raise Refused(Code.FORBIDDEN, "Only the person who opened a session gets tickets to it.")
    return row


def base_url(row: AnyRow) -> str:
    """Where visitors' browsers find the session, without a slash at the end."""
    scheme = "https" if row.tls else "http"
    port = "" if row.public_port == _PORTS[scheme] else f":{row.public_port}"
    return f"{scheme}://{row.host}.{row.domain}{port}"


def show(call: Call, row: AnyRow) -> Session:
    """The public form of a row of `rows`."""
    others = []
    if row.ended_at is None:
        same = {"of_device": row.device_id, "same": row.target, "without": row.id}
        others = [
            Other(other.name, other.protocol, instant_text(other.created_at))
            for other in call.tx.all(_OTHERS, same)
        ]
    return Session(
        row.id,
        row.serial,
        str(row.company_id),
        row.target,
        row.target_name,
        row.protocol,
        state_of(row.ended_at, row.linked).value,
        row.person_name,
        str(row.person_id),
        row.reason,
        instant_text(row.created_at),
        instant_text(row.expires_at),
        f"{base_url(row)}/" if row.protocol in WEB_PROTOCOLS else None,
        f"{row.host}.{row.domain}",
        _instant(row.linked_at if row.linked else None),
        _instant(row.used_at),
        others,
        row.bytes_from_device,
        row.bytes_to_device,
        _instant(row.ended_at),
        row.ended_because,
        row.ended_by,
    )


def _instant(at: int | None) -> str | None:
    return None if at is None else instant_text(at)
