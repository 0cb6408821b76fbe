"""The data directory of one installation: its lock, its folders, its small private files."""

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.atomic_file import write_atomically
from gateway.mqtt_server.acl import PROBE_LOGIN

LOCK_NAME = "lock"
LEFTOVER_S_MAX = 8.0
LEFTOVER_PAUSE_S = 0.05
SMALL_FILE_BYTES_MAX = 64 * 1024
PASSWORD_BYTES = 32


class DataDirectoryError(Exception):
    """The data directory cannot be used as it is."""


class DataDirectoryBusy(DataDirectoryError):
    """Another `fleetgate up` holds it."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Held until this process and every watcher that inherited it are gone."""

    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def acquire(directory: Path) -> Lock:
    """The lock of this directory; waits a moment for the leftovers of a killed `up`."""
    path = directory / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline_s = time.monotonic() + LEFTOVER_S_MAX
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                os.close(descriptor)
                raise DataDirectoryError(f"{path}: {error.strerror}") from error
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            if _lives(holder) or time.monotonic() > deadline_s:
                os.close(descriptor)
                pid = holder.partition(" ")[0] or "unknown"
                raise DataDirectoryBusy(
                    f"{directory} is in use by another `fleetgate up`, process {pid}"
                ) from error
            # It was killed; its watchers are ending its children right now.
            time.sleep(LEFTOVER_PAUSE_S)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {_started(os.getpid())}\n".encode(), 0)
            return Lock(descriptor)


def _lives(holder: str) -> bool:
    pid, _, started = holder.partition(" ")
    # The start time tells a living holder from a stranger with the same number.
    return pid.isdigit() and bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]


@dataclass(frozen=True, slots=True)
class MqttLogins:
    """Passwords of the service logins on one machine; never shown."""

    passwords: Mapping[str, str] = field(repr=False)

    def password(self, login: str) -> str:
        """Raises `DataDirectoryError` for a login that has none."""
        try:
            return self.passwords[login]
        except KeyError as error:
            raise DataDirectoryError(
                f"the file of mqtt.logins_file holds no password for {login}"
            ) from error


def prepare_mqtt_logins(path: Path, *logins: str) -> MqttLogins:
    """Reads the file, adding a random password for each login that has none."""
    passwords = dict(read_mqtt_logins(path).passwords) if path.exists() else {}
    missing = [login for login in (*logins, PROBE_LOGIN) if login not in passwords]
    if missing:
        passwords |= {login: secrets.token_urlsafe(PASSWORD_BYTES) for login in missing}
        write_atomically(path, json.dumps(passwords, indent=1).encode())
    return MqttLogins(passwords)


def read_mqtt_logins(path: Path) -> MqttLogins:
    """The service logins of this machine; a file that others may read is refused."""
    passwords: dict[str, str] = {}
    for login, password in read_private_json(path).items():
        if not isinstance(password, str):
            raise DataDirectoryError(f"{path} must hold one object of texts")
        passwords[login] = password
    return MqttLogins(passwords)


def read_private_json(path: Path) -> dict[str, object]:
    """The object in a small file of mode 0600."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SMALL_FILE_BYTES_MAX)
    except OSError as error:
        raise DataDirectoryError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise DataDirectoryError(f"{path} is open to others: chmod 0600 {path}")
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataDirectoryError(f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise DataDirectoryError(f"{path} must hold one object")
    return value


def write_private_json(path: Path, value: Mapping[str, object]) -> None:
    write_atomically(path, json.dumps(value, indent=1).encode() + b"\n")
