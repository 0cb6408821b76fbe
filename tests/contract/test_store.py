"""The store when the disk is full, when the writer meets a bug, and when it ends."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.api.health import Check, Health
from gateway.clock import Clock
from gateway.storage.installation_facts import get, put
from gateway.storage.migrate import migrate
from gateway.storage.sqlite import SqliteStore
from gateway.storage.store import Lane, StoreClosed, StoreUnable
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry

LARGE = "x" * 400_000
NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    path = tmp_path / "fleetgate.db"
    migrate(path)
    store = SqliteStore(path, lambda: NOW_MS)
    yield store
    store.close()


def fill(tx: Transaction) -> None:
    """From here on the file may not grow: what SQLite does when the disk is full."""
    pages = tx.scalar(text("PRAGMA page_count"))
    tx.scalar(text(f"PRAGMA max_page_count = {pages + 2}"))


def make_room(tx: Transaction) -> None:
    tx.scalar(text("PRAGMA max_page_count = 1073741823"))


def putting(key: str, value: str) -> Any:
    return lambda tx: put(tx, key, value)


async def has(store: SqliteStore, key: str) -> bool:
    return await store.read(lambda tx: get(tx, key)) is not None


async def together(store: SqliteStore, *functions: Any, lane: Lane) -> list[Any]:
    """All of them wait before the first one is begun, so that they share a commit."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        begun.set()
        assert go_on.wait(10)

    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(store.write(hold))
        await asyncio.to_thread(begun.wait, 10)
        rest = asyncio.gather(
            *[store.write(one, lane=lane) for one in functions], return_exceptions=True
        )
        await asyncio.sleep(0)
        waiting = store.waiting()
        go_on.set()
        await holding
    assert waiting == len(functions)
    return await rest


@pytest.mark.parametrize("lane", [Lane.PEOPLE, Lane.INGEST])
async def test_nobody_is_told_that_something_is_kept_which_a_full_disk_took_away(
    store: SqliteStore, lane: Lane
) -> None:
    """SQLite may give up the whole transaction, and with it the work of all others in it."""
    await store.write(fill)
    keys = ["first", "large", "last"]
    outcomes = await together(
        store,
        putting("first", "1"),
        putting("large", LARGE),
        putting("last", "3"),
        lane=lane,
    )
    for key, outcome in zip(keys, outcomes, strict=True):
        assert outcome is None or isinstance(outcome, StoreUnable), outcome
        assert await has(store, key) is (outcome is None), key
    assert isinstance(outcomes[1], StoreUnable)


async def test_a_full_disk_is_told_and_over_when_there_is_room_again(store: SqliteStore) -> None:
    assert store.trouble() == ""
    await store.write(fill)
    with pytest.raises(StoreUnable, match="full"):
        await store.write(putting("large", LARGE))
    assert "full" in store.trouble()
    await store.write(make_room)
    assert store.trouble() == ""
    await store.write(putting("large", LARGE))
    assert await has(store, "large")


async def test_an_error_of_one_in_a_shared_commit_is_its_own(store: SqliteStore) -> None:
    def bad(tx: Transaction) -> None:
        put(tx, "bad", "1")
        tx.run(text("INSERT INTO nowhere VALUES (1)"))

    first, second, third = await together(
        store, putting("a", "1"), bad, putting("b", "1"), lane=Lane.PEOPLE
    )
    assert first is None and third is None and "nowhere" in str(second)
    assert await has(store, "a") and await has(store, "b") and not await has(store, "bad")


async def test_a_refusal_is_told_once_its_reason_is_there_to_see(store: SqliteStore) -> None:
    """Of two at once the second is refused for what the first did in the same commit."""
    refused = threading.Event()

    async def refuse_and_look() -> bool:
        def refuse(tx: Transaction) -> None:
            raise KeyError(get(tx, "first"))

        with pytest.raises(KeyError, match="1"):
            await store.write(refuse)
        seen = await has(store, "first")
        refused.set()
        return seen

    def stay_open(_: Transaction) -> None:
        refused.wait(0.3)  # the commit cannot be over before somebody was told too early

    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        assert go_on.wait(10)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write(hold))
        await asyncio.to_thread(begun.wait, 10)
        tasks.create_task(store.write(putting("first", "1")))
        told = tasks.create_task(refuse_and_look())
        tasks.create_task(store.write(stay_open))
        await asyncio.sleep(0)
        assert store.waiting() == 3
        go_on.set()
    assert told.result()


async def test_a_writer_that_ends_is_never_silent(tmp_path: Path) -> None:
    path = tmp_path / "fleetgate.db"
    migrate(path)
    broken = False

    def now_ms() -> int:
        if broken:
            raise PermissionError("the clock's file")
        return NOW_MS

    store = SqliteStore(path, now_ms)
    await store.write(putting("a", "1"))
    broken = True
    with pytest.raises(StoreClosed):
        await store.write(putting("b", "1"))
    with pytest.raises(StoreClosed):
        await store.write(putting("c", "1"))
    assert store.trouble() == "the writer ended"
    store.close()


async def test_what_waits_when_the_writer_ends_is_told(tmp_path: Path) -> None:
    class Ended(BaseException):
        pass

    path = tmp_path / "fleetgate.db"
    migrate(path)
    store = SqliteStore(path, lambda: NOW_MS)

    def end(tx: Transaction) -> None:
        raise Ended

    outcomes = await together(store, end, putting("a", "1"), lane=Lane.JOBS)
    assert [type(outcome) for outcome in outcomes] == [StoreClosed, StoreClosed]
    store.close()


async def test_a_writing_process_beside_us_is_waited_for(store: SqliteStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(store.write(putting("a", "1")))
        done, _ = await asyncio.wait({writing}, timeout=0.3)
        assert not done
        other.execute("COMMIT")
    other.close()
    assert await has(store, "a")


async def test_a_gateway_that_cannot_store_is_not_ready(store: SqliteStore) -> None:
    """Its reads go on, so that a look at them alone would say that all is well."""
    health = Health(store, Telemetry(NOW_MS), Clock())

    async def database() -> Check:
        return next(one for one in (await health.readiness()).checks if one.name == "database")

    assert (await database()).ok
    await store.write(fill)
    with pytest.raises(StoreUnable):
        await store.write(putting("large", LARGE))
    found = await database()
    assert not found.ok and "full" in found.why
    await store.write(make_room)
    assert (await database()).ok
