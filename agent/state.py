"""What the agent keeps on flash: its secret, its enrolment, and the intervals it was told."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import ConfigurationError
from agent.intervals import Intervals, is_interval
from agent.spool_file import sync_directory
from wire.keys import SECRET_BYTES, command_key, mqtt_password

SECRET_NAME = "secret.json"
ENROLMENT_NAME = "enrolment.json"
CA_NAME = "ca.pem"
INTERVALS_NAME = "intervals.json"
LOCK_NAME = "lock"
_FILE_BYTES_MAX = 64 * 1024
_PRIVATE = 0o600


def save(path: Path, content: bytes) -> None:
    """Replaces a private file in one step that outlives a power cut."""
    beside = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(beside, flags, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), _PRIVATE)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_directory(path.parent)


def save_json(path: Path, body: Mapping[str, object]) -> None:
    """The same for an object."""
    save(path, json.dumps(dict(body)).encode())


def load_json_file(path: Path) -> dict[str, object] | None:
    """The object in the file; None when there is none. Raises `ConfigurationError`."""
    try:
        with path.open("rb") as file:
            body = json.loads(file.read(_FILE_BYTES_MAX))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigurationError(f"{path} is damaged: remove it and join again") from error
    if not isinstance(body, dict):
        raise ConfigurationError(f"{path} is damaged: remove it and join again")
    return body


class Identity(NamedTuple):
    """Which device this is."""

    serial: str
    lan_mac: str


class Secret(NamedTuple):
    """256 random bits, and whom they were made for; cannot be printed by accident."""

    material: bytes
    serial: str
    lan_mac: str

    def __repr__(self) -> str:
        return f"Secret(***, serial={self.serial})"


def load_secret(state: Path) -> Secret | None:
    """The saved secret, if there is one."""
    body = load_json_file(state / SECRET_NAME)
    if body is None:
        return None
    try:
        material = bytes.fromhex(str(body["secret"]))
        secret = Secret(material, str(body["serial"]), str(body["lan_mac"]))
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{state / SECRET_NAME} is damaged: remove it and join again"
        ) from error
    if len(material) != SECRET_BYTES:
        raise ConfigurationError(f"{state / SECRET_NAME} is damaged: remove it and join again")
    return secret


def own_secret(state: Path, serial: str, lan_mac: str) -> Secret | None:
    """The saved secret if it was made on this device.

    A configuration that was copied to another router brings the secret of the first one with it.
    Two devices under one name would throw each other out, so it is set aside, with the enrolment.
    """
    secret = load_secret(state)
    if secret is None or (secret.serial == serial and secret.lan_mac == lan_mac):
        return secret
    for name in (SECRET_NAME, ENROLMENT_NAME, CA_NAME):
        with contextlib.suppress(FileNotFoundError):
            os.replace(state / name, state / f"{name}.of-{secret.serial}")
    sync_directory(state)
    return None


def save_secret(state: Path, secret: Secret) -> None:
    """On flash before anybody hears of it: a secret that was lost locks its device out."""
    body = {"secret": secret.material.hex(), "serial": secret.serial, "lan_mac": secret.lan_mac}
    save_json(state / SECRET_NAME, body)


class Enrolment(NamedTuple):
    """Where this device reports, by the gateway's word at joining."""

    state: str  # `joined` or `waiting`
    serial: str
    ca: str  # SHA-256 of the CA's DER: it names the installation
    mqtt_hosts: tuple[str, ...]
    mqtt_port: int
    record: str  # sealed by the gateway, shown to it after a restore
    spread_s: int
    join_string: str


def save_enrolment(state: Path, enrolment: Enrolment) -> None:
    """Replaces what the last joining said."""
    save_json(state / ENROLMENT_NAME, enrolment._asdict())


def load_enrolment(state: Path) -> Enrolment | None:
    """What the last joining said, if there was one."""
    body = load_json_file(state / ENROLMENT_NAME)
    if body is None:
        return None
    hosts, port, spread_s = (body.get(key) for key in ("mqtt_hosts", "mqtt_port", "spread_s"))
    texts = [body.get(key) for key in ("state", "serial", "ca", "record", "join_string")]
    if (
        not isinstance(hosts, list)
        or not isinstance(port, int)
        or not isinstance(spread_s, int)
        or not all(isinstance(text, str) for text in [*texts, *hosts])
    ):
        raise ConfigurationError(f"{state / ENROLMENT_NAME} is damaged: remove it and join again")
    standing, serial, ca, record, join_string = (str(text) for text in texts)
    return Enrolment(standing, serial, ca, tuple(hosts), port, record, spread_s, join_string)


class Login(NamedTuple):
    """What the MQTT server and the command channel need; cannot be printed by accident."""

    serial: str
    password: str
    command_key: bytes

    def __repr__(self) -> str:
        return f"Login({self.serial}, ***)"


def login_of(secret: Secret) -> Login:
    """The derived values; the secret itself never leaves the device."""
    return Login(
        secret.serial,
        mqtt_password(secret.material, secret.serial),
        command_key(secret.material, secret.serial),
    )


def save_intervals(state: Path, intervals: Intervals) -> None:
    """Kept over restarts: the gateway said it once."""
    save_json(state / INTERVALS_NAME, intervals._asdict())


def load_intervals(state: Path) -> Intervals | None:
    """What the gateway said last; a damaged file is as good as none."""
    try:
        body = load_json_file(state / INTERVALS_NAME) or {}
    except ConfigurationError:
        return None
    sampling_s, sending_s = body.get("sampling_s"), body.get("sending_s")
    if not isinstance(sampling_s, int) or not isinstance(sending_s, int):
        return None
    if not is_interval(sampling_s) or not is_interval(sending_s):
        return None
    return Intervals(sampling_s, sending_s)


@contextlib.contextmanager
def claimed(state: Path) -> Iterator[bool]:
    """Whether the state directory is ours alone meanwhile; False when another process has it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except BlockingIOError:
        ours = False
    try:
        yield ours
    finally:
        os.close(descriptor)


def is_locked(state: Path) -> bool:
    """Whether an agent is running on this state directory."""
    if not (state / LOCK_NAME).exists():
        return False
    with claimed(state) as ours:
        return not ours
