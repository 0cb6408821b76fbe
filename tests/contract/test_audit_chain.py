"""The sealing of the audit: one chain, whoever writes and however many seal."""

import asyncio
import sqlite3
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select

from gateway.clock import Clock
from gateway.command.verify import noted_heads, verify
from gateway.domain.audit_chain import Head, head_of
from gateway.jobs import sealing
from gateway.jobs.sealing import Sealer, head_in, seal
from gateway.operations.audit_writing import Personal, record
from gateway.storage.locks import Tree
from gateway.storage.schema import audit, audit_seal
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from tests.contract.gateways import TwoGateways
from tests.contract.world import World
from tests.databases import Databases

MANY = 10_000
A_TRANSACTION = 100


def note(tx: Transaction, count: int = 1) -> None:
    for number in range(count):
        record(
            tx,
            "devices.change",
            actor="user:1",
            owner_id=None,
            company_id=None,
            device_id=None,
            serial="1100000001",
            subject=f"thing {number}",
            detail={"name": "Ä"},
            personal=[Personal("address", "192.0.2.1", 1)] if number % 10 == 0 else (),
        )


def sealer_of(store: Store, head_file: Path | None = None) -> Sealer:
    return Sealer(store, Clock(), Telemetry(0), head_file)


def chained(tx: Transaction) -> tuple[int, int, int]:
    """Entries, links, and the last position."""
    ends = [
        tx.scalar(select(what))
        for what in (
            func.count(audit.c.id),
            func.count(audit_seal.c.audit_id),
            func.max(audit_seal.c.position),
        )
    ]
    return ends[0], ends[1], ends[2] or 0


def wrong_in(world: World, heads: dict[str, Head] | None = None) -> list[str]:
    [found] = [check for check in verify(world.address, heads) if check.name == "audit"]
    return found.findings


