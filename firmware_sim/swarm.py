"""Raw load with real payloads: as many heartbeats as one asks for, and what became of them.

Heartbeats are sent by the clock, whether or not the gateway keeps up (an open loop): a gateway that
falls behind must show in the latencies, not slow the load down.
"""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agent.errors import JoinError
from agent.join import join_once
from agent.state import Identity, load_enrolment, login_of, own_secret
from agent.tls import device_context
from firmware_sim.fleet import raise_file_limit
from firmware_sim.journal import JournalFile
from firmware_sim.swarm_device import SwarmDevice, SwarmRefused
from firmware_sim.world import World

_TICK_S = 0.005
_CONNECTS_AT_ONCE = 64
_THREADS = 16
_JOIN_ATTEMPTS = 10
_CONNECT_ATTEMPTS = 12
_CONNECT_RETRY_S = 1.0
_GRACE_S = 2.0
_PING_S = 30.0
_BINS_PER_S = 1_000
_BINS = 60 * _BINS_PER_S


@dataclass(frozen=True, slots=True)
class SwarmPlan:
    """What the command line asked for; either `join_string` or `plain` is given."""

    join_string: str | None
    plain: tuple[str, int] | None
    devices: int
    rate: float
    seconds: float
    seed: int
    first_serial: int
    state: Path | None = None
    journal: Path | None = None


@dataclass(frozen=True, slots=True)
class SwarmReport:
    """What came of it. Latency is from sending a message to the receipt that names it.

    `receipt_ms_*` counts the newest sample of each receipt, so not the waiting for the next
    message whose number is divisible by `every`; `sample_ms_*` counts every sample.
    """

    devices: int
    connected: int
    sent: int
    sent_per_s: float
    receipted: int
    unreceipted_after_2_s: int
    receipted_within_2_s: int
    receipts: int
    receipt_ms_p50: float
    receipt_ms_p90: float
    receipt_ms_p99: float
    receipt_ms_max: float
    sample_ms_p50: float
    sample_ms_p99: float
    behind_ms_max: float
    cpu_s: float
    cpu_us_per_heartbeat: float
    bytes_per_heartbeat: float


class Latencies:
    """A histogram of milliseconds, which does not grow with the number of samples."""

    def __init__(self) -> None:
        self._bins = [0] * (_BINS + 1)
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._bins[min(int(seconds * _BINS_PER_S), _BINS)] += 1
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def within(self, seconds: float) -> int:
        """How many took no longer."""
        return sum(self._bins[: int(seconds * _BINS_PER_S) + 1])

    def percentile_ms(self, percent: float) -> float:
        """The upper edge of the bin in which it lies."""
        goal, seen = self.count * percent / 100, 0
        for position, count in enumerate(self._bins):
            seen += count
            if count and seen >= goal:
                return (position + 1) * 1_000 / _BINS_PER_S
        return 0.0


