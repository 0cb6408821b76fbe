"""A fleet's history, lived through hour by hour with the gateway's jobs: its size, its plots."""

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from bench.activation import OPERATIONS, SITE
from bench.bulk_fleet import BulkFleet, serial
from bench.engines import Database, new_database
from firmware_sim.world import World
from gateway.command.gateway import tune_collector
from gateway.domain.history import HOURS_A_DAY, Level
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, instant_text
from gateway.domain.rights import Principal, Role
from gateway.ingest.rows import encode
from gateway.jobs import history, retention
from gateway.jobs.retention import KeptDays
from gateway.operations.registry import execute
from gateway.operations.series import Series
from gateway.storage import history_rows
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction
from tests.databases import store_of
from wire.fields import BY_NAME

INTERVAL_MS = 5 * MINUTE_MS
BEGIN_MS = 1_800_000_000_000 - 1_800_000_000_000 % DAY_MS
ROUNDS_MAX = 1_000_000
FIELDS = ["rsrp,sinr,mobile_received,mobile_sent"]
PLOTS = {"hour": HOUR_MS, "month": 30 * DAY_MS, "year": 365 * DAY_MS}
ASKED = 15  # times for each plot, each of another device
YEAR_DEVICES = 15
_MOVING = ("uptime", "rsrp", "sinr", "mobile_received", "mobile_sent")
_UPTIME, _RSRP, _SINR, _RECEIVED, _SENT = (BY_NAME[name].id for name in _MOVING)
_COLUMNS = ("device_id", "run_id", "number", "at", "time_from", "fields")

Row = tuple[int, int, int, int, int, str]


@dataclass(slots=True)
class Lived:
    """What came of it."""

    samples: int
    days: int
    devices: int
    bytes_before: int
    bytes_after: int
    rows: dict[str, int]
    roll_up_s: float
    delete_s: float
    hour_ms_max: float  # the longest that rolling up one hour of all devices took
    plots_ms: dict[str, float] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)

    @property
    def rolled_up_per_s(self) -> float:
        return self.samples / self.roll_up_s


