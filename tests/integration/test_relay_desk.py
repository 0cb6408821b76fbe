"""States and leases between relays and a gateway, over a real MQTT server and a real store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import func, insert, select, update

from gateway.clock import Clock
from gateway.ingest.node import Node, NodeSettings
from gateway.ingest.relay_desk import LEASE_BYTES_MAX, fitted, merged, relay_of
from gateway.ingest.session import Login
from gateway.mqtt_server.connection import Connection, connected
from gateway.storage.address import Address
from gateway.storage.schema import relay, revocation
from gateway.storage.store import Store
from gateway.storage.transaction import AnyRow, Signal, Transaction
from gateway.telemetry import Telemetry
from tests.conftest import MosquittoFactory
from tests.databases import store_of
from tests.full_disk import no_room, room
from tests.integration.mqtt_node import (
    DEVICE_A,
    GATEWAY,
    OTHER_RELAY,
    RELAY,
    MqttNode,
    make_node,
)
from tests.relay_row import one_relay
from wire import topics
from wire.relay_control import (
    HAPPENINGS_MAX,
    NOTES_MAX,
    REVOCATIONS_MAX,
    Happening,
    Lease,
    Note,
    Revocation,
    State,
    Usage,
    decode_lease,
    encode,
)

EVENTS, ORDERS = topics.relay_event("relay-1"), topics.relay_command("relay-1")
SESSION = "5" * 32


@dataclass
class Desk:
    """A gateway's node at work on a real MQTT server."""

    mqtt: MqttNode
    store: Store
    telemetry: Telemetry
    node: Node

    async def row(self, relay_id: str = "relay-1") -> AnyRow:
        found = await self.store.read(
            lambda tx: tx.one(select(relay).where(relay.c.id == relay_id))
        )
        assert found is not None
        return found


async def until(fact: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.fixture
async def desk(mosquitto: MosquittoFactory, database: Address) -> AsyncIterator[Desk]:
    mqtt = make_node(mosquitto)
    mqtt.server.start()
    clock = Clock()
    store = store_of(database, clock.wall_ms)
    telemetry = Telemetry(clock.wall_ms())
    await store.write(one_relay)
    socket = mqtt.directory / mqtt.settings.socket_name
    settings = NodeSettings(
        "node-1",
        "gateway-1",
        "group",
        Login(socket, GATEWAY, mqtt.passwords[GATEWAY]),
        mqtt.probe_settings(),
        mqtt.directory / "proof.lock",
    )
    node = Node(settings, store, clock, telemetry, 0, lambda: None)
    loop = asyncio.get_running_loop()

    def hint() -> None:
        loop.call_soon_threadsafe(node.relay_desk.hint)

    store.listen(Signal.RELAY, hint)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(node.run()),
                tasks.create_task(node.intake.run()),
                tasks.create_task(node.relay_desk.run()),
                tasks.create_task(node.relay_desk.lease_forever()),
            ]
            await until(lambda: telemetry.mqtt_connected)
            yield Desk(mqtt, store, telemetry, node)
            for task in running:
                task.cancel()
    finally:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def as_relay(desk: Desk, login: str = RELAY) -> AsyncIterator[Connection]:
    async with connected(desk.mqtt.tls, desk.mqtt.as_login(login)) as connection:
        await connection.subscribe(topics.relay_command(login.removeprefix("@")))
        yield connection


def state(
    epoch: str = "first",
    applied: int = 0,
    *,
    links: int = 2,
    usage: tuple[Usage, ...] = (),
    happened: tuple[Happening, ...] = (),
) -> State:
    return State(epoch, applied, links, 3, 4_096, usage, happened)


async def next_lease(connection: Connection, *, within_s: float = 10.0) -> Lease:
    await connection.until_received(count=1, within_s=within_s)
    packet = connection.received.pop(0)
    assert packet.topic == ORDERS and int(packet.qos) == 0
    return decode_lease(packet.payload)


async def test_a_state_is_kept_and_answered_with_a_lease_of_its_epoch(desk: Desk) -> None:
    async with as_relay(desk) as connection:
        await connection.publish(EVENTS, encode(state()))
        lease = await next_lease(connection)
        assert (lease.epoch, lease.newest, lease.taken) == ("first", 0, 0)
        row = await desk.row()
        assert (row.epoch, row.links, row.streams, row.memory_bytes) == ("first", 2, 3, 4_096)
        assert desk.telemetry.leases_at_ms["relay-1"] >= row.seen_at
        assert desk.telemetry.relay_states == 1
        # A relay that was started anew is told so at once, and its lease comes again by itself.
        await connection.publish(EVENTS, encode(state("second")))
        while (await next_lease(connection)).epoch != "second":
            pass
        assert (await next_lease(connection)).epoch == "second"


