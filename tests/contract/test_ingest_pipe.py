"""The way from MQTT to the store and back, with a session that only writes down what it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import mqtt5
import pytest
from sqlalchemy import select

from gateway.clock import Clock
from gateway.domain.presence import PROBE_INTERVAL_MS
from gateway.ingest.batch import take_batch
from gateway.ingest.node import Node, NodeSettings
from gateway.ingest.session import Login, Session
from gateway.mqtt_server.probe import ProbeSettings
from gateway.storage.schema import node as node_table
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from tests.contract.world import World
from tests.full_disk import no_room, room
from wire import topics
from wire.presence import Up, encode_up

S, T = "1100000001", "1100000002"


class Told:
    """In a session's place: what would have gone out."""

    def __init__(self) -> None:
        self.receipts: list[str] = []
        self.acknowledged: list[int] = []
        self.paused: list[bool] = []

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        self.receipts += [topic for topic, _ in messages]

    def acknowledge(self, packet_id: int) -> None:
        self.acknowledged.append(packet_id)

    def pause(self) -> None:
        self.paused.append(True)

    def resume(self) -> None:
        self.paused.append(False)


class Times(Clock):
    """Goes on when the test says so."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.boot = 1_000_000

    def wall_ms(self) -> int:
        return self._world.now_ms

    def boot_ms(self) -> int:
        return self.boot


@pytest.fixture
def served(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 5)
    for serial in (S, T):
        world.register(serial, acme)
        world.heartbeat(serial)


def made_node(world: World) -> tuple[Node, Times, Telemetry]:
    clock, telemetry = Times(world), Telemetry(world.now_ms)
    proof = ProbeSettings(listeners=(), password="-", gateway="gateway-1")
    login = Login(Path("/nonexistent"), "@gateway-1", "-")
    settings = NodeSettings("node-1", "gateway-1", "group", login, proof, Path("/nonexistent"))
    node = Node(settings, world.store, clock, telemetry, 0, lambda: None)
    return node, clock, telemetry


@asynccontextmanager
async def at_work(node: Node) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(node.intake.run()), tasks.create_task(node.watch_presence())]
        yield
        for task in running:
            task.cancel()


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


def as_session(told: Told) -> Session:
    return cast("Session", told)


def deliver(node: Node, topic: str, payload: bytes, packet_id: int | None = None) -> None:
    qos = mqtt5.QoS.AT_MOST_ONCE if packet_id is None else mqtt5.QoS.AT_LEAST_ONCE
    node.intake.deliver(mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id))


def no_history(tx: Transaction) -> None:
    no_room(tx, "heartbeat")


def many(world: World, serial: str) -> bytes:
    """More than fits into what is left of the file."""
    return world.router(serial).message(150, values={"operator": "x" * 60})


def test_what_a_full_disk_refused_is_stored_and_acknowledged_when_there_is_room(
    world: World, served: None
) -> None:
    """Nothing is lost on the way, and the session's window does not fill for good."""
    node, _, telemetry = made_node(world)
    told = Told()
    up = encode_up(Up(world.router(S).run, 7, True, "0" * 32))

    async def story() -> None:
        await world.store.write(no_history)
        node.intake.attach(as_session(told))
        async with at_work(node):
            deliver(node, topics.heartbeat(S), many(world, S))
            deliver(node, topics.presence(S), up, 11)
            await until(lambda: telemetry.errors["batch_not_stored"] >= 2)
            assert told.receipts == [] and told.acknowledged == []
            assert "full" in world.store.trouble()
            await world.store.write(room)
            await until(lambda: told.acknowledged)
        assert told.receipts == [topics.receipt(S)] and told.acknowledged == [11]

    asyncio.run(story())
    assert world.row(S).connection == 7 and world.row(S).upto == 151
    assert world.store.trouble() == ""


