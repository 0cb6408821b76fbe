"""What gateways and relays say to each other over MQTT: leases with revocations, and states.

A lease comes every 2 s. It renews the relay's right to accept new streams, carries the newest
revocation number and every revocation that the relay has not reported yet, and tells what the
gateway knows of sessions whose device has not come. A state answers it: the relay's epoch, the
revocation number it has applied, and absolute counts per session, so that a lost or repeated
message changes nothing.
"""

import json
from typing import Any, NamedTuple, TypeVar

from wire.heartbeat import NUMBER_MAX, WireError, checked_integer, load_json
from wire.tickets import is_session_id

LEASE_EVERY_S = 2.0
LEASE_S = 15.0  # without one for so long: no new stream
LEASE_LOST_S = 300.0  # and after so long: no session
REVOCATIONS_MAX = 500  # in one message; the rest comes with the next
NOTES_MAX = 200
USAGES_MAX = 500  # sessions in one state; the others follow in the next
HAPPENINGS_MAX = 200
MESSAGE_BYTES_MAX = 256 * 1024
_TEXT_CHARS_MAX = 300


class Revocation(NamedTuple):
    """The session ends; numbers rise by one per relay."""

    number: int
    session: str
    reason: str


class Note(NamedTuple):
    """Why a session's device has not come, as far as the gateway knows: a hop and a code."""

    session: str
    hop: str
    code: str
    at_ms: int


class Lease(NamedTuple):
    """Gateway to relay. A relay ignores one of another epoch.

    `newest` is the newest revocation's number, `taken` that of the newest happening stored. With
    `leave` the relay ends, unless it knows of a session still: it was taken out of service, and
    the last of its sessions is over.
    """

    epoch: str
    newest: int
    taken: int
    revoked: tuple[Revocation, ...] = ()
    notes: tuple[Note, ...] = ()
    leave: bool = False


class Usage(NamedTuple):
    """One session at a relay, counted since the relay's start.

    `to_device` and `from_device` are bytes of streams; `link` says whether the device's link is
    up now; `visitors` counts those admitted now.
    """

    session: str
    to_device: int
    from_device: int
    streams: int
    opened: int
    visitors: int
    link: bool


class Happening(NamedTuple):
    """One thing that happened in a session: `number` rises by one in a relay's life.

    `what` is link_up, link_lost, visitor, refused (a stream, with its reason as `detail`),
    ticket_refused, or ended (with the reason).
    """

    number: int
    session: str
    what: str
    detail: str
    at_ms: int


class State(NamedTuple):
    """Relay to gateway, every 2 s and at once when something happened.

    What happened is repeated until a lease says that it was taken, so that no gateway that was
    away misses it; the gateway keeps the highest number per epoch, so a repeat changes nothing.
    """

    epoch: str
    applied: int
    links: int
    streams: int
    memory_bytes: int
    usage: tuple[Usage, ...] = ()
    happened: tuple[Happening, ...] = ()


Row = TypeVar("Row", Revocation, Note, Usage, Happening)


def encode(message: Lease | State) -> bytes:
    """The message as sent."""
    return json.dumps(message._asdict(), separators=(",", ":")).encode()


def as_many(rows: tuple[Row, ...], room_bytes: int) -> tuple[tuple[Row, ...], int]:
    """The first rows that fit into a message with so much room, and the room that they leave."""
    for count, row in enumerate(rows):
        size = len(json.dumps(row, separators=(",", ":"))) + 1  # as `encode` writes it, and a comma
        if size > room_bytes:
            return rows[:count], room_bytes
        room_bytes -= size
    return rows, room_bytes


def decode_lease(payload: bytes) -> Lease:
    """Reads a lease. Raises `WireError`."""
    body = _object(payload, "lease")
    return Lease(
        _text(body.get("epoch"), "epoch"),
        _count(body.get("newest"), "newest"),
        _count(body.get("taken"), "taken"),
        tuple(
            Revocation(_count(number, "revoked"), _session(session), _text(reason, "revoked"))
            for number, session, reason in _rows(body, "revoked", 3, REVOCATIONS_MAX)
        ),
        tuple(
            Note(_session(session), _text(hop, "notes"), _text(code, "notes"), _count(at, "notes"))
            for session, hop, code, at in _rows(body, "notes", 4, NOTES_MAX)
        ),
        leave=_yes(body.get("leave", False), "leave"),
    )


def decode_state(payload: bytes) -> State:
    """Reads a state. Raises `WireError`."""
    body = _object(payload, "state")
    usage = tuple(_usage(row) for row in _rows(body, "usage", 7, USAGES_MAX))
    happened = tuple(
        Happening(
            _count(number, "happened"),
            _session(session),
            _text(what, "happened"),
            _text(detail, "happened"),
            _count(at, "happened"),
        )
        for number, session, what, detail, at in _rows(body, "happened", 5, HAPPENINGS_MAX)
    )
    return State(
        _text(body.get("epoch"), "epoch"),
        _count(body.get("applied"), "applied"),
        _count(body.get("links"), "links"),
        _count(body.get("streams"), "streams"),
        _count(body.get("memory_bytes"), "memory_bytes"),
        usage,
        happened,
    )


def _usage(row: list[Any]) -> Usage:
    session, to_device, from_device, streams, opened, visitors, link = row
    return Usage(
        _session(session),
        _count(to_device, "usage"),
        _count(from_device, "usage"),
        _count(streams, "usage"),
        _count(opened, "usage"),
        _count(visitors, "usage"),
        link is True,
    )


def _object(payload: bytes, what: str) -> dict[str, Any]:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise WireError(f"{what}: too long")
    body = load_json(payload)
    if not isinstance(body, dict):
        raise WireError(f"{what}: not an object")
    return body


def _rows(body: dict[str, Any], name: str, width: int, rows_max: int) -> list[list[Any]]:
    rows = body.get(name)
    if not isinstance(rows, list) or len(rows) > rows_max:
        raise WireError(f"{name}: not a list of at most {rows_max}")
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        raise WireError(f"{name}: not rows of {width}")
    return rows


def _session(value: object) -> str:
    if not is_session_id(value):
        raise WireError("session: not 32 hexadecimal digits")
    return str(value)


def _text(value: object, name: str) -> str:
    if type(value) is not str or len(value) > _TEXT_CHARS_MAX:
        raise WireError(f"{name}: not a text of at most {_TEXT_CHARS_MAX}")
    return value


def _yes(value: object, name: str) -> bool:
    if type(value) is not bool:
        raise WireError(f"{name}: neither true nor false")
    return value


def _count(value: object, name: str) -> int:
    return checked_integer(value, 0, NUMBER_MAX, name)