async def test_no_lease_for_a_relay_that_was_not_heard(desk: Desk) -> None:
    """Else one that came up would live by a lease of a former life."""
    async with as_relay(desk) as connection:
        desk.node.relay_desk.hint()
        with pytest.raises(TimeoutError):
            await next_lease(connection, within_s=0.5)


async def test_a_revocation_goes_out_at_once_and_until_it_is_applied(desk: Desk) -> None:
    async with as_relay(desk) as connection:
        await connection.publish(EVENTS, encode(state()))
        await next_lease(connection)

        def revoke(tx: Transaction) -> None:
            values = {"relay_id": "relay-1", "number": 1, "session_id": SESSION}
            tx.lock_relay("relay-1")
            tx.run(insert(revocation), {**values, "reason": "closed", "at": tx.now_ms})
            tx.run(update(relay).values(newest=1))
            tx.signals.add(Signal.RELAY)

        connection.received.clear()
        began_s = asyncio.get_running_loop().time()
        await desk.store.write(revoke)
        lease = await next_lease(connection)
        while not lease.revoked:
            lease = await next_lease(connection)
        assert asyncio.get_running_loop().time() - began_s < 1.5  # before the next is due
        assert lease.revoked == (Revocation(1, SESSION, "closed"),) and lease.newest == 1
        assert (await next_lease(connection)).revoked == lease.revoked
        await connection.publish(EVENTS, encode(state(applied=1)))
        while (await next_lease(connection)).revoked:
            pass
        assert await desk.store.read(lambda tx: tx.scalar(select(func.count(revocation.c.at)))) == 0


async def test_bad_states_and_strangers_are_counted_and_change_nothing(desk: Desk) -> None:
    telemetry = desk.telemetry
    async with as_relay(desk) as connection, as_relay(desk, OTHER_RELAY) as other:
        for payload in (b"", b"{}", b"[" * 5_000, encode(state())[:-1], b"\xff"):
            await connection.publish(EVENTS, payload)
        await other.publish(topics.relay_event("relay-2"), encode(state("other")))
        await until(lambda: telemetry.relay_states_malformed == 5 and telemetry.relays_unknown)
        assert telemetry.errors["relay_state_malformed"] == 5
        assert (await desk.row()).epoch == ""
        with pytest.raises(TimeoutError):
            await other.until_received(within_s=0.3)
        # All of them were acknowledged: what follows comes through.
        await connection.publish(EVENTS, encode(state()))
        assert (await next_lease(connection)).epoch == "first"


async def test_a_device_and_another_relay_cannot_speak_for_a_relay(desk: Desk) -> None:
    for login in (DEVICE_A, OTHER_RELAY):
        async with connected(desk.mqtt.tls, desk.mqtt.as_login(login)) as stranger:
            assert int(await stranger.publish(EVENTS, encode(state())) or 0) == 0x87
    async with (
        as_relay(desk) as connection,
        connected(desk.mqtt.tls, desk.mqtt.as_login(OTHER_RELAY)) as listener,
    ):
        await listener.subscribe(ORDERS, EVENTS, "fg1/relay/#")
        await connection.publish(EVENTS, encode(state()))
        await next_lease(connection)
        await listener.ping()
        assert listener.received == []
    assert desk.telemetry.relay_states == 1


FOREIGN = [
    topics.relay_event("relay-2"),
    topics.relay_command("relay-1"),
    topics.relay_command("relay-2"),
    topics.heartbeat(DEVICE_A),
    topics.answer(DEVICE_A),
    topics.command(DEVICE_A),
    topics.probe("gateway-1"),
]


@pytest.mark.parametrize("topic", FOREIGN)
async def test_a_relay_writes_its_own_events_and_nothing_else(topic: str, desk: Desk) -> None:
    async with as_relay(desk) as connection:
        assert int(await connection.publish(topic, encode(state())) or 0) == 0x87


async def test_a_relay_reads_nothing_of_devices(desk: Desk) -> None:
    """Whoever takes a relay over sees no heartbeat, and no command with a ticket in it."""
    async with (
        as_relay(desk) as connection,
        connected(desk.mqtt.tls, desk.mqtt.as_login(DEVICE_A)) as device,
    ):
        await connection.subscribe("#", "fg1/#", "$share/group/fg1/d/+/hb", topics.command("+"))
        await device.subscribe(topics.command(DEVICE_A))
        await device.publish(topics.heartbeat(DEVICE_A), b"x")
        gateway = desk.node.session
        assert gateway is not None
        gateway.send([(topics.command(DEVICE_A), b"secret")])
        await device.until_received()
        await connection.ping()
        assert connection.received == []