class Swarm:
    """The devices of one run, and the counts."""

    def __init__(self, plan: SwarmPlan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._journal = JournalFile(plan.journal)
        self._journalling = plan.journal is not None
        self._devices: list[SwarmDevice] = []
        self._receipts = Latencies()
        self._samples = Latencies()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._sent = 0  # turns taken
        self._unsent = 0  # of these, by devices whose connection had ended
        self._bytes = 0
        self._behind_s_max = 0.0

    async def run(self) -> SwarmReport:
        """Joins, connects, sends, waits 2 s, counts."""
        plan = self._plan
        raise_file_limit(plan.devices * 2 + 256)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        state = plan.state or Path(tempfile.mkdtemp(prefix="firmware-sim-swarm-"))
        gate = asyncio.Semaphore(_CONNECTS_AT_ONCE)
        # Those that are there stay, however long the others take to come.
        async with asyncio.TaskGroup() as beside:
            pinging = beside.create_task(self._ping_forever(), name="pings")
            report = await self._run(state, gate)
            pinging.cancel()
        for device in self._devices:
            device.close()
        self._journal.close()
        return report

    async def _run(self, state: Path, gate: asyncio.Semaphore) -> SwarmReport:
        plan = self._plan
        async with asyncio.TaskGroup() as tasks:
            for number in range(plan.first_serial, plan.first_serial + plan.devices):
                world = World(plan.seed, number)
                tasks.create_task(self._open(world, state, gate), name=f"open {world.serial}")
        self._say(f"connected={len(self._devices)} of {plan.devices}")
        cpu_s, began_s = time.process_time(), time.monotonic()
        if self._devices:
            await self._send_all(began_s)
        took_s = time.monotonic() - began_s
        await asyncio.sleep(_GRACE_S)
        return self._report(took_s, time.process_time() - cpu_s)

    async def _ping_forever(self) -> None:
        while True:
            await asyncio.sleep(_PING_S)
            for device in self._devices:
                device.ping()

    async def _open(self, world: World, state: Path, gate: asyncio.Semaphore) -> None:
        """Joins and connects one device; one that cannot is left out and shows in the report."""
        async with gate:
            try:
                password, hosts, port, context = await self._admit(world, state)
            except JoinError as error:
                self._say(f"{world.serial}: {error}")
                return
            loop = asyncio.get_running_loop()
            for attempt in range(_CONNECT_ATTEMPTS):
                device = SwarmDevice(world, password, self._settled)
                try:
                    await loop.create_connection(
                        lambda made=device: made,
                        hosts[attempt % len(hosts)],
                        port,
                        ssl=context,
                    )
                    await device.wait_ready()
                except (OSError, SwarmRefused) as error:
                    device.close()
                    if attempt == _CONNECT_ATTEMPTS - 1:
                        self._say(f"{world.serial}: not connected: {error}")
                    await asyncio.sleep(_CONNECT_RETRY_S)
                else:
                    self._devices.append(device)
                    return

    async def _admit(
        self, world: World, state: Path
    ) -> tuple[str, tuple[str, ...], int, ssl.SSLContext | None]:
        if self._plan.plain is not None:
            return "", (self._plan.plain[0],), self._plan.plain[1], None
        assert self._plan.join_string is not None
        identity = Identity(world.serial, world.mac)
        folder = state / world.serial
        for attempt in range(_JOIN_ATTEMPTS):
            try:
                if load_enrolment(folder) is None:
                    await asyncio.to_thread(
                        join_once,
                        self._plan.join_string,
                        identity,
                        state=folder,
                        spool=folder / "memory",
                        check_dates=True,
                    )
                break
            except JoinError:
                if attempt == _JOIN_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_CONNECT_RETRY_S)
        secret, enrolment = own_secret(folder, *identity), load_enrolment(folder)
        if secret is None or enrolment is None:
            raise JoinError(f"the state in {folder} is of another device")
        context = self._contexts.get(enrolment.ca)
        if context is None:
            context = device_context(ca_file=folder / "ca.pem", check_dates=True)
            self._contexts[enrolment.ca] = context
        return login_of(secret).password, enrolment.mqtt_hosts, enrolment.mqtt_port, context

    async def _send_all(self, began_s: float) -> None:
        """By the clock, device after device, so that each sends at an even pace."""
        plan, devices = self._plan, self._devices
        total = int(plan.rate * plan.seconds)
        last_of_each = total - len(devices)
        while self._sent < total:
            now_s = time.monotonic()
            due = min(total, int((now_s - began_s) * plan.rate) + 1)
            self._behind_s_max = max(self._behind_s_max, (due - self._sent) / plan.rate)
            self._burst(due, last_of_each, now_s)
            await asyncio.sleep(_TICK_S)

    def _burst(self, due: int, last_of_each: int, now_s: float) -> None:
        devices = self._devices
        count = len(devices)
        while self._sent < due:
            device = devices[self._sent % count]
            if device.ended:
                self._unsent += 1
            else:
                # The last one asks, so that the count at the end is complete.
                self._bytes += device.send(now_s, ask=self._sent >= last_of_each)
                if self._journalling:
                    at_ms = time.time_ns() // 1_000_000
                    self._journal.made(device.serial, device.run, device.number, at_ms)
            self._sent += 1

    def _settled(self, device: SwarmDevice, settled: list[tuple[int, float]]) -> None:
        now_s = time.monotonic()
        for _, sent_s in settled:
            self._samples.add(now_s - sent_s)
        self._receipts.add(now_s - max(sent_s for _, sent_s in settled))
        if self._journalling:
            numbers = [number for number, _ in settled]
            at_ms = time.time_ns() // 1_000_000
            self._journal.receipted(device.serial, device.run, numbers, at_ms)

    def _report(self, took_s: float, cpu_s: float) -> SwarmReport:
        receipts, samples, sent = self._receipts, self._samples, self._sent - self._unsent
        return SwarmReport(
            devices=self._plan.devices,
            connected=sum(not device.ended for device in self._devices),
            sent=sent,
            sent_per_s=round(sent / took_s, 1),
            receipted=samples.count,
            unreceipted_after_2_s=sent - samples.count,
            receipted_within_2_s=samples.within(_GRACE_S),
            receipts=receipts.count,
            receipt_ms_p50=receipts.percentile_ms(50),
            receipt_ms_p90=receipts.percentile_ms(90),
            receipt_ms_p99=receipts.percentile_ms(99),
            receipt_ms_max=round(receipts.max_s * 1_000, 1),
            sample_ms_p50=samples.percentile_ms(50),
            sample_ms_p99=samples.percentile_ms(99),
            behind_ms_max=round(self._behind_s_max * 1_000, 1),
            cpu_s=round(cpu_s, 3),
            cpu_us_per_heartbeat=round(cpu_s * 1e6 / max(1, sent), 2),
            bytes_per_heartbeat=round(self._bytes / max(1, sent), 1),
        )


async def run_swarm(plan: SwarmPlan, say: Callable[[str], None]) -> SwarmReport:
    """The whole load; the report."""
    return await Swarm(plan, say).run()
