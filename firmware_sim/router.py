"""One simulated router: a real agent in a made-up world, with reboots and network cuts."""

import asyncio
import contextlib
import json
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from agent.agent import Agent
from agent.collectors.sim import SimCollector
from agent.connection import Address, Connection, connect
from agent.errors import ConfigurationError, ConnectionFailed, JoinError, JoinRefused
from agent.intervals import Intervals
from agent.join import join_once
from agent.state import (
    CA_NAME,
    Enrolment,
    Identity,
    Login,
    Secret,
    load_enrolment,
    login_of,
    own_secret,
    save_json,
)
from agent.tls import device_context
from firmware_sim.journal import JournalFile
from firmware_sim.lan.facts import RouterFacts
from firmware_sim.lan.lan import ALLOW, SimulatedLan
from firmware_sim.world import Event, EventKind, World

_BOOT_FILE = "boot.json"
_RETRY_S_FIRST = 1.0
_RETRY_S_MAX = 30.0
_REFUSED_RETRY_S = 20.0
_WAITING_POLL_S = 10.0
_HOST_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_boot_ms() -> int:
    """The host's boot-time clock, under which all simulated boots lie."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class RouterClock:
    """The clocks of one boot of one router; it goes on when only the agent's process was killed."""

    def __init__(self, boot_id: str, booted_ms: int) -> None:
        self.boot_id = boot_id
        self._booted_ms = booted_ms

    def boot_ms(self) -> int:
        """Milliseconds since this router started."""
        return host_boot_ms() - self._booted_ms

    def wall_ms(self) -> int:
        """Simulated routers have heard of NTP."""
        return time.time_ns() // 1_000_000