def test_a_message_that_meets_a_bug_costs_itself_alone(
    world: World, served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _, telemetry = made_node(world)
    told = Told()
    sizes: list[int] = []

    def with_a_bug(tx: Transaction, batch: Any, terms: Any) -> Any:
        sizes.append(len(batch))
        if any(message.serial == T for message in batch):
            raise ZeroDivisionError
        return take_batch(tx, batch, terms)

    monkeypatch.setattr("gateway.ingest.intake.take_batch", with_a_bug)

    async def story() -> None:
        node.intake.attach(as_session(told))
        async with at_work(node):
            for number in range(31):
                deliver(node, topics.heartbeat(S), world.router(S).message(), 100 + number)
            deliver(node, topics.heartbeat(T), world.router(T).message(), 99)
            await until(lambda: len(told.acknowledged) == 32)

    asyncio.run(story())
    assert world.row(S).upto == 32 and world.row(T).upto == 1
    assert telemetry.errors["message_not_stored"] == 1
    assert set(told.receipts) == {topics.receipt(S)}
    assert len(sizes) <= 11  # found by halving, not one by one


def test_what_came_by_a_lost_session_is_stored_and_neither_receipted_nor_acknowledged(
    world: World, served: None
) -> None:
    node, _, _ = made_node(world)
    old, new = Told(), Told()

    async def story() -> None:
        node.intake.attach(as_session(old))
        deliver(node, topics.heartbeat(S), world.router(S).message(), 1)
        node.intake.attach(None)
        node.intake.attach(as_session(new))
        deliver(node, topics.heartbeat(T), world.router(T).message(), 1)
        async with at_work(node):
            await until(lambda: new.acknowledged)

    asyncio.run(story())
    assert world.row(S).upto == world.row(T).upto == 2
    assert (old.receipts, old.acknowledged) == ([], [])
    assert new.acknowledged == [1]


def test_large_messages_stop_the_reading_before_they_fill_the_memory(
    world: World, served: None
) -> None:
    node, _, _ = made_node(world)
    told = Told()
    payload = world.router(S).message().ljust(16_000)

    async def story() -> None:
        node.intake.attach(as_session(told))
        for _ in range(2_100):
            deliver(node, topics.heartbeat(S), payload)
        assert told.paused == [True]
        async with at_work(node):
            await until(lambda: len(told.paused) == 2)

    asyncio.run(story())
    assert told.paused == [True, False]


def probe(clock: Times, ago_ms: int = 0) -> bytes:
    return json.dumps([clock.wall_ms() - ago_ms, clock.boot - ago_ms, 0.0]).encode()


class Probing:
    """Probes that come back to one gateway, and the clock of its node after each."""

    def __init__(self, world: World, node: Node, clock: Times) -> None:
        self.world, self.node, self.clock = world, node, clock

    async def row(self) -> Any:
        return await self.world.store.read(lambda tx: tx.one(select(node_table)))

    async def back(self, after_ms: int) -> int:
        """One more, in time; the node's clock once it is noted."""
        self.clock.boot += after_ms
        self.world.now_ms += after_ms
        deliver(self.node, topics.probe("gateway-1"), probe(self.clock))
        async with asyncio.timeout(20):
            while True:
                row = await self.row()
                if row is not None and row.probe_at == self.world.now_ms:
                    return int(row.clock)
                await asyncio.sleep(0.01)


def test_probes_that_waited_in_a_stalled_server_are_deafness(world: World, served: None) -> None:
    """A stopped MQTT server passes on at its end all that was sent to it meanwhile, at once."""
    node, clock, _ = made_node(world)
    probing = Probing(world, node, clock)

    async def story() -> None:
        async with at_work(node):
            before = await probing.back(PROBE_INTERVAL_MS)
            assert await probing.back(PROBE_INTERVAL_MS) == before + PROBE_INTERVAL_MS
            clock.boot += 30_000
            world.now_ms += 30_000
            for ago_ms in range(25_000, PROBE_INTERVAL_MS, -PROBE_INTERVAL_MS):
                deliver(node, topics.probe("gateway-1"), probe(clock, ago_ms))
            # The newest is in time, and tells of the gap before it.
            assert await probing.back(0) == before + PROBE_INTERVAL_MS
            assert (await probing.row()).still_until == world.now_ms + 30_000

    asyncio.run(story())


def test_two_gateways_of_a_node_share_its_clock(world: World, served: None) -> None:
    """One goes on where the other is deaf, and together they are not twice as fast."""
    (one, clock, _), (other, other_clock, _) = made_node(world), made_node(world)
    first, second = Probing(world, one, clock), Probing(world, other, other_clock)

    async def story() -> None:
        async with at_work(one), at_work(other):
            began_ms = await first.back(0)
            at_ms = world.now_ms
            for _ in range(5):
                await first.back(2_000)
                await second.back(3_000)
            for _ in range(10):
                assert await second.back(PROBE_INTERVAL_MS) == began_ms + world.now_ms - at_ms

    asyncio.run(story())


def test_the_nodes_clock_stands_while_nothing_can_be_stored(world: World, served: None) -> None:
    """Else devices would be late by heartbeats that came in time and could not be kept."""
    node, clock, telemetry = made_node(world)
    probing = Probing(world, node, clock)

    async def story() -> None:
        node.intake.attach(as_session(Told()))
        async with at_work(node):
            before = await probing.back(PROBE_INTERVAL_MS)
            await world.store.write(no_history)
            deliver(node, topics.heartbeat(S), many(world, S))
            await until(lambda: telemetry.errors["batch_not_stored"])
            for _ in range(10):
                clock.boot += PROBE_INTERVAL_MS
                world.now_ms += PROBE_INTERVAL_MS
                deliver(node, topics.probe("gateway-1"), probe(clock))
            await world.store.write(room)
            await until(lambda: telemetry.batches)
            assert await probing.back(PROBE_INTERVAL_MS) == before

    asyncio.run(story())
