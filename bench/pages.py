"""How long people wait: lists and search of 100,000 devices, a year's plot, the fleet page."""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import psycopg

from bench.bulk_fleet import COMPANY_ID, BulkFleet, serial
from bench.engines import ENGINES, NAMES, Database, new_database
from bench.large_fleet import COMPANIES, LargeFleet
from bench.row import Row
from gateway.command.gateway import tune_collector
from gateway.domain.history import HOURS_A_DAY, Level, Sample, roll_up
from gateway.domain.history import NOTHING as NO_VALUES
from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.rights import Role
from gateway.storage import history_rows
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, api_server
from wire.fields import BY_NAME

DEVICES = 100_000
ROUNDS = 40
LIST_MS_MAX, SEARCH_MS_MAX, SERIES_MS_MAX, PAGE_MS_MAX = 50, 150, 500, 300
# Few, many, and none of the devices; what people combine.
LISTS: list[dict[str, str]] = [
    {},
    {"q": "kiosk 99"},
    {"q": "kiosk"},
    {"q": "nobody has it"},
    {"q": "1E:42:01:0"},
    {"presence": "late"},
    {"state": "off"},
    {"tag": "site 9", "presence": "online"},
    {"operator": "LMT", "state": "active"},
    {"signal": "none", "q": "kiosk"},
    {"days_left_max": "3", "presence": "offline"},
    {"company": "2", "q": "kiosk"},
]
SORTS = ("name", "-last_heard", "company", "days_left", "signal", "-firmware")
TYPED = ("1100", "kiosk", "kiosk 99", "vilnius", "1E:42:01", "860000000099", "zzz", "a")
_RSRP, _RECEIVED = BY_NAME["rsrp"].id, BY_NAME["mobile_received"].id


@dataclass(slots=True)
class Waited:
    """Milliseconds over HTTP, by what was asked."""

    took: dict[str, list[float]] = field(default_factory=dict)

    def p99(self, what: str) -> float:
        """The time that one in a hundred exceeds."""
        times = sorted(self.took[what])
        return times[min(len(times) - 1, int(len(times) * 0.99))]

    def median(self, what: str) -> float:
        """The time that half of them exceed."""
        return sorted(self.took[what])[len(self.took[what]) // 2]

    def text(self, what: str) -> str:
        """Both."""
        return f"p50 {self.median(what):.0f} ms, p99 {self.p99(what):.0f} ms"


def rows(folder: Path) -> list[Row]:
    """The gates on both engines."""
    return [row for engine in ENGINES for row in _rows(folder, engine)]


def _rows(folder: Path, engine: str) -> list[Row]:
    found = measure(folder / f"pages-{engine}", engine)
    large = f"{DEVICES:,} devices of {COMPANIES} companies, {NAMES[engine]}"
    gates = (
        ("first page of the list, filtered and searched", "list", LIST_MS_MAX),
        ("search as one types", "search", SEARCH_MS_MAX),
        ("a year's plot of one device", "series", SERIES_MS_MAX),
        ("fleet page to its first byte", "page", PAGE_MS_MAX),
    )
    beside = {
        "list": f"in another order {found.text('sorted')}",
        "page": f"counts {found.text('counts')}; menus {found.text('facets')}",
    }
    return [
        Row(
            f"{what}, {large}",
            found.text(name),
            beside.get(name, ""),
            f"≤ {ms_max} ms",
            found.p99(name) <= ms_max,
        )
        for what, name, ms_max in gates
    ]


def measure(folder: Path, engine: str, *, devices: int = DEVICES, rounds: int = ROUNDS) -> Waited:
    """Asks a server at work, one request after the other, as somebody with a role at the top."""
    tune_collector()  # as the gateway does
    with new_database(engine, folder) as database:
        return asyncio.run(_measure(folder, database, devices, rounds))


async def _measure(folder: Path, database: Database, devices: int, rounds: int) -> Waited:
    waited = Waited()
    async with api_server(folder, database.address) as server:
        await _fill(server, devices)
        _compact(database)
        database.settle()
        for number in range(rounds):
            for given in LISTS:
                await _ask(server, waited, "list", "/api/v1/devices", {"limit": "50", **given})
            for sort in SORTS if number < rounds // 4 else ():
                asked = {"limit": "50", "sort": sort}
                await _ask(server, waited, "sorted", "/api/v1/devices", asked)
            for typed in TYPED:
                await _ask(server, waited, "search", "/api/v1/search", {"q": typed})
            await _ask(server, waited, "counts", "/api/v1/devices/counts", {})
            await _ask(server, waited, "facets", "/api/v1/devices/facets", {})
            await _ask(server, waited, "page", "/devices", {})
            await _plot(server, waited)
    return waited


def _compact(database: Database) -> None:
    """Each row was written three times, which no fleet that grows does."""
    if isinstance(database.address, str):
        with psycopg.connect(database.address, autocommit=True) as connection:
            connection.execute("VACUUM FULL device, device_live, device_latest, device_search")


async def _fill(server: ApiServer, devices: int) -> None:
    now_ms = server.clock.wall_ms()
    fleet = BulkFleet(devices, now_ms - 60 * DAY_MS, now_ms + 10 * DAY_MS, now_ms)
    large = LargeFleet(fleet)
    await server.store.write(fleet.add)
    await server.store.write(large.companies)
    for ids in large.parts():
        await server.store.write(partial(large.devices, ids=ids))
    await server.store.write(partial(_lived, now_ms=now_ms))
    columns = ("person_id", "company_id", "role", "created_at")
    role = [(1, COMPANY_ID, Role.ADMINISTRATOR.value, now_ms)]
    await server.store.write(lambda tx: tx.add_rows("membership", columns, role))


def _lived(tx: Transaction, now_ms: int) -> None:
    """For the first device every hour and every day of a year."""
    samples = [Sample(now_ms, 1, {_RSRP: -90, _RECEIVED: 1_000}), Sample(now_ms, 1, {_RSRP: -95})]
    rolled = roll_up(NO_VALUES, samples)
    for level, per_day in ((Level.HOUR, HOURS_A_DAY), (Level.DAY, 1)):
        last = now_ms // DAY_MS * per_day
        periods = ((period, rolled) for period in range(last - 365 * per_day, last))
        history_rows.keep(tx, level, list(history_rows.packed_rows(1, periods)))
        done = history_rows.Progress(last, last)
        history_rows.go_on(tx, history_rows.rolled_up_name(level), None, done)


async def _plot(server: ApiServer, waited: Waited) -> None:
    asked = {
        "fields": "rsrp,mobile_received",
        "from": instant_text(server.clock.wall_ms() - 365 * DAY_MS),
    }
    path = f"/api/v1/devices/{serial(1)}/series"
    answer = await _ask(server, waited, "series", path, asked)
    assert len(msgspec.json.decode(answer)["at"]) > 360


async def _ask(
    server: ApiServer, waited: Waited, what: str, path: str, asked: dict[str, str]
) -> bytes:
    """One request, to the last byte; a page to its first."""
    headers = {"Authorization": f"Bearer {server.token}"}
    begin_s = time.perf_counter()
    async with server.client.get(server.url + path, params=asked, headers=headers) as response:
        body = b"" if what == "page" else await response.read()
        took_ms = (time.perf_counter() - begin_s) * 1_000
        body = body or await response.read()
    assert response.status == 200, (path, asked, response.status, body[:500])
    assert what != "page" or serial(1).encode() in body
    waited.took.setdefault(what, []).append(took_ms)
    return body
