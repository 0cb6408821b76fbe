"""The running jobs watch the clock: status, metrics and the list of errors say what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.clock_guard import ClockGuard
from gateway.domain.clock_trust import Caution
from gateway.domain.instants import HOUR_MS
from gateway.jobs.housekeeping import begin
from gateway.jobs.schedule import Schedule
from gateway.storage.address import Address
from gateway.storage.locks import Tree
from tests.api_server import ApiServer, MovableClock, api_server, everything_works
from tests.integration.supervised import until

HTML = {"Accept": "text/html,application/xhtml+xml"}


class SteppedClock(MovableClock):
    """The real clocks, of which a test sets the one without the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped_ms = 0
        self.lived_ms = 0

    def unmoved(self) -> tuple[int, int]:
        wall_ms, boot_ms = super().unmoved()
        return wall_ms + self.lived_ms + self.stepped_ms, boot_ms + self.lived_ms


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


@asynccontextmanager
async def at_work(server: ApiServer, guard: ClockGuard) -> AsyncIterator[None]:
    """The jobs of a gateway beside the server."""
    schedule = Schedule(server.store, server.clock, server.telemetry, guard=guard)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(schedule.run())
        try:
            yield
        finally:
            task.cancel()


async def metric(server: ApiServer, name: str) -> float:
    text = (await server.ask("GET", "/metrics"))[1].decode()
    (line,) = (line for line in text.splitlines() if line.startswith(f"fleetgate_{name} "))
    return float(line.rpartition(" ")[2])


async def test_a_step_is_told_everywhere_until_it_is_accepted(server: ApiServer) -> None:
    clock = SteppedClock()
    guard = ClockGuard(clock)
    telemetry = server.telemetry
    async with at_work(server, guard):
        await until(lambda: telemetry.jobs_at_ms.get("periods"))
        assert (await server.done("GET", "/status"))["clock"]["to_do"] is None
        clock.stepped_ms = HOUR_MS
        await until(lambda: telemetry.clock.doubt)
        found = await server.done("GET", "/status")
        assert "by +3,600 s" in found["clock"]["in_doubt"]
        assert found["clock"]["in_doubt"] == found["clock_in_doubt"]
        assert found["clock"]["in_doubt_since"].endswith("Z")
        assert "fleetgate admin clock accept" in found["clock"]["to_do"]
        assert found["errors"]["clock_in_doubt"] == 1
        assert await metric(server, "clock_in_doubt") == 1
        # The gateway works, and says so.
        everything_works(server)
        assert (await server.ask("GET", "/readyz", token=None))[0] == 200
        await server.done("POST", "/api/v1/clock/accept", {})
        await until(lambda: not telemetry.clock.doubt)
        assert await metric(server, "clock_in_doubt") == 0
    assert server.telemetry.errors["clock_in_doubt"] == 1


async def test_an_uncertain_start_is_told_until_it_is_accepted(server: ApiServer) -> None:
    await server.store.write(begin, tree=Tree.ALONE)
    server.clock.moved_ms += 48 * HOUR_MS
    await server.store.write(begin, tree=Tree.ALONE)
    telemetry = server.telemetry
    async with at_work(server, ClockGuard(SteppedClock())):
        await until(lambda: telemetry.clock.caution)
        found = await server.done("GET", "/status")
        assert found["clock"]["in_doubt"] is found["clock_in_doubt"] is None
        assert "no sign of life for 4" in found["clock"]["waiting_for"]
        assert await metric(server, "clock_not_accepted") == 1
        _, page, _ = await server.ask("GET", "/status", headers=HTML)
        assert b"fleetgate admin clock accept" in page
        answer = await server.done("POST", "/api/v1/clock/accept", {})
        assert "no sign of life" in answer["was_waited_for"] and answer["was_in_doubt"] is None
        await until(lambda: not telemetry.clock.caution)
        assert await metric(server, "clock_not_accepted") == 0


def test_a_caution_is_over_after_a_day() -> None:
    assert not Caution("why", 0, 0, 24 * HOUR_MS - 1).over
    assert Caution("why", 0, 0, 24 * HOUR_MS).over