class Network:
    """The router's way out, which can be cut."""

    def __init__(self) -> None:
        self.cut = False
        self._connection: Connection | None = None

    async def dial(
        self,
        address: Address,
        login: Login,
        *,
        tls: ssl.SSLContext | None,
        will: tuple[str, bytes],
        keepalive_s: int,
    ) -> Connection:
        """What the agent is handed in place of the real dialler."""
        if self.cut:
            raise ConnectionFailed("the simulated network is cut")
        self._connection = await connect(
            address, login, tls=tls, will=will, keepalive_s=keepalive_s
        )
        return self._connection

    def tls(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """What the agent asks for before it dials a relay."""
        if self.cut:
            raise ConnectionFailed("the simulated network is cut")
        return context

    def begin_cut(self) -> None:
        """Ends the connection without a word and lets no other be made."""
        self.cut = True
        if self._connection is not None:
            self._connection.abandon()

    def end_cut(self) -> None:
        """The network is back."""
        self.cut = False


class Standing(StrEnum):
    """Where a router is in its life, for the progress line."""

    JOINING = "joining"
    WAITING = "waiting"
    RUNNING = "running"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all routers of one process share."""

    join_string: str
    journal: JournalFile
    joining: asyncio.Semaphore
    contexts: dict[str, ssl.SSLContext]  # by the digest of the CA: one for the whole fleet
    interval_s: int
    calm: bool
    calm_s: float
    say: Callable[[str], None]


class Router:
    """Joins, then lives boot after boot until it is stopped."""

    def __init__(self, world: World, folder: Path, around: Surroundings, rng: Random) -> None:
        self.world = world
        self.standing = Standing.JOINING
        self.agent: Agent | None = None
        self.last_error = ""
        self._folder = folder
        self._memory = folder / "memory"
        self._around = around
        self._rng = rng
        self._network = Network()
        self._began_ms = host_boot_ms()
        self._story = None if around.calm else world.story(around.calm_s)
        facts = RouterFacts(
            world.serial,
            world.hostname,
            world.profile.name,
            world.profile.firmware,
            lambda: world.read(self._story_s()),
        )
        self.lan = SimulatedLan(folder / "lan", facts)

    @property
    def connected(self) -> bool:
        """Whether it is signed in now."""
        return self.agent is not None and self.agent.connected

    async def live(self, ending: asyncio.Event) -> None:
        """Until `ending`; what is in the spool then stays there for the next time."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await self._live(ending)
        finally:
            await self.lan.close()

    async def _live(self, ending: asyncio.Event) -> None:
        joined = await self._ensure_joined(ending)
        if joined is None:
            return
        event = self._next_event()
        while not ending.is_set():
            agent = self.agent = self._new_agent(*joined)
            self.standing = Standing.RUNNING
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(agent.run(), name=f"agent {self.world.serial}")
                event = await self._live_through(event, ending, running)
                agent.stop()
            if event is not None and not ending.is_set():
                await self._reboot(event, ending)
                event = self._next_event()

    async def _live_through(
        self, event: Event | None, ending: asyncio.Event, running: Awaitable[None]
    ) -> Event | None:
        """Cuts as the story has them; returns at the end, or with the reboot that comes."""
        while True:
            wait_s = None if event is None else max(0.0, event.at_s - self._story_s())
            if await _ended(ending, wait_s) or event is None:
                return event
            if event.kind is EventKind.REBOOT:
                return event
            self._around.say(f"{self.world.serial}: network cut for {event.for_s:.0f} s")
            self._network.begin_cut()
            if self.agent is not None:
                self.agent.sessions.abandon()
            if await _ended(ending, event.for_s):
                return event
            self._network.end_cut()
            event = self._next_event()

    async def _reboot(self, event: Event, ending: asyncio.Event) -> None:
        """What lies in memory is gone; the agent had the time to save its spool to flash."""
        self._around.say(f"{self.world.serial}: reboots for {event.for_s:.0f} s")
        self.standing = Standing.DOWN
        shutil.rmtree(self._memory, ignore_errors=True)
        (self._folder / _BOOT_FILE).unlink(missing_ok=True)
        await self.lan.reboot()
        await _ended(ending, event.for_s)
        self.world.reboot(self._story_s())

    def _story_s(self) -> float:
        return (host_boot_ms() - self._began_ms) / 1_000

    def _next_event(self) -> Event | None:
        return None if self._story is None else next(self._story)

    def _new_agent(self, secret: Secret, enrolment: Enrolment) -> Agent:
        context = self._around.contexts.get(enrolment.ca)
        if context is None:
            context = device_context(ca_file=self._folder / CA_NAME, check_dates=True)
            self._around.contexts[enrolment.ca] = context
        interval_s = self._around.interval_s
        return Agent(
            login=login_of(secret),
            addresses=[Address(host, enrolment.mqtt_port) for host in enrolment.mqtt_hosts],
            tls=lambda: context,
            relay_tls=lambda: self._network.tls(context),
            state_dir=self._folder,
            spool_dir=self._memory,
            clock=self._clock(),
            rng=self._rng,
            collector=SimCollector(lambda: self.world.read(self._story_s())),
            intervals=Intervals(interval_s, interval_s),
            spread_s=enrolment.spread_s,
            journal=self._around.journal,
            dial=self._network.dial,
            allow=ALLOW,
            dial_target=self.lan.dial,
            resolve=self.lan.resolve,
        )

    def _clock(self) -> RouterClock:
        """The boot that was going on when the process was killed, or a new one."""
        path = self._folder / _BOOT_FILE
        host = _HOST_BOOT_ID.read_text(encoding="ascii").strip()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["host"] == host:
                return RouterClock(str(kept["boot_id"]), int(kept["booted_ms"]))
        boot_id, booted_ms = f"{self._rng.getrandbits(128):032x}", host_boot_ms()
        save_json(path, {"host": host, "boot_id": boot_id, "booted_ms": booted_ms})
        return RouterClock(boot_id, booted_ms)

    async def _ensure_joined(self, ending: asyncio.Event) -> tuple[Secret, Enrolment] | None:
        identity = Identity(self.world.serial, self.world.mac)
        ceiling_s = _RETRY_S_FIRST
        while True:
            with contextlib.suppress(ConfigurationError):
                secret = own_secret(self._folder, *identity)
                enrolment = load_enrolment(self._folder) if secret is not None else None
                if secret is not None and enrolment is not None and enrolment.state == "joined":
                    return secret, enrolment
            try:
                wait_s = await self._join(identity)
            except JoinRefused as error:
                self.last_error, wait_s = str(error), _REFUSED_RETRY_S
            except JoinError as error:
                self.last_error, wait_s = str(error), self._rng.uniform(0.1, ceiling_s)
                ceiling_s = min(ceiling_s * 2, _RETRY_S_MAX)
            if await _ended(ending, wait_s):
                return None

    async def _join(self, identity: Identity) -> float:
        """One attempt; how long to wait until the login works, or until the next question."""
        async with self._around.joining:
            joined = await asyncio.to_thread(
                join_once,
                self._around.join_string,
                identity,
                state=self._folder,
                spool=self._memory,
                check_dates=True,
            )
        if joined.enrolment.state == "joined":
            self._around.say(f"{identity.serial}: joined")
            return joined.ready_in_s
        self.standing = Standing.WAITING
        return _WAITING_POLL_S


async def _ended(ending: asyncio.Event, limit_s: float | None) -> bool:
    """Waits for the end, at most so long; whether it came."""
    try:
        async with asyncio.timeout(limit_s):
            await ending.wait()
    except TimeoutError:
        return False
    return True
