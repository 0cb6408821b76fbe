"""Joining: the join string a person carries, and what agent and gateway say to each other."""

import base64
import binascii
import json
import re
from typing import NamedTuple

from wire.heartbeat import NUMBER_MAX, WireError, checked_integer, load_json
from wire.serials import is_serial

SCHEME = "fg1:"
HOSTS_MAX = 3
JOIN_STRING_CHARS_MAX = 2_000
CODE_BYTES = 16  # 128 bits
_DIGEST = re.compile(r"[0-9a-f]{64}")

CA_PATH = "/ca.pem"
JOIN_PATH = "/api/v1/join"
STATUS_PATH = "/api/v1/join/status"


class JoinString(NamedTuple):
    """Where to join and how to know the server: `ca` is the SHA-256 of the CA's DER, in hex."""

    hosts: tuple[str, ...]
    port: int
    ca: str
    code: str
    serial: str | None = None


def encode_join_string(join: JoinString) -> str:
    """The text that is pasted into a router's configuration."""
    body: dict[str, object] = {
        "hosts": list(join.hosts),
        "port": join.port,
        "ca": join.ca,
        "code": join.code,
    }
    if join.serial is not None:
        body["serial"] = join.serial
    raw = json.dumps(body, separators=(",", ":")).encode()
    return SCHEME + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_join_string(text: str) -> JoinString:
    """Reads a join string; white space around it is forgiven. Raises `WireError`."""
    text = text.strip()
    if not text.startswith(SCHEME):
        raise WireError(f"join string: does not begin with {SCHEME}")
    if len(text) > JOIN_STRING_CHARS_MAX:
        raise WireError("join string: too long")
    encoded = text[len(SCHEME) :]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("join string: damaged; copy it again, whole") from error
    body = load_json(raw)
    if not isinstance(body, dict):
        raise WireError("join string: not an object")
    hosts, port, ca, code, serial = (
        body.get(key) for key in ("hosts", "port", "ca", "code", "serial")
    )
    if not isinstance(hosts, list) or not 1 <= len(hosts) <= HOSTS_MAX:
        raise WireError("join string: no hosts")
    if not all(isinstance(host, str) and 0 < len(host) <= 253 for host in hosts):
        raise WireError("join string: a host is not a name")
    if type(port) is not int or not 1 <= port <= 65_535:
        raise WireError("join string: no port")
    if not isinstance(ca, str) or _DIGEST.fullmatch(ca) is None:
        raise WireError("join string: no digest of the CA")
    if not isinstance(code, str) or not 16 <= len(code) <= 64:
        raise WireError("join string: no join code")
    if serial is not None and not (isinstance(serial, str) and is_serial(serial)):
        raise WireError("join string: not a serial")
    return JoinString(tuple(hosts), port, ca, code, serial)


class JoinRequest(NamedTuple):
    """What the agent sends; the secret itself never leaves the device."""

    code: str
    serial: str
    lan_mac: str
    mqtt_password: str
    command_key: str  # hexadecimal

    def as_json(self) -> dict[str, str]:
        """The body of `POST /api/v1/join`."""
        return self._asdict()


class JoinAnswer(NamedTuple):
    """`state` is `joined` or `waiting`; `record` is opaque to the agent, which keeps it."""

    state: str
    mqtt_hosts: tuple[str, ...]
    mqtt_port: int
    record: str
    ready_in_s: int
    spread_s: int
    server_time_ms: int

    def as_json(self) -> dict[str, object]:
        """The body of the answer."""
        return {
            "state": self.state,
            "mqtt": {"hosts": list(self.mqtt_hosts), "port": self.mqtt_port},
            "record": self.record,
            "ready_in": self.ready_in_s,
            "spread": self.spread_s,
            "server_time": self.server_time_ms,
        }


def decode_join_answer(payload: bytes) -> JoinAnswer:
    """Reads the gateway's answer. Raises `WireError`."""
    body = load_json(payload)
    mqtt = body.get("mqtt") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(mqtt, dict):
        raise WireError("join answer: not of the agreed form")
    hosts, port = mqtt.get("hosts"), mqtt.get("port")
    if not isinstance(hosts, list) or not hosts or not all(isinstance(h, str) for h in hosts):
        raise WireError("join answer: no MQTT hosts")
    if body.get("state") not in ("joined", "waiting") or not isinstance(body.get("record"), str):
        raise WireError("join answer: no state or record")
    return JoinAnswer(
        body["state"],
        tuple(hosts[:HOSTS_MAX]),
        checked_integer(port, 1, 65_535, "mqtt port"),
        body["record"],
        checked_integer(body.get("ready_in"), 0, 3_600, "ready_in"),
        checked_integer(body.get("spread"), 0, 86_400, "spread"),
        checked_integer(body.get("server_time"), 0, NUMBER_MAX, "server_time"),
    )