def test_two_gateways_write_ten_thousand_each_and_there_is_one_chain(two: TwoGateways) -> None:
    """Both seal all the while; the numbers of their entries are committed out of order."""

    async def writing(store: Store) -> None:
        works = [
            store.write(partial(note, count=A_TRANSACTION), lane=lane, tree=Tree.UNTOUCHED)
            for _ in range(MANY // A_TRANSACTION // 2)
            for lane in (Lane.PEOPLE, Lane.INGEST)
        ]
        await asyncio.gather(*works)

    async def all_of_it() -> None:
        sealers = [sealer_of(store) for store in two.stores]
        done = asyncio.Event()

        async def sealing_on(sealer: Sealer) -> None:
            while not done.is_set():
                await sealer.once()

        tasks = [asyncio.create_task(sealing_on(sealer)) for sealer in sealers]
        await asyncio.gather(*(writing(store) for store in two.stores))
        done.set()
        await asyncio.gather(*tasks)
        for sealer in sealers:  # the rest, without anybody in the way
            await sealer.once()

    asyncio.run(all_of_it())
    entries, links, last = two.world.read(chained)
    assert entries == links == last >= 2 * MANY
    assert wrong_in(two.world) == []


def test_one_gateway_seals_ten_thousand_at_once(world: World) -> None:
    world.write(partial(note, count=MANY))
    world.wait(sealer_of(world.store).once())
    entries, links, last = world.read(chained)
    assert entries == links == last >= MANY and wrong_in(world) == []


def test_what_is_committed_late_comes_later_and_is_not_skipped(two: TwoGateways) -> None:
    """Also when its number is far below those that were sealed meanwhile."""
    world = two.world
    world.write(note)
    address = str(world.address)
    late = "INSERT INTO audit (at, actor, verb, subject, detail) VALUES (1, 'a', 'b', 'late', '{}')"
    sealer = sealer_of(world.store)
    with psycopg.connect(address) as other:
        other.execute(late.encode())
        world.write(partial(note, count=3))
        world.wait(sealer.once())
        assert world.read(chained)[0] == world.read(chained)[1]
    world.wait(sealer.once())
    entries, links, last = world.read(chained)
    assert entries == links == last
    newest = select(audit.c.subject).join(audit_seal, audit_seal.c.audit_id == audit.c.id)
    found = world.read(lambda tx: tx.scalar(newest.order_by(audit_seal.c.position.desc())))
    assert found == "late"
    assert [one for one in wrong_in(world) if "not in the chain" in one] == []


def test_while_another_gateway_seals_there_is_nothing_to_do(two: TwoGateways) -> None:
    world = two.world
    world.write(note)

    async def both() -> list[int]:
        inside, out = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slowly(tx: Transaction) -> int:
            count = seal(tx).entries
            loop.call_soon_threadsafe(inside.set)
            asyncio.run_coroutine_threadsafe(out.wait(), loop).result()
            return count

        first = asyncio.create_task(world.store.write(slowly, lane=Lane.JOBS, tree=Tree.UNTOUCHED))
        await inside.wait()
        second = await two.second.write(seal, lane=Lane.JOBS, tree=Tree.UNTOUCHED)
        out.set()
        return [await first, second.entries]

    first, second = asyncio.run(both())
    assert first >= 1 and second == 0
    assert wrong_in(world) == []


def test_it_looks_from_a_floor_that_only_rises_over_what_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another gateway seals everything first."""
    floors: list[int] = []
    now_s = 0.0

    def looked(tx: Transaction, floor: int) -> sealing.Looked:
        floors.append(floor)
        return looks(tx, floor)

    async def once() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s, raising=False)
        await sealer.once()
        monkeypatch.undo()
        monkeypatch.setattr(sealing, "look", looked)

    looks = sealing.look
    monkeypatch.setattr(sealing, "look", looked)
    sealer = sealer_of(world.store)
    world.write(partial(note, count=5))
    world.seal()  # as another gateway does
    highest = world.read(lambda tx: tx.scalar(select(func.max(audit.c.id))))
    for now_s, expected in ((0.0, 0), (599.0, 0), (601.0, highest), (3_599.0, highest)):
        world.wait(once())
        assert floors[-1] == expected, now_s
    now_s = 3_601.0  # each hour from the first one on
    world.wait(once())
    assert floors[-1] == 0


# Heads


def noted(folder: Path) -> str:
    return (folder / sealing.HEAD_FILE).read_text().strip()


def test_the_head_is_noted_and_agrees_from_then_on(world: World, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / sealing.HEAD_FILE
    world.write(partial(note, count=3))
    world.wait(sealer_of(world.store, file).once())
    head = world.read(head_in)
    assert head is not None and noted(file.parent) == str(head)
    assert file.stat().st_mode & 0o777 == 0o600
    world.write(note)
    world.seal()
    heads = noted_heads(file.parent, str(head))
    assert set(heads) == {"--head", str(file)} and wrong_in(world, heads) == []


@pytest.mark.parametrize("text", ["", "1", "0:" + "0" * 64, "1:" + "0" * 63, "1:" + "G" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="POSITION:HASH"):
        head_of(text)


def test_a_file_that_holds_no_head_is_not_written_over(world: World, tmp_path: Path) -> None:
    file = tmp_path / sealing.HEAD_FILE
    file.write_text("something else\n")
    world.write(note)
    world.wait(sealer_of(world.store, file).once())
    assert file.read_text() == "something else\n"


# Rows that are added at the end of a transaction


def rows_at_end(tx: Transaction, links: int, numbers: int) -> None:
    """Of two tables, in turn."""
    for number in range(max(links, numbers)):
        if number < links:
            values = (1_000 + number, 1_000 + number, b"h")
            tx.add_at_end("audit_seal", ("position", "audit_id", "hash"), values)
        if number < numbers:
            tx.add_at_end("installation", ("key", "value"), (f"n{number}", "%s ?"))


@pytest.mark.parametrize(("links", "numbers"), [(0, 0), (1, 0), (2, 3), (40, 1)])
def test_what_is_added_at_the_end_is_there_or_nothing_is(
    databases: Databases, links: int, numbers: int
) -> None:
    address = databases.make()
    world = World(address)
    of_ours = "SELECT count(*) FROM installation WHERE key IN ('n0', 'n1', 'n2') AND value = ?"
    count = "SELECT count(*) FROM audit_seal"
    try:
        adding = partial(rows_at_end, links=links, numbers=numbers)

        def refused(tx: Transaction) -> None:
            adding(tx)
            raise ValueError("refused")

        with pytest.raises(ValueError, match="refused"):
            world.write(refused)
        assert world.read(lambda tx: tx.fetch(count)[0][0]) == 0
        world.write(adding)
        found = world.read(lambda tx: (tx.fetch(count)[0][0], tx.fetch(of_ours, ("%s ?",))[0][0]))
        assert found == (links, numbers)
        if links:
            with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
                world.write(adding)  # the same positions again
    finally:
        world.close()
        databases.drop(address)
