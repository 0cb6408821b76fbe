"""Commands to devices, authenticated for one connection, and their answers."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from wire.heartbeat import NUMBER_MAX, WireError, checked_integer, load_json

TAG_BYTES = 32
COMMAND_BYTES_MAX = 15_000
ANSWER_BYTES_MAX = 8 * 1024
SEEN_WINDOW = 64
TTL_S_MAX = 300


class Verb(StrEnum):
    """The closed list of what a device can be told."""

    REFRESH = "refresh"
    SET_INTERVALS = "set_intervals"
    PING = "ping"
    OPEN = "open"  # a session's link (`wire.session_commands`)
    CLOSE = "close"


class Outcome(StrEnum):
    """How a command ended; `unknown` is said by the gateway alone."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Command(NamedTuple):
    """`n` counts the commands of one connection; `time_ms` is the server's clock."""

    n: int
    id: str
    verb: str
    args: Mapping[str, object]
    time_ms: int
    ttl_s: int


class Answer(NamedTuple):
    """What became of a command."""

    id: str
    outcome: Outcome
    result: Mapping[str, object]


def tag(key: bytes, serial: str, nonce: str, body: bytes) -> bytes:
    """HMAC-SHA256 over the bytes as sent, bound to serial and connection."""
    text = b"\x00".join((b"fg1/cmd", serial.encode(), bytes.fromhex(nonce))) + body
    return hmac.new(key, text, hashlib.sha256).digest()


def encode_command(command: Command, *, key: bytes, serial: str, nonce: str) -> bytes:
    """Tag and body as sent."""
    body = json.dumps(
        {
            "n": command.n,
            "id": command.id,
            "verb": command.verb,
            "args": dict(command.args),
            "time": command.time_ms,
            "ttl": command.ttl_s,
        },
        separators=(",", ":"),
    ).encode()
    return tag(key, serial, nonce, body) + body


def decode_command(payload: bytes, *, key: bytes, serial: str, nonce: str) -> Command:
    """Checks the tag first, then reads. Raises `WireError`."""
    if not TAG_BYTES < len(payload) <= TAG_BYTES + COMMAND_BYTES_MAX:
        raise WireError("command: too short or too long")
    body = payload[TAG_BYTES:]
    if not hmac.compare_digest(payload[:TAG_BYTES], tag(key, serial, nonce, body)):
        raise WireError("command: wrong tag")
    read = load_json(body)
    if not isinstance(read, dict):
        raise WireError("command: not an object")
    n, id_, verb, args, time_ms, ttl_s = (
        read.get(key) for key in ("n", "id", "verb", "args", "time", "ttl")
    )
    if type(id_) is not str or type(verb) is not str or not isinstance(args, dict):
        raise WireError("command: id, verb or args of a wrong type")
    return Command(
        checked_integer(n, 1, NUMBER_MAX, "n"),
        id_[:64],
        verb,
        args,
        checked_integer(time_ms, 1, NUMBER_MAX, "time"),
        checked_integer(ttl_s, 1, TTL_S_MAX, "ttl"),
    )


def encode_answer(answer: Answer) -> bytes:
    """The answer as sent; a result that is too large is replaced by saying so."""
    payload = json.dumps(
        {"id": answer.id, "outcome": answer.outcome, "result": dict(answer.result)},
        separators=(",", ":"),
    ).encode()
    if len(payload) > ANSWER_BYTES_MAX:
        return encode_answer(Answer(answer.id, answer.outcome, {"error": "result_too_large"}))
    return payload


def decode_answer(payload: bytes) -> Answer:
    """Reads an answer. Raises `WireError`."""
    if len(payload) > ANSWER_BYTES_MAX:
        raise WireError("answer: too long")
    read = load_json(payload)
    if not isinstance(read, dict):
        raise WireError("answer: not an object")
    id_, outcome, result = (read.get(key) for key in ("id", "outcome", "result"))
    if type(id_) is not str or not isinstance(result, dict):
        raise WireError("answer: id or result of a wrong type")
    if outcome not in (Outcome.DONE, Outcome.FAILED, Outcome.REFUSED):
        raise WireError("answer: unknown outcome")
    return Answer(id_[:64], Outcome(outcome), result)
