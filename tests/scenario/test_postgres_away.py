"""PostgreSQL away, crashed, standing still or cutting connections: what was promised stays kept."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import SummaryRow
from tests.postgres import PostgresCluster
from tests.scenario.engines import DATABASE_NAME, running_cluster
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.history_checker import Journal, check, stored_samples
from tests.scenario.http_api import Answer, Api
from tests.scenario.installation import Installation
from tests.scenario.tunnel import ECHO, Echo, connecting, router, until_true

DEMO = 1
DEVICES = 40
INTERVAL_S = 1
GATEWAYS = 2
AWAY_S, AWAY_LONG_S = 12.0, 60.0
STANDS_STILL_S = 12.0
# What waited for the database in a gateway is stored late, with the time at which it came in.
ERROR_MS_MAX = 5_000
SETTLE_S_MAX = 90.0
NOTICED_S_MAX = 15.0
BACK_S_MAX = 40.0
CUT_S, CUT_EVERY_S = 10.0, 0.2
ACTIVATED = 150
CALLERS = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """Agents, and a visitor with an open stream, around a database that a test controls."""

    cluster: PostgresCluster
    installation: Installation
    apis: list[Api]
    company: str
    fleet: Fleet
    stream: Echo

    @property
    def api(self) -> Api:
        return self.apis[0]

    def pids(self) -> dict[str, int]:
        return dict(self.installation.facts()["pids"])

    def changes(self) -> list[tuple[object, ...]]:
        """All that presence ever told."""
        return self.installation.rows(
            "SELECT device_id, before, presence FROM presence_change ORDER BY id"
        )


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster())
        installation = Installation(
            folder,
            ("--demo", str(DEMO)),
            database=cluster.url(DATABASE_NAME),
            gateways=GATEWAYS,
        )
        stack.callback(installation.end)
        await asyncio.to_thread(installation.start)
        api = installation.api
        company = api.company("Watched")
        api.grant(company, DEVICES + 3 * ACTIVATED)
        join = api.join_code(company, DEVICES)
        fleet = Fleet(installation, join, DEVICES, 1_850_000_001, INTERVAL_S, folder / "fleet")
        stack.callback(fleet.kill)
        fleet.start()
        await asyncio.to_thread(until_online, api, DEMO + DEVICES)
        async with connecting(installation, folder, f"{router(1)}:{ECHO}") as running:
            stream = await running.echo()
            yield Scene(cluster, installation, installation.apis, company, fleet, stream)
        assert not installation.tracebacks()


def insist_it_is_said(api: Api) -> None:
    """The gateway is alive, not ready, and tells everybody why and what to do."""
    assert api.ask("GET", "//healthz").status == 200
    ready = api.ask("GET", "//readyz")
    assert ready.status == 503
    (database,) = [one for one in ready.json["checks"] if one["name"] == "database"]
    assert not database["ok"]
    assert "database" in database["why"]
    for answer in (api.ask("GET", "/devices"), api.ask("POST", "/companies", {"name": "Not now"})):
        assert answer.status == 503, answer.body
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.code == "unavailable"
        assert "database" in answer.json["detail"]


async def insist_nothing_came_of_it(
    found: Scene, pids: dict[str, int], changes: list[tuple[object, ...]]
) -> str:
    """Afterwards: the same processes, every sample once, nobody was called late."""

    async def ready() -> bool:
        return await asyncio.to_thread(lambda: all(api.ready() for api in found.apis))

    await until_true(ready, "ready again", within_s=BACK_S_MAX)
    await asyncio.to_thread(until_online, found.api, DEMO + DEVICES)
    journal, now_ms = Journal(), time.time_ns() // 1_000_000

    async def settled() -> bool:
        return not journal.read([found.fleet.journal]).unreceipted(now_ms)

    await until_true(settled, "every sample is receipted", within_s=SETTLE_S_MAX)
    assert found.pids() == pids
    assert found.changes() == changes
    await found.stream.says(b"the same stream as before")
    # What is stored afterwards was made by nobody any more.
    await asyncio.to_thread(found.fleet.stop)
    journal.read([found.fleet.journal])
    answers = {serial: found.api.heartbeats(serial) for serial in found.fleet.serials}
    findings = check(journal, stored_samples(answers), settled_ms=now_ms, error_ms_max=ERROR_MS_MAX)
    findings.insist()
    devices = found.api.devices(found.company).values()
    assert sum(one["counters"]["lost"] + one["counters"]["dropped"] for one in devices) == 0
    await asyncio.to_thread(found.installation.insist_verified)
    return f"{findings.summary()}; largest error {findings.latest_error_ms} ms"


async def goes_on(found: Scene, away_s: float) -> None:
    """The absence itself, in which the visitor's stream and `/healthz` go on."""
    until_s = time.monotonic() + away_s
    while time.monotonic() < until_s:
        await found.stream.says(os.urandom(10_000))
        for api in found.apis:
            assert (await asyncio.to_thread(api.ask, "GET", "//healthz")).status == 200
        await asyncio.sleep(0.5)


