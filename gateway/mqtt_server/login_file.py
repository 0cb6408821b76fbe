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

from gateway.atomic_file import write_atomically
from gateway.file_lock import FileLock
from gateway.mqtt_server import passwords
from gateway.mqtt_server.connection import Listener, MqttError, MqttRefused, connected
from gateway.mqtt_server.pacing import Pacing

log = logging.getLogger(__name__)

# A login that exists only to see which file the server has read; it has no right at all.
CANARY_LOGIN = "@canary"
CONFIRM_S_MAX = 10.0
CONFIRM_PAUSE_S = 0.05
RETRY_S = 1.0
LOOK_S = 1.0
SERVER_NAME = "mosquitto"


class LoginFileError(Exception):
    """The MQTT server did not take the new logins; it will be tried again."""


@dataclass(frozen=True, slots=True)
class LoginRows:
    """All logins as one reading of the table saw them, and the table's version then."""

    version: int
    rows: Sequence[tuple[str, str]]  # login, hash
    access: str  # the text of the access list for them


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFileSettings:
    """The server's files, and the lock of whoever writes them."""

    path: Path
    access_path: Path
    lock_path: Path
    pid_file: Path
    listener: Listener
    owner: tuple[int, int] | None = None  # user id and group id of the server


class LoginFile:
    """Of one gateway; of all gateways of a node one writes, and another when that one is gone.

    `changed()` is the hint, `run()` the work, `version` what the server has.
    """

    def __init__(
        self,
        settings: LoginFileSettings,
        *,
        load: Callable[[], Awaitable[LoginRows]],
        reached: Callable[[int], Awaitable[None]],
        watch: Callable[[], Awaitable[int]],
        connections: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._load = load
        self._reached = reached
        self._watch = watch
        self._lock = FileLock(settings.lock_path)
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

    @property
    def writing(self) -> bool:
        """Whether this gateway is the one of its node that writes."""
        return self._lock.held

    async def write_first(self) -> None:
        """Writes the files afresh before the server starts, unless another gateway does."""
        if self._lock.take():
            await self._write_unasked()

    async def _write_unasked(self) -> None:
        loaded = await self._load()
        await asyncio.to_thread(self._write, loaded, secrets.token_urlsafe(16))

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
            if not self.writing:
                await self._until_ours()
            if not await self._due():
                continue
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

    async def _until_ours(self) -> None:
        """Returns when no other gateway of the node writes any more."""
        while not self._lock.take():
            try:
                await self._advance(await self._watch())
            except LoginFileError as error:
                log.info("another gateway's MQTT logins not seen error=%s", error)
            await asyncio.sleep(LOOK_S)
        log.info("this gateway writes the MQTT logins now")
        # What the other one did not come to: a login may have been removed.
        self.changed(removal=True)

    async def _due(self) -> bool:
        """Waits a moment at most; whether a turn is due then."""
        self._asked.clear()
        due_s = self._pacing.due_at_s(self._connections())
        now_s = self._clock()
        if due_s is not None and due_s <= now_s:
            return True
        if not self._settings.path.exists():
            # Whoever starts a server takes the old file away, and waits for a fresh one.
            try:
                await self._write_unasked()
            except (LoginFileError, OSError) as error:
                log.warning("MQTT logins not written, will retry error=%s", error)
        wait_s = LOOK_S if due_s is None else min(LOOK_S, due_s - now_s)
        try:
            async with asyncio.timeout(wait_s):
                await self._asked.wait()
        except TimeoutError:
            pass  # time to look
        return False

    async def _turn(self) -> None:
        loaded = await self._load()
        canary = secrets.token_urlsafe(16)
        await asyncio.to_thread(self._write, loaded, canary)
        signal_server(self._settings.pid_file)
        await self._confirm(canary)
        log.info("MQTT logins taken version=%d logins=%d", loaded.version, len(loaded.rows))
        await self._reached(loaded.version)
        await self._advance(loaded.version)

    async def _advance(self, version: int) -> None:
        self.version = version
        async with self._advanced:
            self._advanced.notify_all()

    def _write(self, loaded: LoginRows, canary: str) -> None:
        rows = [*loaded.rows, (CANARY_LOGIN, passwords.hash_password(canary))]
        settings = self._settings
        # The access list first: the server is started at the sight of the password file.
        write_atomically(settings.access_path, loaded.access.encode(), owner=settings.owner)
        passwords.write_file(settings.path, rows, owner=settings.owner)

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
