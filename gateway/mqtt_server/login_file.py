"""Brings the table of MQTT logins into the server's password file, and says how far it came."""

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mqtt5

from gateway.mqtt_server import passwords
from gateway.mqtt_server.connection import Listener, MqttError, MqttRefused, connected
from gateway.mqtt_server.pacing import Pacing

log = logging.getLogger(__name__)

# A login that exists only to see which file the server has read; it has no right at all.
CANARY_LOGIN = "@canary"
CONFIRM_S_MAX = 10.0
CONFIRM_PAUSE_S = 0.05
RETRY_S = 1.0
SERVER_NAME = "mosquitto"


class LoginFileError(Exception):
    """The MQTT server did not take the new logins; it will be tried again."""


@dataclass(frozen=True, slots=True)
class LoginRows:
    """All logins as one reading of the table saw them, and the table's version then."""

    version: int
    rows: Sequence[tuple[str, str]]  # login, hash


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFileSettings:
    path: Path
    pid_file: Path
    listener: Listener
    owner: tuple[int, int] | None = None  # user id and group id of the server


class LoginFile:
    """One per node. `changed()` is the hint, `run()` the work, `version` what the server has."""

    def __init__(
        self,
        settings: LoginFileSettings,
        *,
        load: Callable[[], Awaitable[LoginRows]],
        reached: Callable[[int], Awaitable[None]],
        connections: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._load = load
        self._reached = reached
        self._connections = connections
        self._clock = clock
        self._pacing = Pacing()
        self._asked = asyncio.Event()
        self._advanced = asyncio.Condition()
        self.version = -1
        """Newest version of the table that the server is known to have read."""

    def changed(self, *, removal: bool) -> None:
        """The table has changed (or may have); `removal` when a login went or got a new hash."""
        self._pacing = self._pacing.ask(self._clock(), removal=removal)
        self._asked.set()

    async def write_first(self) -> int:
        """Writes the file afresh before the server starts; the version that is in it."""
        loaded = await self._load()
        await asyncio.to_thread(self._write, loaded, secrets.token_urlsafe(16))
        return loaded.version

    async def wait_for(self, version: int, *, within_s: float) -> bool:
        """Whether the server has read this version of the table within the time."""
        try:
            async with asyncio.timeout(within_s), self._advanced:
                await self._advanced.wait_for(lambda: self.version >= version)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Runs until cancelled. What fails is tried again: the table stays the truth."""
        while True:
            await self._until_due()
            waiting = self._pacing
            self._pacing = self._pacing.begin(self._clock())
            try:
                await self._turn()
            except (LoginFileError, OSError) as error:
                log.warning("MQTT logins not taken, will retry error=%s", error)
                self._pacing = self._pacing.ask(
                    self._clock(), removal=waiting.removal_asked_at_s is not None
                )
                await asyncio.sleep(RETRY_S)

    async def _until_due(self) -> None:
        while True:
            self._asked.clear()
            due_s = self._pacing.due_at_s(self._connections())
            if due_s is not None and due_s <= self._clock():
                return
            wait_s = None if due_s is None else due_s - self._clock()
            try:
                await asyncio.wait_for(self._asked.wait(), wait_s)
            except TimeoutError:
                continue

    async def _turn(self) -> None:
        loaded = await self._load()
        canary = secrets.token_urlsafe(16)
        await asyncio.to_thread(self._write, loaded, canary)
        signal_server(self._settings.pid_file)
        await self._confirm(canary)
        self.version = loaded.version
        log.info("MQTT logins taken version=%d logins=%d", loaded.version, len(loaded.rows))
        await self._reached(loaded.version)
        async with self._advanced:
            self._advanced.notify_all()

    def _write(self, loaded: LoginRows, canary: str) -> None:
        rows = [*loaded.rows, (CANARY_LOGIN, passwords.hash_password(canary))]
        passwords.write_file(self._settings.path, rows, owner=self._settings.owner)

    async def _confirm(self, canary: str) -> None:
        """Returns when the server lets the new canary in: then it has read the whole file."""
        packet = mqtt5.ConnectPacket(
            CANARY_LOGIN, username=CANARY_LOGIN, password=canary.encode(), clean_start=True
        )
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                while True:
                    try:
                        async with connected(self._settings.listener, packet):
                            return
                    except MqttRefused:
                        await asyncio.sleep(CONFIRM_PAUSE_S)
        except TimeoutError as error:
            raise LoginFileError(f"not read within {CONFIRM_S_MAX} s") from error
        except MqttError as error:
            raise LoginFileError(str(error)) from error


def signal_server(pid_file: Path) -> None:
    """Tells the server to read its files again; never signals a stranger with a recycled id."""
    try:
        pid = int(pid_file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError) as error:
        raise LoginFileError(f"no MQTT server by {pid_file}: {error}") from error
    if name != SERVER_NAME:
        raise LoginFileError(f"process {pid} of {pid_file} is {name}, not the MQTT server")
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise LoginFileError(f"cannot signal the MQTT server: {error.strerror}") from error
