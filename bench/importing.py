"""How long an import of devices takes through the API, and how long heartbeats wait meanwhile."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mqtt5
from sqlalchemy import insert

from bench.bulk_fleet import COMPANY_ID, NODE, BulkFleet
from bench.engines import ENGINES, NAMES, Database, new_database
from bench.heartbeats import Reports
from bench.row import Row
from gateway.clock import Clock
from gateway.command.gateway import tune_collector
from gateway.command.verify import verify
from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.rights import Role
from gateway.ingest.batch import BATCH_WAIT_S, RECEIPT_EVERY, Terms
from gateway.ingest.intake import Intake
from gateway.ingest.relay_desk import RelayDesk
from gateway.storage.schema import membership
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, api_server

LINES = 5_000
SECONDS_MAX = 10.0
WAIT_MS_MAX = 1_000.0
DEVICES = 20_000  # that report meanwhile
HEARTBEATS_PER_S = 2_000
BATCH_MESSAGES = int(HEARTBEATS_PER_S * BATCH_WAIT_S)
QUIET_S = 2.0  # of heartbeats alone, before
MESSAGES = 120 * HEARTBEATS_PER_S


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed: of lines that begin at contact, of lines that are paid, of an undo."""

    seconds: float
    wait_ms: float  # the longest of a batch of heartbeats
    paid_s: float
    paid_wait_ms: float
    undo_s: float
    undo_wait_ms: float
    export_s: float
    before_ms: float  # the longest wait before anything was imported


def rows(folder: Path) -> list[Row]:
    """The gate on both engines."""
    return [_row(folder, engine) for engine in ENGINES]


def _row(folder: Path, engine: str) -> Row:
    found = measure(folder / f"importing-{engine}", engine)
    return Row(
        f"import of {LINES:,} lines, {NAMES[engine]}, beside {HEARTBEATS_PER_S:,} heartbeats/s",
        f"{found.seconds:.1f} s, a batch of heartbeats waited {found.wait_ms:.0f} ms at most; "
        f"each with a credit {found.paid_s:.1f} s, {found.paid_wait_ms:.0f} ms",
        f"before {found.before_ms:.0f} ms; undo of the paid {found.undo_s:.1f} s, "
        f"{found.undo_wait_ms:.0f} ms; export {found.export_s:.1f} s",
        f"≤ {SECONDS_MAX:.0f} s, ≤ 1 s",
        max(found.seconds, found.paid_s) <= SECONDS_MAX
        and max(found.wait_ms, found.paid_wait_ms) <= WAIT_MS_MAX,
    )


def measure(folder: Path, engine: str) -> Figures:
    """Imports through the API of a gateway that takes heartbeats of other devices meanwhile."""
    tune_collector()
    with new_database(engine, folder) as database:
        figures = asyncio.run(_measure(database, folder))
        wrong = [text for check in verify(database.address) for text in check.findings]
        assert not wrong, wrong
        return figures


async def _measure(database: Database, folder: Path) -> Figures:
    now_ms = Clock().wall_ms()
    fleet = BulkFleet(
        DEVICES, now_ms - 10 * DAY_MS, now_ms + 20 * DAY_MS, now_ms - HOUR_MS, 2 * LINES
    )
    async with api_server(folder, database.address) as server:
        await server.store.write(fleet.add)
        await server.store.write(_join_company)
        database.settle()
        reporting = _Reporting(server, fleet)
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(one) for one in reporting.tasks()]
            await asyncio.sleep(QUIET_S)
            before_ms = reporting.longest_ms()
            seconds = await _imported(server, "a", "on_contact")
            wait_ms = reporting.longest_ms()
            paid_s = await _imported(server, "b", True)
            paid_wait_ms = reporting.longest_ms()
            begin_s = time.monotonic()
            await server.done("GET", "/api/v1/devices/export?format=json&limit=20000")
            export_s = time.monotonic() - begin_s
            reporting.longest_ms()
            begin_s = time.monotonic()
            listed = await server.done("GET", "/api/v1/devices/imports")
            await server.done("POST", f"/api/v1/devices/imports/{listed['items'][0]['id']}/undo")
            undo_s = time.monotonic() - begin_s
            undo_wait_ms = reporting.longest_ms()
            for task in working:
                task.cancel()
        return Figures(
            seconds, wait_ms, paid_s, paid_wait_ms, undo_s, undo_wait_ms, export_s, before_ms
        )


async def _imported(server: ApiServer, first: str, activate: bool | str) -> float:
    lines = [
        f"{first}{n:09d},Pump {n},{first}-{n},00:1E:42:{n >> 8:02X}:{n & 255:02X}:{ord(first):02X},"
        f'north|{n % 7},"in the shed, behind the gate",ASSET-{n}'
        for n in range(LINES)
    ]
    csv = "\n".join(["serial,name,alias,mac,tags,notes,reference", *lines])
    body: dict[str, Any] = {"company_id": str(COMPANY_ID), "csv": csv, "activate": activate}
    begin_s = time.monotonic()
    made = await server.done("POST", "/api/v1/devices/import", body)
    seconds = time.monotonic() - begin_s
    assert made["new"] == LINES
    return seconds


def _join_company(tx: Transaction) -> None:
    tx.run(
        insert(membership),
        {
            "person_id": 1,
            "company_id": COMPANY_ID,
            "role": Role.ADMINISTRATOR.value,
            "created_at": tx.now_ms,
        },
    )


class _Reporting:
    """Heartbeats at one rate, and how long they wait."""

    def __init__(self, server: ApiServer, fleet: BulkFleet) -> None:
        self._telemetry = server.telemetry
        desk = RelayDesk(server.store, server.clock, server.telemetry)
        self._clock = server.clock
        self._intake = Intake(
            server.store, server.clock, server.telemetry, self._terms, lambda _: None, desk
        )
        reports = Reports(random.Random(1), fleet)
        self._packets = [packet.write() for packet in reports.packets(MESSAGES)]
        self._longest_ms = 0.0

    def tasks(self) -> list[Any]:
        return [self._intake.run(), self._report()]

    def longest_ms(self) -> float:
        """Since it was last asked."""
        found = self._telemetry.batch_ms_max
        self._telemetry.batch_ms_max = 0.0
        return found

    def _terms(self) -> Terms:
        return Terms(NODE, self._clock.wall_ms(), RECEIPT_EVERY, 50)

    async def _report(self) -> None:
        """So many each second, whatever becomes of them."""
        next_s = time.monotonic()
        for start in range(0, len(self._packets), BATCH_MESSAGES):
            for data in self._packets[start : start + BATCH_MESSAGES]:
                packet, _ = mqtt5.read(memoryview(data))
                assert isinstance(packet, mqtt5.PublishPacket)
                self._intake.deliver(packet)
            next_s += BATCH_WAIT_S
            await asyncio.sleep(next_s - time.monotonic())
