"""A second decoder of the link, made from `docs/link.md` alone: it shares no line with `wire`."""

import hashlib
import hmac
import json
import struct
from typing import Any

# The table of section 1: name, whether it has a stream, the least and the most of its payload.
TABLE: dict[int, tuple[str, bool, int, int]] = {
    1: ("HELLO", False, 0, 4_088),
    2: ("RESUME", False, 0, 4_088),
    3: ("ANSWER", False, 0, 4_088),
    16: ("OPEN", True, 4, 4),
    17: ("DATA", True, 1, 65_528),
    18: ("WINDOW", True, 8, 8),
    19: ("FIN", True, 0, 0),
    20: ("RESET", True, 0, 64),
    21: ("REFUSED", True, 0, 64),
    32: ("ACK", False, 8, 8),
    33: ("PING", False, 8, 8),
    34: ("PONG", False, 8, 8),
    35: ("BYE", False, 0, 64),
}
WORDS = ("welcome", "resumed", "fresh", "over", "unknown", "refused")
LETTERS = b"abcdefghijklmnopqrstuvwxyz_"
HEX = "0123456789abcdef"
MOST = 2**53 - 1

Decoded = tuple[str, int, Any]  # name, stream, and what the payload says


class Wrong(Exception):
    """The page does not allow it."""


def take(data: bytes) -> tuple[Decoded, bytes] | None:
    """The first frame and what is behind it; None where it is not whole yet."""
    if len(data) < 8:
        return None
    kind, zero, length, stream = struct.unpack(">BBHL", data[:8])
    if kind not in TABLE or zero != 0:
        raise Wrong("kind")
    name, with_stream, least, most = TABLE[kind]
    if with_stream != (stream > 0):
        raise Wrong("stream")
    if not least <= length <= most:
        raise Wrong("length")
    if len(data) < 8 + length:
        return None
    return (name, stream, _payload(name, data[8 : 8 + length])), data[8 + length :]


def _payload(name: str, payload: bytes) -> Any:
    if name in ("OPEN", "WINDOW", "ACK", "PING", "PONG"):
        return int.from_bytes(payload, "big")
    if name in ("RESET", "REFUSED", "BYE"):
        return bytes(one if one in LETTERS else 0x5F for one in payload).decode() or "unknown"
    return payload


def read_first(name: str, payload: bytes) -> dict[str, Any]:
    """Section 2: the members of a HELLO, RESUME or ANSWER that are named there."""
    try:
        body = json.loads(payload.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Wrong("json") from error
    if not isinstance(body, dict) or not _whole(body.get("v"), 1, 1):
        raise Wrong("version")
    if name == "HELLO":
        ticket, secret = body.get("ticket"), body.get("secret")
        if not isinstance(ticket, str) or not 1 <= len(ticket) <= 3_000:
            raise Wrong("ticket")
        return {"ticket": ticket, "secret": _digits(secret)}
    if name == "RESUME":
        session = body.get("session")
        if not isinstance(session, str) or len(session) != 32 or set(session) - set(HEX):
            raise Wrong("session")
        if not _whole(body.get("generation"), 1, MOST) or not _whole(
            body.get("received"), -1, MOST
        ):
            raise Wrong("generation or received")
        return {
            "session": session,
            "generation": body["generation"],
            "received": body["received"],
            "proof": _digits(body.get("proof")),
        }
    word, reason, received = body.get("word"), body.get("reason", ""), body.get("received", 0)
    if word not in WORDS or not isinstance(reason, str) or len(reason) > 64:
        raise Wrong("word or reason")
    if not _whole(received, 0, MOST):
        raise Wrong("received")
    return {"word": word, "reason": reason, "received": received}


def proof(secret: bytes, session: str, generation: int, received: int) -> bytes:
    """Section 2."""
    text = f"fg1 resume\0{session}\0{generation}\0{received}".encode()
    return hmac.new(secret, text, hashlib.sha256).digest()


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _digits(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) != 64 or set(value.lower()) - set(HEX):
        raise Wrong("not 64 hexadecimal digits")
    return bytes.fromhex(value)


def _no_number(name: str) -> Any:
    raise ValueError(name)
