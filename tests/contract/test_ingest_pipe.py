"""The way from MQTT to the store and back, with a session that only writes down what it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import mqtt5
import pytest
from sqlalchemy import text

from gateway.clock import Clock
from gateway.domain.presence import PROBE_INTERVAL_MS
from gateway.ingest.batch import take_batch
from gateway.ingest.node import Node, NodeSettings
from gateway.ingest.session import Login, Session
from gateway.mqtt_server.probe import ProbeSettings
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from tests.contract.world import World
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
    settings = NodeSettings("node-1", "gateway-1", "group", login, proof)
    node = Node(settings, world.store, clock, telemetry, 50_000, None, lambda: None)
    return node, clock, telemetry


@asynccontextmanager
async def at_work(node: Node) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(node.intake.run())
        yield
        running.cancel()


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


def as_session(told: Told) -> Session:
    return cast("Session", told)


def deliver(node: Node, topic: str, payload: bytes, packet_id: int | None = None) -> None:
    qos = mqtt5.QoS.AT_MOST_ONCE if packet_id is None else mqtt5.QoS.AT_LEAST_ONCE
    node.intake.deliver(mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id))


def no_room(tx: Transaction) -> None:
    pages = tx.scalar(text("PRAGMA page_count"))
    tx.scalar(text(f"PRAGMA max_page_count = {pages}"))


def room(tx: Transaction) -> None:
    tx.scalar(text("PRAGMA max_page_count = 1073741823"))


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
        await world.store.write(no_room)
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


def test_probes_that_waited_in_a_stalled_server_are_deafness(world: World, served: None) -> None:
    """A stopped MQTT server passes on at its end all that was sent to it meanwhile, at once."""
    node, clock, telemetry = made_node(world)
    topic = topics.probe("gateway-1")
    deliver(node, topic, probe(clock))
    clock.boot += PROBE_INTERVAL_MS
    deliver(node, topic, probe(clock))
    before = telemetry.node_clock_ms
    assert before == 50_000 + PROBE_INTERVAL_MS
    clock.boot += 30_000
    for ago_ms in range(25_000, -1, -PROBE_INTERVAL_MS):
        deliver(node, topic, probe(clock, ago_ms))
    assert telemetry.node_clock_ms == before


def test_the_nodes_clock_stands_while_nothing_can_be_stored(world: World, served: None) -> None:
    """Else devices would be late by heartbeats that came in time and could not be kept."""
    node, clock, telemetry = made_node(world)
    topic = topics.probe("gateway-1")

    async def story() -> None:
        await world.store.write(no_room)
        node.intake.attach(as_session(Told()))
        deliver(node, topic, probe(clock))
        async with at_work(node):
            deliver(node, topics.heartbeat(S), many(world, S))
            await until(lambda: telemetry.errors["batch_not_stored"])
            for _ in range(10):
                clock.boot += PROBE_INTERVAL_MS
                world.now_ms += PROBE_INTERVAL_MS
                deliver(node, topic, probe(clock))
            assert telemetry.node_clock_ms <= 50_000 + PROBE_INTERVAL_MS
            await world.store.write(room)
            await until(lambda: telemetry.batches)

    asyncio.run(story())