async def test_what_a_full_disk_refused_is_stored_when_there_is_room(desk: Desk) -> None:
    """Meanwhile newer states are joined with those that wait, and no lease is forgotten."""
    async with as_relay(desk) as connection:
        await desk.store.write(lambda tx: no_room(tx, "revocation"))
        # Sessions that nobody knows are revoked, which takes pages that the file has not.
        unknown = tuple(Usage(f"{n:032x}", 1, 1, 0, 0, 0, False) for n in range(200))
        await connection.publish(EVENTS, encode(state(usage=unknown)))
        await until(lambda: desk.store.trouble())
        for links in range(10):
            await connection.publish(EVENTS, encode(state(links=links)))
        await desk.store.write(room)
        await until(lambda: desk.telemetry.relay_states >= 2)
        assert desk.telemetry.relay_states < 11
        assert (await desk.row()).links == 9
        assert (await next_lease(connection)).epoch == "first"


def usage(number: int, count: int) -> Usage:
    return Usage(f"{number:032x}", count, count, 0, 0, 0, True)


def happening(number: int) -> Happening:
    return Happening(number, SESSION, "visitor", "", 1)


def test_two_states_are_joined_without_losing_what_only_one_says() -> None:
    older = state(usage=(usage(1, 5), usage(2, 5)), happened=(happening(1), happening(2)))
    newer = state(applied=7, usage=(usage(2, 9),), happened=(happening(2), happening(3)))
    both = merged(older, newer)
    assert both is not None
    assert both.applied == 7
    assert set(both.usage) == {usage(1, 5), usage(2, 9)}
    assert [one.number for one in both.happened] == [1, 2, 3]
    assert merged(older, newer._replace(epoch="other")) is None
    grown: State | None = state()
    for start in range(0, 6 * HAPPENINGS_MAX, HAPPENINGS_MAX):
        if grown is None:
            break
        more = tuple(happening(number) for number in range(start, start + HAPPENINGS_MAX))
        grown = merged(grown, state(happened=more))
    assert grown is None  # it does not grow without end


def test_a_lease_never_exceeds_what_the_mqtt_server_takes() -> None:
    notes = tuple(Note(f"{n:032x}", "agent", "open_unanswered", 1) for n in range(NOTES_MAX))
    revoked = tuple(
        Revocation(n, f"{n:032x}", "service_unpaid") for n in range(1, REVOCATIONS_MAX + 1)
    )
    small = Lease("e" * 32, 3, 9, revoked[:3], notes[:5])
    assert fitted(small, 4) == (encode(small), False)
    payload, cut = fitted(Lease("e" * 32, REVOCATIONS_MAX, 9, revoked, notes), 1)
    assert cut and len(payload) <= LEASE_BYTES_MAX
    lease = decode_lease(payload)
    # The first ones without a gap, so that the highest number means all of them.
    assert lease.revoked == revoked[: len(lease.revoked)] and len(lease.revoked) > 100
    assert lease.notes == () or len(payload) + 80 > LEASE_BYTES_MAX
    seen: set[str] = set()
    for turn in range(NOTES_MAX):
        payload, cut = fitted(Lease("e", 9, 9, (), notes), turn)
        assert not cut and len(payload) <= LEASE_BYTES_MAX
        seen |= {note.session for note in decode_lease(payload).notes}
    assert len(seen) == NOTES_MAX
    long = tuple(Revocation(n, SESSION, "\N{SNOWMAN}" * 300) for n in range(1, 20))
    payload, cut = fitted(Lease("e", 19, 0, long), 0)
    assert cut and len(payload) <= LEASE_BYTES_MAX and decode_lease(payload).revoked


@pytest.mark.parametrize(
    ("topic", "relay_id"),
    [
        (EVENTS, "relay-1"),
        (ORDERS, None),
        ("fg1/relay/gateway-1/ev", None),
        ("fg1/relay/relay-/ev", None),
        ("fg1/relay/relay-1/ev/more", None),
        ("fg1/relay/relay-1\n/ev", None),
        (f"fg1/relay/relay-{'x' * 25}/ev", None),
    ],
)
def test_only_a_relays_own_topic_names_it(topic: str, relay_id: str | None) -> None:
    assert relay_of(topic) == relay_id
