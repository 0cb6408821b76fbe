"""How long it takes to extend a whole fleet whose periods end at once, while heartbeats come in."""

import asyncio
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import mqtt5
from sqlalchemy import func, select

from bench.bulk_fleet import NODE, BulkFleet
from bench.engines import Database, new_database
from bench.heartbeats import Reports
from gateway.clock import Clock
from gateway.command.gateway import tune_collector
from gateway.command.verify import verify
from gateway.domain.instants import DAY_MS, HOUR_MS, SECOND_MS
from gateway.ingest.batch import BATCH_WAIT_S, RECEIPT_EVERY, Terms
from gateway.ingest.intake import Intake
from gateway.ingest.relay_desk import RelayDesk
from gateway.jobs.schedule import Schedule
from gateway.storage.schema import device, transfer
from gateway.storage.store import Store
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from tests.databases import store_of

DEVICES = 100_000
HEARTBEATS_PER_S = 5_000
ENDED_AGO_MS = 10 * SECOND_MS
SECONDS_MAX = 30  # the gate: later there are no heartbeats any more
RUN_S_MAX = 300.0
BATCH_MESSAGES = int(HEARTBEATS_PER_S * BATCH_WAIT_S)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed."""

    seconds: float
    heartbeats: int
    overflowed: int  # messages that found no room to wait
    batch_ms_median: float
    batch_ms_max: float
    cpu_us: float  # of the gateway, for each device, heartbeats and all
    server_cpu_us: float


def measure(folder: Path, engine: str, *, devices: int = DEVICES) -> Figures:
    """Extends them all by the jobs of one gateway, whose heartbeats come from the same devices."""
    tune_collector()
    with new_database(engine, folder) as database:
        return asyncio.run(_measure(database, devices))


async def _measure(database: Database, devices: int) -> Figures:
    clock = Clock()
    store = store_of(database.address, clock.wall_ms)
    try:
        now_ms = clock.wall_ms()
        end_ms = now_ms - ENDED_AGO_MS
        fleet = BulkFleet(devices, now_ms - 31 * DAY_MS, end_ms, now_ms - HOUR_MS, devices)
        await store.write(fleet.add)
        database.settle()
        figures = await _Run(database, store, clock, fleet).figures(now_ms)
        assert await store.read(_extended) == devices
        wrong = [text for check in verify(database.address) for text in check.findings]
        assert not wrong, wrong
        return figures
    finally:
        store.close()


class _Run:
    """One gateway at work: its jobs, and its intake of messages without the network."""

    def __init__(self, database: Database, store: Store, clock: Clock, fleet: BulkFleet) -> None:
        self._database = database
        self._store = store
        self._telemetry = Telemetry(clock.wall_ms())
        self._schedule = Schedule(store, clock, self._telemetry)
        desk = RelayDesk(store, clock, self._telemetry)
        self._intake = Intake(store, clock, self._telemetry, self._terms, lambda _: None, desk)
        self._clock = clock
        reports = Reports(random.Random(1), fleet)
        # Made before, so that only what the gateway does is counted.
        many = HEARTBEATS_PER_S * SECONDS_MAX
        self._packets = [packet.write() for packet in reports.packets(many)]
        self._devices = fleet.devices
        self._waits_ms: list[float] = []

    def _terms(self) -> Terms:
        return Terms(NODE, self._clock.wall_ms(), RECEIPT_EVERY, 50)

    async def figures(self, now_ms: int) -> Figures:
        cpu_s, server_s, begin_s = time.process_time(), self._database.server_cpu_s(), _now_s()
        async with asyncio.TaskGroup() as tasks:
            working = [
                tasks.create_task(self._schedule.run()),
                tasks.create_task(self._intake.run()),
                tasks.create_task(self._report()),
            ]
            while await self._store.read(lambda tx: _due(tx, now_ms)):
                await asyncio.sleep(0.1)
                assert _now_s() - begin_s < RUN_S_MAX, "the fleet is not extended in time"
            seconds = _now_s() - begin_s
            cpu_s, server_s = (
                time.process_time() - cpu_s,
                self._database.server_cpu_s() - server_s,
            )
            for task in working:
                task.cancel()
        failed = {"job_periods", "batch_not_stored", "message_not_stored"}
        assert failed.isdisjoint(self._telemetry.errors), self._telemetry.last_errors
        return Figures(
            seconds,
            self._telemetry.samples_stored,
            self._telemetry.overflowed,
            statistics.median(self._waits_ms),
            self._telemetry.batch_ms_max,
            cpu_s * 1e6 / self._devices,
            server_s * 1e6 / self._devices,
        )

    async def _report(self) -> None:
        """So many each second, whatever becomes of them."""
        next_s = _now_s()
        batches = 0
        for start in range(0, len(self._packets), BATCH_MESSAGES):
            for data in self._packets[start : start + BATCH_MESSAGES]:
                packet, _ = mqtt5.read(memoryview(data))
                assert isinstance(packet, mqtt5.PublishPacket)
                self._intake.deliver(packet)
            if self._telemetry.batches > batches:
                batches = self._telemetry.batches
                self._waits_ms.append(self._telemetry.batch_ms)
            next_s += BATCH_WAIT_S
            await asyncio.sleep(next_s - _now_s())


def _now_s() -> float:
    return time.monotonic()


def _due(tx: Transaction, now_ms: int) -> bool:
    return tx.one(select(device.c.id).where(device.c.period_end <= now_ms).limit(1)) is not None


def _extended(tx: Transaction) -> int:
    return int(tx.scalar(select(func.count()).where(transfer.c.kind == "extend")) or 0)
