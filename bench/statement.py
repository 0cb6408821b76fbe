"""How long the statement of a large company takes, over a year of blocks and heard days."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.bulk_fleet import COMPANY_ID, Values, serial
from bench.engines import ENGINES, NAMES, Database, new_database
from bench.row import Row
from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, pool_name, prepaid_name, transfer_id
from gateway.domain.rights import GATEWAY
from gateway.domain.statements import instant_of
from gateway.jobs import months
from gateway.operations import all as every_module
from gateway.operations.booking import CONSUMED, ISSUER
from gateway.operations.month_marks import keep_rolled_up
from gateway.operations.registry import execute, operations
from gateway.storage.store import Store
from gateway.storage.transaction import Transaction
from tests.contract.world import SITE
from tests.databases import store_of

DEVICES = 10_000
PERIODS = 12
SECONDS_MAX = 2.0
MONTHS = 12
_YEAR = 2026
_BEGIN_MS = instant_of(date(_YEAR, 1, 1))
_SPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed."""

    device_s: float
    csv_s: float
    child_s: float
    before_s: float  # while the last month is not rolled up
    mib: float


def rows(folder: Path) -> list[Row]:
    """The gate on both engines."""
    return [_row(folder, engine) for engine in ENGINES]


def _row(folder: Path, engine: str) -> Row:
    found = measure(folder / f"statement-{engine}", engine)
    return Row(
        f"statement of {DEVICES:,} devices over a year, {NAMES[engine]}",
        f"{found.device_s:.2f} s as JSON ({found.mib:.1f} MiB), {found.csv_s:.2f} s as CSV",
        f"by child {found.child_s:.2f} s; while the last month runs {found.before_s:.2f} s",
        f"≤ {SECONDS_MAX:.0f} s",
        max(found.device_s, found.csv_s, found.child_s, found.before_s) <= SECONDS_MAX,
    )


def measure(folder: Path, engine: str, *, devices: int = DEVICES) -> Figures:
    """A year of one company whose devices are extended every 30 days and heard every day."""
    with new_database(engine, folder) as database:
        return asyncio.run(_measure(database, devices))


async def _measure(database: Database, devices: int) -> Figures:
    now_ms = _BEGIN_MS + 366 * DAY_MS
    store = store_of(database.address, lambda: now_ms)
    try:
        await store.write(lambda tx: _add_company(tx, devices))
        for table, some in _year(devices):
            await store.write(partial(_add, table=table, some=some))
        database.settle()
        while await store.write(months.close):
            pass
        await store.write(lambda tx: keep_rolled_up(tx, _YEAR * 100 + MONTHS - 1))
        before_s, _ = await _asked(store)
        while await store.write(months.roll_up):
            pass
        database.settle()
        device_s, made = await _asked(store)
        csv_s, _ = await _asked(store, format="csv")
        child_s, _ = await _asked(store, group_by="child")
        assert len(made.devices) == devices
        assert made.complete
        assert all(one.days_paid == PERIODS * DAYS_PER_CREDIT for one in made.devices)
        assert all(one.days_heard == PERIODS * DAYS_PER_CREDIT for one in made.devices)
        size = len(msgspec.json.encode(made)) / 2**20
        return Figures(device_s, csv_s, child_s, before_s, size)
    finally:
        store.close()


async def _asked(store: Store, **more: Any) -> tuple[float, Any]:
    """The median of three, encoded as the API does."""
    assert every_module.MODULES
    op = next(one for one in operations() if one.name == "companies.statement")
    asked = {"company_id": str(COMPANY_ID), "from": "2026-01", "to": "2026-12", **more}
    given = msgspec.convert(asked, op.input)
    took = []
    for _ in range(3):
        begin_s = time.monotonic()
        made = await store.read(lambda tx: execute(tx, op, GATEWAY, SITE, given))
        msgspec.json.encode(made)
        took.append(time.monotonic() - begin_s)
    return sorted(took)[1], made


def _add(tx: Transaction, table: str, some: list[Values]) -> None:
    tx.add_rows(table, list(some[0]), [list(row.values()) for row in some])


