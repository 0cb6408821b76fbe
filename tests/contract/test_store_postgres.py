"""The store on PostgreSQL when connections end, transactions deadlock and functions misbehave."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gateway.domain.refusals import Code, Refused
from gateway.storage.installation_facts import get, put
from gateway.storage.postgres import THREADS, ErrorSwallowed, PostgresStore
from gateway.storage.store import Lane, StoreUnsure
from gateway.storage.transaction import Transaction
from tests.commit_cutter import CommitCutter, Cut
from tests.contract.world import BEGIN_MS, World
from tests.databases import Databases
from tests.postgres import PostgresCluster


@pytest.fixture
def url(postgres_databases: Databases) -> Iterator[str]:
    address = postgres_databases.make()
    assert isinstance(address, str)
    yield address
    postgres_databases.drop(address)


@pytest.fixture
def cutter(postgres_cluster: PostgresCluster) -> Iterator[CommitCutter]:
    made = CommitCutter(postgres_cluster.port)
    yield made
    made.close()


@pytest.fixture
def cut_world(url: str, cutter: CommitCutter, postgres_cluster: PostgresCluster) -> Iterator[World]:
    """A world whose connections go through the cutter."""
    made = World(url.replace(f":{postgres_cluster.port}/", f":{cutter.port}/"))
    yield made
    made.check()
    made.close()


def noted(
    world: World, name: str, /, **given: Any
) -> tuple[Callable[[Transaction], Any], list[str]]:
    """An operation, and the ids under which it was run."""
    ids: list[str] = []
    inner = world.work(name, **given)

    def work(tx: Transaction) -> Any:
        ids.append(tx.operation_id)
        return inner(tx)

    return work, ids


@pytest.mark.parametrize(
    ("cuts", "runs"),
    [((Cut.AFTER,), 1), ((Cut.BEFORE,), 2), ((Cut.BEFORE, Cut.AFTER), 2)],
)
def test_a_charge_whose_commit_is_cut_off_is_made_once(
    cut_world: World, cutter: CommitCutter, cuts: tuple[Cut, ...], runs: int
) -> None:
    acme = cut_world.company("Acme")
    cut_world.grant(acme, 3)
    cut_world.register("1100000001", acme, activate="later")
    work, ids = noted(cut_world, "devices.activate", serial="1100000001")
    cutter.arm(*cuts)
    assert cut_world.write(work).service.state == "active"
    assert cutter.cuts == len(cuts)
    assert len(ids) == runs and len(set(ids)) == 1
    assert cut_world.pools(acme) == 60
    assert cut_world.kinds("1100000001") == [("activate", 30)]


def test_while_nobody_can_tell_it_is_not_called_kept(
    cut_world: World, cutter: CommitCutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.postgres.UNSURE_S_MAX", 0.0)
    acme = cut_world.company("Acme")
    work, ids = noted(cut_world, "credits.grant", company_id=acme, credits=1)
    cutter.arm(Cut.AFTER)
    with pytest.raises(StoreUnsure):
        cut_world.write(work)
    assert len(ids) == 1 and cut_world.pools(acme) == 30


def test_a_session_that_an_operator_ends_costs_nobody_anything(url: str) -> None:
    world = World(url)
    try:
        acme = world.company("Acme")
        work, ids = noted(world, "credits.grant", company_id=acme, credits=1)

        def ended(tx: Transaction) -> Any:
            result = work(tx)
            if len(ids) == 1:
                end_session(url, tx.scalar(text("SELECT pg_backend_pid()")))
            return result

        world.write(ended)
        assert len(ids) == 2 and len(set(ids)) == 1 and world.pools(acme) == 30
        pid = world.read(lambda tx: tx.scalar(text("SELECT pg_backend_pid()")))
        end_session(url, pid)
        assert world.pools(acme) == 30
    finally:
        world.close()


def end_session(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(url, lambda _: BEGIN_MS)
    yield made
    made.close()


async def test_a_deadlock_is_run_again_under_the_same_id(store: PostgresStore, url: str) -> None:
    for key in ("a", "b"):
        await store.write(partial(put, key=key, value="0"))
    ids: list[str] = []
    ours, theirs = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(url) as connection:
            # Whoever looks first is the victim, and that shall not be this one.
            connection.execute("SET deadlock_timeout = '60s'")
            connection.execute("UPDATE installation SET value = 'theirs' WHERE key = 'b'")
            theirs.set()
            assert ours.wait(20)
            connection.execute("UPDATE installation SET value = 'theirs' WHERE key = 'a'")

    def work(tx: Transaction) -> None:
        ids.append(tx.operation_id)
        put(tx, "a", f"ours {len(ids)}")
        if len(ids) == 1:
            tx.run(text("SET LOCAL deadlock_timeout = '10ms'"))
            ours.set()
            assert theirs.wait(20)
        put(tx, "b", f"ours {len(ids)}")

    await asyncio.gather(asyncio.to_thread(other), store.write(work))
    # It may have been run while they had both, and then it waited: two runs all the same.
    assert len(ids) == 2 and len(set(ids)) == 1 and store.repeated == 1
    assert await store.read(lambda tx: get(tx, "a")) == "ours 2"


async def test_an_error_that_a_function_hides_is_found(store: PostgresStore) -> None:
    """The server answers such a commit politely, and keeps nothing."""

    def work(tx: Transaction) -> None:
        put(tx, "kept", "no")
        try:
            tx.run(text("SELECT 1 / 0"))
        except DBAPIError:
            pass

    with pytest.raises(ErrorSwallowed):
        await store.write(work)
    assert await store.read(lambda tx: get(tx, "kept")) is None
    await store.write(lambda tx: put(tx, "kept", "yes"))


async def test_a_session_that_ends_in_the_middle_is_another_one_next_time(
    store: PostgresStore, url: str
) -> None:
    """The library lets go of such a connection by itself; that must not be taken for a bug."""
    ids: list[str] = []

    def work(tx: Transaction) -> None:
        ids.append(tx.operation_id)
        put(tx, "kept", f"{len(ids)}")
        if len(ids) == 1:
            end_session(url, tx.scalar(text("SELECT pg_backend_pid()")))
            tx.scalar(text("SELECT 1"))

    await store.write(work)
    assert len(ids) == 2 and len(set(ids)) == 1
    assert await store.read(lambda tx: get(tx, "kept")) == "2"
    looks: list[int] = []

    def look(tx: Transaction) -> str | None:
        looks.append(tx.scalar(text("SELECT pg_backend_pid()")))
        if len(looks) == 1:
            end_session(url, looks[0])
        return get(tx, "kept")

    assert await store.read(look) == "2"
    assert len(set(looks)) == 2


async def test_a_lost_session_that_a_function_hides_is_found(
    store: PostgresStore, url: str
) -> None:
    """A new connection would commit nothing, and say that it went well."""

    def work(tx: Transaction) -> None:
        put(tx, "kept", "no")
        end_session(url, tx.scalar(text("SELECT pg_backend_pid()")))
        try:
            tx.scalar(text("SELECT 1"))
        except DBAPIError:
            pass

    with pytest.raises(ErrorSwallowed):
        await store.write(work)
    assert await store.read(lambda tx: get(tx, "kept")) is None
    await store.write(lambda tx: put(tx, "kept", "yes"))


async def test_who_was_overtaken_is_run_again(store: PostgresStore) -> None:
    from gateway.storage.locks import Raced

    runs: list[str] = []

    def work(tx: Transaction) -> int:
        runs.append(tx.operation_id)
        put(tx, f"run {len(runs)}", "yes")
        if len(runs) < 3:
            raise Raced("somebody")
        return len(runs)

    assert await store.write(work) == 3 and len(set(runs)) == 1
    kept = [await store.read(partial(get, key=f"run {n}")) for n in (1, 2, 3)]
    assert kept == [None, None, "yes"]


@pytest.mark.parametrize(("patience_s", "waiting"), [(60.0, 0), (0.0, 1)])
def test_jobs_go_after_heartbeats_but_not_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch, patience_s: float, waiting: int
) -> None:
    """Where both charge the same company, a job would have its heartbeats wait in turn."""
    monkeypatch.setattr("gateway.storage.postgres.JOBS_WAIT_S_MAX", patience_s)
    store = PostgresStore(url, lambda _: BEGIN_MS)
    go_on, job_ran = threading.Event(), threading.Event()
    busy = threading.Barrier(THREADS[Lane.INGEST] + 1)

    def slow_batch(_: Transaction) -> None:
        busy.wait()
        go_on.wait()

    def job(_: Transaction) -> int:
        left = store.waiting()
        job_ran.set()
        return left

    async def story() -> int:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(THREADS[Lane.INGEST]):
                tasks.create_task(store.write(slow_batch, lane=Lane.INGEST))
            await asyncio.to_thread(busy.wait)
            tasks.create_task(store.write(lambda _: None, lane=Lane.INGEST))
            await asyncio.sleep(0)  # it is in the queue now
            found = tasks.create_task(store.write(job, lane=Lane.JOBS))
            await asyncio.sleep(0)
            if not patience_s:
                await asyncio.to_thread(job_ran.wait)
            go_on.set()
            return await found

    try:
        assert asyncio.run(story()) == waiting
    finally:
        store.close()


@pytest.mark.parametrize("changed", ["name", "tenure", "gone"])
def test_a_device_is_read_as_it_is_when_its_lock_is_held(url: str, changed: str) -> None:
    world = World(url)
    serial = "1100000001"
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    try:
        acme = world.company("Acme")
        world.register(serial, acme, activate="later")
        wanted, found = world.work("devices.change", serial=serial, notes="x"), []

        async def story() -> Any:
            held, waiting = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()

            def overtaken(tx: Transaction) -> None:
                ((id_,),) = tx.fetch_locked(LOCKED, (serial,))
                loop.call_soon_threadsafe(held.set)
                while tx.scalar(text(waits)) == 0:
                    assert not waiting.wait(0.01)
                if changed == "name":
                    tx.change("UPDATE device SET name = 'new' WHERE id = ?", (id_,))
                else:
                    statement = "UPDATE device SET registered = false, ended_at = 1 WHERE id = ?"
                    tx.change(statement, (id_,))
                if changed == "tenure":
                    found.append(world.work("devices.register", serial=serial, company_id=acme)(tx))

            first = asyncio.ensure_future(world.store.write(overtaken))
            await held.wait()
            second = world.store.write(wanted)
            return (await asyncio.gather(first, second))[1]

        if changed == "gone":
            with pytest.raises(Refused) as refused:
                asyncio.run(story())
            assert refused.value.code is Code.NOT_FOUND
        else:
            shown = asyncio.run(story())
            assert shown.notes == "x"
            assert shown.name == ("new" if changed == "name" else "")
    finally:
        world.close()


LOCKED = (
    "SELECT device.id FROM device JOIN device_live ON device_live.device_id = device.id"
    " WHERE device.serial = ? AND device.ended_at IS NULL"
)


async def test_what_is_added_at_the_end_is_committed_with_the_rest_or_nothing_is(url: str) -> None:
    store = PostgresStore(url, lambda _: BEGIN_MS)

    def work(tx: Transaction, name: str, second: str | None) -> None:
        put(tx, name, "1")
        tx.add_at_end("installation", ("key", "value"), (f"{name} 1", "it's 100 % \\ ?"))
        tx.add_at_end("installation", ("key", "value"), (f"{name} 2", second))

    def found(tx: Transaction) -> dict[str, str]:
        rows = tx.fetch("SELECT key, value FROM installation WHERE key LIKE ?", ("at end%",))
        return dict(rows)

    try:
        await store.write(partial(work, name="at end", second="; ROLLBACK; '"))
        kept = {"at end": "1", "at end 1": "it's 100 % \\ ?", "at end 2": "; ROLLBACK; '"}
        assert await store.read(found) == kept
        for _ in range(THREADS[Lane.PEOPLE] + 1):
            with pytest.raises(psycopg.errors.NotNullViolation):
                await store.write(partial(work, name="at end x", second=None))
        assert await store.read(found) == kept
        await store.write(partial(work, name="at end y", second="2"))
        assert len(await store.read(found)) == 6
    finally:
        store.close()
