"""How a link begins: the first hello with a ticket, later ones with the resume secret."""

import hashlib
import hmac
from enum import StrEnum
from typing import NamedTuple

from wire.frames import Frame, Kind, LinkError, hello_frame, hello_of
from wire.heartbeat import NUMBER_MAX, checked_integer
from wire.tickets import TICKET_CHARS_MAX, is_session_id

VERSION = 1
SECRET_BYTES = 32
LINK_NAME = "link.fleetgate"  # SNI, and the name in the certificate of the own CA
FORGOTTEN = -1  # said instead of a count by a side that has nothing left of the channel


class Hello(NamedTuple):
    """The first word of a link. The secret lets a lost answer be resumed."""

    ticket: str
    secret: bytes


class Resume(NamedTuple):
    """The first word of a later connection; `received` counts the channel's bytes taken.

    It is `FORGOTTEN` where the dialling side cannot go on with the channel.
    """

    session: str
    generation: int
    received: int
    proof: bytes


class Word(StrEnum):
    """The accepting side's answer."""

    WELCOME = "welcome"  # to a ticket
    RESUMED = "resumed"  # the channel goes on from `received`
    FRESH = "fresh"  # the session lives, the channel is forgotten: count from 0, streams are reset
    OVER = "over"  # the session has ended, `reason` says why
    UNKNOWN = "unknown"  # a new ticket is needed
    REFUSED = "refused"  # the ticket was not accepted, `reason` says why


class Answered(NamedTuple):
    """The answer; `received` matters for RESUMED, `reason` for OVER and REFUSED."""

    word: Word
    received: int = 0
    reason: str = ""


def proof(secret: bytes, session: str, generation: int, received: int) -> bytes:
    """HMAC-SHA256 by which the dialler shows that it holds the resume secret."""
    text = b"\x00".join(
        (b"fg1 resume", session.encode(), str(generation).encode(), str(received).encode())
    )
    return hmac.new(secret, text, hashlib.sha256).digest()


def hello_bytes(hello: Hello) -> bytes:
    """As sent."""
    body = {"v": VERSION, "ticket": hello.ticket, "secret": hello.secret.hex()}
    return hello_frame(Kind.HELLO, body)


def resume_bytes(secret: bytes, session: str, generation: int, received: int) -> bytes:
    """As sent."""
    body = {
        "v": VERSION,
        "session": session,
        "generation": generation,
        "received": received,
        "proof": proof(secret, session, generation, received).hex(),
    }
    return hello_frame(Kind.RESUME, body)


def answer_bytes(answered: Answered) -> bytes:
    """As sent."""
    body: dict[str, object] = {"v": VERSION, "word": answered.word.value}
    if answered.word is Word.RESUMED:
        body["received"] = answered.received
    if answered.reason:
        body["reason"] = answered.reason
    return hello_frame(Kind.ANSWER, body)


def greeting_of(frame: Frame) -> Hello | Resume:
    """Reads the dialler's first frame. Raises `WireError`."""
    body = hello_of(frame)
    _check_version(body)
    if frame.kind == Kind.HELLO:
        ticket = body.get("ticket")
        if type(ticket) is not str or not 0 < len(ticket) <= TICKET_CHARS_MAX:
            raise LinkError("hello: ticket")
        return Hello(ticket, _hex(body.get("secret"), SECRET_BYTES, "secret"))
    if frame.kind != Kind.RESUME:
        raise LinkError("hello: another frame came first")
    session = body.get("session")
    if not is_session_id(session):
        raise LinkError("hello: session")
    return Resume(
        str(session),
        checked_integer(body.get("generation"), 1, NUMBER_MAX, "generation"),
        checked_integer(body.get("received"), FORGOTTEN, NUMBER_MAX, "received"),
        _hex(body.get("proof"), hashlib.sha256().digest_size, "proof"),
    )


def answered_of(frame: Frame) -> Answered:
    """Reads the accepting side's answer. Raises `WireError`."""
    if frame.kind != Kind.ANSWER:
        raise LinkError("hello: another frame came first")
    body = hello_of(frame)
    _check_version(body)
    reason = body.get("reason", "")
    if type(reason) is not str or len(reason) > 64:
        raise LinkError("hello: reason")
    try:
        word = Word(str(body.get("word")))
    except ValueError as error:
        raise LinkError("hello: word") from error
    return Answered(
        word, checked_integer(body.get("received", 0), 0, NUMBER_MAX, "received"), reason
    )


def _check_version(body: dict[str, object]) -> None:
    version = body.get("v")
    if type(version) is not int or version != VERSION:
        raise LinkError("hello: version")


def _hex(value: object, size: int, name: str) -> bytes:
    if type(value) is not str or len(value) != 2 * size:
        raise LinkError(f"hello: {name}")
    try:
        found = bytes.fromhex(value)
    except ValueError as error:
        raise LinkError(f"hello: {name}") from error
    if len(found) != size:  # blanks are read over
        raise LinkError(f"hello: {name}")
    return found