def _add_company(tx: Transaction, devices: int) -> None:
    company: Values = {
        "name": "Bench",
        "name_key": "bench",
        "plan": "block",
        "use_parent_credits": False,
        "grace_days": 3,
        "extend_unheard": False,
        "reference": "K-1",
        "created_at": _BEGIN_MS,
    }
    path: Values = {"ancestor_id": COMPANY_ID, "descendant_id": COMPANY_ID, "depth": 0}
    place: Values = {"company_id": COMPANY_ID, "path": str(COMPANY_ID), "at": _BEGIN_MS}
    pool: Values = {
        "name": pool_name(COMPANY_ID, None, free=False, redeemed=False),
        "kind": "pool",
        "company_id": COMPANY_ID,
        "free": False,
        "redeemed": False,
        "balance": 0,
    }
    for table, row in (
        ("company", company),
        ("company_path", path),
        ("company_place", place),
        ("account", pool),
    ):
        tx.add_rows(table, list(row), [list(row.values())])
    ((pool_id,),) = tx.fetch("SELECT id FROM account WHERE name = ?", (pool["name"],))
    grant = devices * PERIODS * DAYS_PER_CREDIT
    first = _transfer(0, Kind.GRANT, ISSUER, pool_id, grant, None)
    tx.add_rows("transfer", list(first), [list(first.values())])


def _year(devices: int) -> Iterator[tuple[str, list[Values]]]:
    """Devices that are all served to the end: charged and used up every 30 days."""
    ids = range(1, devices + 1)
    yield "device", [_device(id_) for id_ in ids]
    pool_id = CONSUMED + 3  # after the four that the first migration makes
    accounts: list[Values] = [
        {
            "name": prepaid_name(id_),
            "kind": "prepaid",
            "device_id": id_,
            "free": False,
            "redeemed": False,
            "balance": 0,
        }
        for id_ in ids
    ]
    yield "account", accounts
    for period in range(PERIODS):
        some: list[Values] = []
        for id_ in ids:
            n = 2 * (period * devices + id_)
            kind = Kind.EXTEND if period else Kind.ACTIVATE
            ends = pool_id, pool_id + id_
            some.append(_transfer(n, kind, *ends, DAYS_PER_CREDIT, id_, period))
            some.append(
                _transfer(n + 1, Kind.SERVE, ends[1], CONSUMED, DAYS_PER_CREDIT, id_, period)
            )
        yield "transfer", some
    # As the job leaves them; the last month is still to be rolled up.
    for month in range(1, MONTHS):
        rolled: list[Values] = [
            {
                "company_id": COMPANY_ID,
                "month": _YEAR * 100 + month,
                "device_id": id_,
                "days": DAYS_PER_CREDIT,
                "paid_days": 0,
                "free_days": 0,
            }
            for id_ in ids
        ]
        yield "monitored_month", rolled
    december = instant_of(date(_YEAR, MONTHS, 1)) // DAY_MS
    for day in range(december, december + DAYS_PER_CREDIT):
        heard: list[Values] = [
            {"device_id": id_, "day": day, "company_id": COMPANY_ID, "payer_id": COMPANY_ID}
            for id_ in ids
        ]
        yield "monitored_day", heard


def _device(id_: int) -> Values:
    return {
        "serial": serial(id_),
        "company_id": COMPANY_ID,
        "registered": True,
        "name": f"router {id_}",
        "tags": "[]",
        "notes": "",
        "reference": f"A-{id_}",
        "registered_at": _BEGIN_MS,
        "first_heard_at": _BEGIN_MS,
        "start": "on_contact",
        "auto_extend": True,
        "state": "off",
        "reason": "unheard",
    }


def _transfer(
    n: int, kind: Kind, source: int, target: int, days: int, device: int | None, period: int = 0
) -> Values:
    operation_id = str(uuid.uuid5(_SPACE, str(n)))
    paying = kind in (Kind.ACTIVATE, Kind.EXTEND)
    return {
        "id": transfer_id(operation_id, 0),
        "operation_id": operation_id,
        "kind": kind.value,
        "from_account": source,
        "to_account": target,
        "days": days,
        "free": False,
        "company_id": COMPANY_ID,
        "company_path": str(COMPANY_ID),
        "device_id": device,
        "serial": None if device is None else serial(device),
        "payer_company_id": None if device is None else COMPANY_ID,
        "payer_path": str(COMPANY_ID) if paying else "",
        "actor": "gateway",
        "cause": "bench",
        "note": "",
        "at": _BEGIN_MS + period * DAYS_PER_CREDIT * DAY_MS,
    }