async def away(
    folder: Path, strike: Callable[[Scene], None], heal: Callable[[Scene], None], away_s: float
) -> str:
    async with scene(folder) as found:
        pids, changes = found.pids(), found.changes()
        await asyncio.to_thread(strike, found)

        async def noticed() -> bool:
            return not any([await asyncio.to_thread(api.ready) for api in found.apis])

        await until_true(noticed, "both gateways notice", within_s=NOTICED_S_MAX)
        for api in found.apis:
            await asyncio.to_thread(insist_it_is_said, api)
        await goes_on(found, away_s)
        await asyncio.to_thread(heal, found)
        return await insist_nothing_came_of_it(found, pids, changes)


def stop(found: Scene) -> None:
    found.cluster.stop()


def crash(found: Scene) -> None:
    found.cluster.stop("immediate")


def start(found: Scene) -> None:
    found.cluster.start()


@pytest.mark.timeout(180)
async def test_a_database_that_is_away_costs_only_time(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    text = await away(tmp_path, stop, start, AWAY_S)
    summary_row("PostgreSQL away", f"{AWAY_S:.0f} s", text)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("strike", [stop, crash])
async def test_a_database_that_is_away_for_long_costs_only_time(
    tmp_path: Path, strike: Callable[[Scene], None], summary_row: SummaryRow
) -> None:
    text = await away(tmp_path, strike, start, AWAY_LONG_S)
    summary_row(f"PostgreSQL away ({strike.__name__})", f"{AWAY_LONG_S:.0f} s", text)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_database_that_stands_still_costs_only_time(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    """Connections hang and do not break."""
    async with scene(tmp_path) as found:
        pids, changes = found.pids(), found.changes()
        found.cluster.pause()
        await goes_on(found, STANDS_STILL_S)
        for api in found.apis:
            ready = await asyncio.to_thread(api.ask, "GET", "//readyz")
            assert ready.status == 503
            assert "database" in {one["name"] for one in ready.json["checks"] if not one["ok"]}
        found.cluster.resume()
        text = await insist_nothing_came_of_it(found, pids, changes)
    summary_row("PostgreSQL stands still", f"{STANDS_STILL_S:.0f} s", text)


def activate(api: Api, serial: str) -> Answer:
    return api.ask("POST", f"/devices/{serial}/activate", {}, key=f"activate {serial}")


def activate_in_the_end(apis: list[Api], serial: str) -> int:
    """Asks with the same key, at one gateway and the other, until it is done: how often."""
    for asked in range(1, 200):
        answer = activate(apis[asked % len(apis)], serial)
        if answer.status == 200:
            return asked
        assert answer.status == 503, (answer.status, answer.body)
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.05)  # sooner than asked for, and still a pause
    raise AssertionError(f"{serial} was never activated")


def cut_connections(url: str, seconds: float) -> int:
    """Ends all other sessions of the database again and again; how many."""
    ended, until_s = 0, time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until_s:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
            ended += len(rows)
            time.sleep(CUT_EVERY_S)  # the strike's own rhythm
    return ended


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_connections_that_are_cut_charge_nobody_twice(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    async with scene(tmp_path) as found:
        pids, changes = found.pids(), found.changes()
        company = found.api.company("Cut")
        found.api.grant(company, ACTIVATED + 1)
        serials = [str(1_860_000_001 + index) for index in range(ACTIVATED)]
        for serial in serials:
            found.api.register(serial, company, activate="later")

        def activated() -> int:
            with ThreadPoolExecutor(CALLERS) as pool:
                return sum(pool.map(lambda one: activate_in_the_end(found.apis, one), serials))

        url = found.cluster.url(DATABASE_NAME)
        ended, asked = await asyncio.gather(
            asyncio.to_thread(cut_connections, url, CUT_S), asyncio.to_thread(activated)
        )
        assert ended, "vacuous: nothing was cut"
        rows = found.api.ledger(company=company, kind="activate")
        assert sorted(row["serial"] for row in rows) == serials
        assert {row["days"] for row in rows} == {30}
        assert found.api.credits(company)["credits"] == 1
        text = await insist_nothing_came_of_it(found, pids, changes)
    summary_row(
        "connections to PostgreSQL cut",
        f"{ended} in {CUT_S:.0f} s",
        f"{ACTIVATED} activations charged once, {asked} requests; {text}",
    )
