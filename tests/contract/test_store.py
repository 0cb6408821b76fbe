"""The store: whole transactions, shared commits, consistent reads, signals, and its end."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from gateway.storage.migrate import SchemaTooNew, migrate
from gateway.storage.schema import installation
from gateway.storage.store import QUEUE_MAX, Lane, Store, StoreBusy, StoreClosed
from gateway.storage.transaction import Signal, Transaction
from tests.contract.world import BEGIN_MS, World


@pytest.fixture
def store(world: World) -> Store:
    """The world's own store."""
    return world.store


def put(key: str, *, then: Exception | None = None) -> Any:
    """A transaction that adds a row and may fail afterwards."""

    def run(tx: Transaction) -> str:
        tx.run(insert(installation), {"key": key, "value": str(tx.now_ms)})
        if then is not None:
            raise then
        return key

    return run


def keys(tx: Transaction) -> set[str]:
    return {row.key for row in tx.all(select(installation.c.key))} - {"alive_at"}


def test_one_that_fails_takes_nothing_and_nobody_with_it(world: World) -> None:
    outcomes = world.together(
        [put(f"key-{n}", then=KeyError("x") if n % 3 == 0 else None) for n in range(30)]
    )
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, KeyError) == (number % 3 == 0)
    assert world.read(keys) == {f"key-{n}" for n in range(30) if n % 3}


def test_one_that_breaks_a_rule_of_the_database_takes_nothing_either(world: World) -> None:
    outcomes = world.together([put("same") for _ in range(10)])
    assert outcomes.count("same") == 1 and world.read(keys) == {"same"}


def test_readers_cannot_write_and_see_one_state(world: World) -> None:
    with pytest.raises(Exception, match="readonly"):
        world.read(put("never"))

    async def both() -> tuple[int, int]:
        inside = asyncio.Event()
        loop = asyncio.get_running_loop()

        def count(tx: Transaction) -> tuple[int, int]:
            first = tx.scalar(select(func.count()).select_from(installation))
            loop.call_soon_threadsafe(inside.set)
            # Somebody writes and commits meanwhile.
            asyncio.run_coroutine_threadsafe(world.store.write(put("late")), loop).result(10)
            return first, tx.scalar(select(func.count()).select_from(installation))

        return await world.store.read(count)

    first, second = asyncio.run(both())
    assert first == second and "late" in world.read(keys)


def test_people_go_first_and_jobs_are_not_starved(store: Store) -> None:
    order: list[str] = []

    async def crowd() -> None:
        gate = asyncio.get_running_loop().create_future()

        def hold(_tx: Transaction) -> None:
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(gate, 10), loop).result(10)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.write(hold))
            await asyncio.sleep(0)
            for lane, count in ((Lane.JOBS, 3), (Lane.INGEST, 3), (Lane.PEOPLE, 3)):
                for _ in range(count):
                    tasks.create_task(store.write(partial(note, lane), lane=lane))
            await asyncio.sleep(0)
            gate.set_result(None)

    def note(lane: Lane, _tx: Transaction) -> None:
        order.append(lane.name)

    asyncio.run(crowd())
    assert sorted(order) == ["INGEST"] * 3 + ["JOBS"] * 3 + ["PEOPLE"] * 3
    assert order.index("PEOPLE") < order.index("JOBS")
    assert order[-1] == "JOBS"


def test_signals_are_given_after_the_commit_and_only_then(world: World) -> None:
    heard: list[set[str]] = []
    world.store.listen(Signal.RECHECK, lambda: heard.append({"heard"}))

    def mark(tx: Transaction) -> None:
        tx.signals.add(Signal.RECHECK)
        assert not heard

    world.write(mark)
    world.write(keys)  # the writer called the listeners before it took the next
    assert len(heard) == 1

    def fail(tx: Transaction) -> None:
        tx.signals.add(Signal.RECHECK)
        raise KeyError("x")

    with pytest.raises(KeyError):
        world.write(fail)
    world.write(keys)
    assert len(heard) == 1


def test_a_full_queue_says_so(store: Store) -> None:
    async def flood() -> int:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        begun = asyncio.Event()

        def hold(_tx: Transaction) -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(gate, 20), loop).result(20)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.write(hold))
            await begun.wait()
            waiting = [
                tasks.create_task(store.write(lambda _tx: None, lane=Lane.JOBS))
                for _ in range(QUEUE_MAX)
            ]
            await asyncio.sleep(0)  # each of them runs up to its place in the queue
            with pytest.raises(StoreBusy):
                await store.write(lambda _tx: None, lane=Lane.JOBS)
            assert store.waiting() == QUEUE_MAX
            for one in waiting[5:]:
                one.cancel()  # a caller that gave up before its turn is left out
            gate.set_result(None)
        return sum(one.cancelled() for one in waiting)

    assert asyncio.run(flood()) == QUEUE_MAX - 5


def test_a_closed_store_finishes_what_waits_and_takes_no_more(
    tmp_path: Path, fresh_database: Path
) -> None:
    store = Store(fresh_database, lambda: BEGIN_MS)

    async def use() -> None:
        store.close()
        for ask in (store.write, store.read):
            with pytest.raises(StoreClosed):
                await ask(keys)

    asyncio.run(use())
    assert store.waiting() == 0


def test_a_database_of_a_later_version_is_refused_and_not_touched(world: World) -> None:
    migrate(world.path)  # a second time: nothing to do
    world.write(lambda tx: tx.run(text("UPDATE alembic_version SET version_num = '9999'")))
    try:
        with pytest.raises(SchemaTooNew, match="9999"):
            migrate(world.path)
    finally:
        world.write(lambda tx: tx.run(text("UPDATE alembic_version SET version_num = '0001'")))
