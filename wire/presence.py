"""The `up` message: a device says that it is connected, or its Last Will that it is gone."""

import json
import re
from typing import NamedTuple

from wire.heartbeat import NUMBER_MAX, WireError, is_run, load_json

NONCE_BYTES = 16
_NONCE = re.compile(r"[0-9a-f]{32}")


class Up(NamedTuple):
    """`up` True at each connection; False as Last Will and on a clean stop.

    `nonce` is 128 random bits of this connection, part of every command's tag.
    """

    run: str
    connection: int
    up: bool
    nonce: str


def encode_up(up: Up) -> bytes:
    """The message as sent."""
    return json.dumps(
        {"run": up.run, "c": up.connection, "up": int(up.up), "nonce": up.nonce},
        separators=(",", ":"),
    ).encode()


def decode_up(payload: bytes) -> Up:
    """Reads the message. Raises `WireError` naming the part that is wrong."""
    body = load_json(payload)
    if not isinstance(body, dict):
        raise WireError("up: not an object")
    run, connection, up, nonce = (body.get(key) for key in ("run", "c", "up", "nonce"))
    if not is_run(run):
        raise WireError("run: not 11 characters of base64url")
    if type(connection) is not int or not 1 <= connection <= NUMBER_MAX:
        raise WireError("c: not a positive integer")
    if type(up) is not int or up not in (0, 1):
        raise WireError("up: neither 0 nor 1")
    if type(nonce) is not str or _NONCE.fullmatch(nonce) is None:
        raise WireError("nonce: not 32 hexadecimal digits")
    return Up(str(run), connection, up == 1, nonce)