class Reporting:
    """Samples of simulated routers: all fields once, then what changes on a moving LTE router."""

    def __init__(self, devices: int, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._full = [self._first(number) for number in range(20)]
        self._received = [self._rng.randrange(10**9) for _ in range(devices)]
        self._sent = [self._rng.randrange(10**8) for _ in range(devices)]
        self.devices = devices

    def _first(self, number: int) -> str:
        values = World(1, number).read(0.0)
        still = {BY_NAME[name].id: each for name, each in values.items() if name not in _MOVING}
        return encode(still).decode()[1:]

    def round(self, number: int, at_ms: int) -> list[Row]:
        """One sample of each device, within the interval that begins at this instant."""
        uniform, rows = self._rng.random, []
        received, sent = self._received, self._sent
        for index in range(self.devices):
            traffic = uniform()
            received[index] += int(400_000 * traffic)
            sent[index] += int(60_000 * traffic)
            moving = (
                f'{{"{_UPTIME}":{number * 300},"{_RSRP}":{-85 - int(20 * uniform())},'
                f'"{_SINR}":{int(14 * uniform())},"{_RECEIVED}":{received[index]},'
                f'"{_SENT}":{sent[index]}'
            )
            tail = f",{self._full[index % 20]}" if number == 1 else "}"
            at = at_ms + index * INTERVAL_MS // self.devices
            rows.append((index + 1, index + 1, number, at, 0, moving + tail))
        return rows


class Life:
    """One installation that is lived through."""

    def __init__(self, database: Database, devices: int) -> None:
        self._reporting = Reporting(devices)
        self.devices = devices
        self.now_ms = BEGIN_MS
        self.store: Store = store_of(database.address, lambda: self.now_ms)
        self._number = 0
        self.roll_up_s = self.delete_s = self.hour_s_max = 0.0
        self.samples = 0

    async def begin(self) -> int:
        """The devices; what the database takes without history."""
        fleet = BulkFleet(self.devices, BEGIN_MS - DAY_MS, BEGIN_MS + 3_000 * DAY_MS, BEGIN_MS)
        await self.store.write(fleet.add)
        await self.store.write(lambda tx: tx.change("DELETE FROM installation", ()))
        await self.roll_up()
        await self.delete(KeptDays())
        return await self.store.read(lambda tx: tx.database_bytes())

    async def hour(self) -> None:
        """Samples of one hour, as they arrive; then the jobs."""
        rows: list[Row] = []
        for _ in range(HOUR_MS // INTERVAL_MS):
            self._number += 1
            rows += self._reporting.round(self._number, self.now_ms)
            self.now_ms += INTERVAL_MS
        await self.store.write(partial(_add, rows=rows), lane=Lane.INGEST)
        self.samples += len(rows)
        await self.roll_up()

    async def roll_up(self) -> None:
        """The job, and how long it took."""
        began_s = time.monotonic()
        await history.roll_up_all(self.store, ROUNDS_MAX)
        took_s = time.monotonic() - began_s
        self.roll_up_s += took_s
        self.hour_s_max = max(self.hour_s_max, took_s)

    async def delete(self, days: KeptDays) -> None:
        """The same for the other job."""
        began_s = time.monotonic()
        await retention.delete_all(self.store, days, ROUNDS_MAX)
        self.delete_s += time.monotonic() - began_s


def _add(tx: Transaction, rows: list[Row]) -> None:
    tx.add_rows("heartbeat", _COLUMNS, rows)
    # As ingest does with each sample.
    tx.change("UPDATE device_live SET last_heard_at = ?", (tx.now_ms,))


def live(folder: Path, engine: str, *, devices: int, days: int, kept: KeptDays) -> Lived:
    """So many days of so many devices, and then their plots."""
    tune_collector()  # as the gateway does
    with new_database(engine, folder) as database:
        return asyncio.run(_live(database, devices, days, kept))


async def _live(database: Database, devices: int, days: int, kept: KeptDays) -> Lived:
    life = Life(database, devices)
    try:
        before = await life.begin()
        for _ in range(days):
            for _ in range(HOURS_A_DAY):
                await life.hour()
            await life.delete(kept)
        database.settle()
        after = await life.store.read(lambda tx: tx.database_bytes())
        counted = {
            table: await life.store.read(partial(_count, table=table))
            for table in ("heartbeat", "history_hour", "history_day")
        }
        lived = Lived(
            life.samples,
            days,
            devices,
            before,
            after,
            counted,
            life.roll_up_s,
            life.delete_s,
            life.hour_s_max * 1_000,
        )
        await life.store.write(partial(_add_a_year, devices=devices))
        database.settle()
        for name, span_ms in PLOTS.items():
            lived.plots_ms[name], lived.points[name] = await _plot(life, span_ms)
        return lived
    finally:
        life.store.close()


def _count(tx: Transaction, table: str) -> int:
    return int(tx.fetch(f"SELECT count(*) FROM {table}")[0][0])


def _add_a_year(tx: Transaction, devices: int) -> None:
    """For some devices the hours and days of the year before, all like the first day there is."""
    for device_id in range(1, min(devices, YEAR_DEVICES) + 1):
        for level, per_day in ((Level.HOUR, HOURS_A_DAY), (Level.DAY, 1)):
            first = BEGIN_MS // DAY_MS * per_day
            day = history_rows.rolled_up(tx, level, device_id, first, first + per_day)
            rows = [
                row
                for back in range(1, 336)
                for row in history_rows.packed_rows(
                    device_id, ((period - back * per_day, rolled) for period, rolled in day)
                )
            ]
            history_rows.keep(tx, level, rows)


async def _plot(life: Life, span_ms: int) -> tuple[float, int]:
    """Median of how long the operation takes, with the text of its answer; how many points."""
    caller = Principal("user:1", 1, True, memberships={1: Role.ADMINISTRATOR})
    op = OPERATIONS["devices.series"]
    took_ms, points = [], 0
    for number in range(ASKED):
        given = {
            "serial": serial(1 + number % min(life.devices, YEAR_DEVICES)),
            "fields": FIELDS,
            "from": instant_text(life.now_ms - span_ms),
        }
        asked = msgspec.convert(given, op.input)
        read = partial(execute, op=op, principal=caller, site=SITE, given=asked)
        began_s = time.monotonic()
        found = await life.store.read(read)
        msgspec.json.encode(found)
        took_ms.append((time.monotonic() - began_s) * 1_000)
        assert isinstance(found, Series)
        points = len(found.at)
    return statistics.median(took_ms), points
