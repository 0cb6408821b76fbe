"""What a ticket says: it admits one party to one session at one relay (JWT claims, RFC 7519)."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from wire.heartbeat import NUMBER_MAX, WireError, checked_integer
from wire.serials import is_serial
from wire.targets import PROTOCOL_PORTS, spelled_target

ALGORITHM = "EdDSA"  # the only one that a relay accepts
REDEEM_S = 60
LEEWAY_S = 5
TICKET_CHARS_MAX = 3_000
SESSION_S_MAX = 12 * 3600
_HEX = re.compile(r"[0-9a-f]{32}")
_HOST_LABEL = re.compile(r"s-[a-z2-7]{26}")


class Party(StrEnum):
    """Whom a ticket admits."""

    DEVICE = "device"
    VISITOR = "visitor"


class Way(StrEnum):
    """How it is redeemed: a device's first dial, a browser's hand-over, or a visitor's link."""

    LINK = "link"
    WEB = "web"
    CONNECT = "connect"


class Claims(NamedTuple):
    """The claims, checked. Instants are ms since 1970 by the server's clock.

    `jti` makes the ticket single; `epoch` names one life of the relay; `host` is the first label
    of the session's own host name; `until_ms` is when the session ends; `idle_streams_s` and
    `idle_bytes_s` end it earlier when no stream is open, or no byte moves, for so long. `state`
    binds a web ticket to the browser that asked (SHA-256 of its cookie, hex), else empty.
    """

    jti: str
    session: str
    party: Party
    way: Way
    relay: str
    epoch: str
    device: str
    company: str
    target: str
    protocol: str
    person: str
    host: str
    until_ms: int
    idle_streams_s: int
    idle_bytes_s: int
    state: str
    issued_ms: int
    expires_ms: int


def is_session_id(value: object) -> bool:
    """128 random bits as 32 hexadecimal digits."""
    return type(value) is str and _HEX.fullmatch(value) is not None


def is_host_label(value: object) -> bool:
    """`s-` and 130 random bits in lower-case base32."""
    return type(value) is str and _HOST_LABEL.fullmatch(value) is not None


def payload_of(claims: Claims) -> dict[str, object]:
    """The JWT payload; `exp` and `iat` are in seconds as the standard has them."""
    return {
        "jti": claims.jti,
        "sid": claims.session,
        "party": claims.party.value,
        "way": claims.way.value,
        "relay": claims.relay,
        "epoch": claims.epoch,
        "dev": claims.device,
        "co": claims.company,
        "target": claims.target,
        "proto": claims.protocol,
        "per": claims.person,
        "host": claims.host,
        "until": claims.until_ms,
        "idle": [claims.idle_streams_s, claims.idle_bytes_s],
        "state": claims.state,
        "iat": claims.issued_ms // 1000,
        "exp": claims.expires_ms // 1000,
    }


def claims_of(payload: Mapping[str, Any]) -> Claims:
    """Reads a payload whose signature was verified. Raises `WireError`."""
    read = payload.get
    if not (is_session_id(read("jti")) and is_session_id(read("sid"))):
        raise WireError("ticket: jti or sid")
    if not is_serial(str(read("dev"))) or not is_host_label(read("host")):
        raise WireError("ticket: dev or host")
    try:
        party, way = Party(str(read("party"))), Way(str(read("way")))
    except ValueError as error:
        raise WireError("ticket: party or way") from error
    if (party is Party.DEVICE) != (way is Way.LINK):
        raise WireError("ticket: this party does not come this way")
    if read("proto") not in PROTOCOL_PORTS:
        raise WireError("ticket: proto")
    texts = [_text(payload, name) for name in ("relay", "epoch", "co", "per", "state", "target")]
    relay, epoch, company, person, state, target = texts
    idle = read("idle")
    if not isinstance(idle, list) or len(idle) != 2:
        raise WireError("ticket: idle")
    return Claims(
        payload["jti"],
        payload["sid"],
        party,
        way,
        relay,
        epoch,
        payload["dev"],
        company,
        str(spelled_target(target)),
        payload["proto"],
        person,
        payload["host"],
        checked_integer(read("until"), 1, NUMBER_MAX, "until"),
        checked_integer(idle[0], 1, SESSION_S_MAX, "idle"),
        checked_integer(idle[1], 1, SESSION_S_MAX, "idle"),
        state,
        checked_integer(read("iat"), 1, NUMBER_MAX, "iat") * 1000,
        checked_integer(read("exp"), 1, NUMBER_MAX, "exp") * 1000,
    )


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if type(value) is not str or len(value) > 300:
        raise WireError(f"ticket: {name}")
    return value
