"""Devices and relays that move between MQTT nodes, as the gateways of each node see them."""

from dataclasses import replace
from functools import partial

import pytest

from gateway.domain.instants import SECOND_MS
from gateway.ingest.batch import Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.ingest.sender import claim
from gateway.jobs import presence
from gateway.operations.joining import join
from gateway.operations.relays import take_state
from tests.contract.tunnel import Tunnel
from tests.contract.world import SITE, World
from tests.relay_row import one_relay
from wire.join import JoinRequest, decode_join_string
from wire.presence import Up, encode_up
from wire.relay_control import LEASE_S, State

S = "0123456789"
CLOCKS = {"node-1": 5_000_000, "node-2": 40_000}


@pytest.fixture
def served(world: World) -> World:
    acme = world.company("Acme")
    world.grant(acme, 5)
    world.register(S, acme, True)
    world.join(S)
    return world


def deliver(world: World, node: str, leaf: str, payload: bytes) -> None:
    """One message that a gateway of this node takes."""
    body = read_payload(f"fg1/d/{S}/{leaf}", leaf, payload)
    terms = Terms(node, CLOCKS[node], 4, 5)
    world.write(lambda tx: take_batch(tx, [Incoming(S, body, world.now_ms)], terms))


def signs_in(world: World, node: str, connection: int, *, up: bool = True) -> None:
    said = Up(world.router(S).run, connection, up, "0" * 32)
    deliver(world, node, "up", encode_up(said))


def heartbeat(world: World, node: str, connection: int) -> None:
    router = world.router(S)
    router.connection = connection
    deliver(world, node, "hb", router.message())


def test_a_device_is_where_its_newest_connection_is(served: World) -> None:
    """What its former node still passes on says nothing of where it is, nor of its presence."""
    world = served
    signs_in(world, "node-1", 1)
    heartbeat(world, "node-1", 1)
    assert world.row(S).node == "node-1"
    signs_in(world, "node-2", 2)
    row = world.row(S)
    assert row.node == "node-2" and row.late_at < CLOCKS["node-1"]
    heartbeat(world, "node-1", 1)  # it was under way
    signs_in(world, "node-1", 1, up=False)  # the Last Will of the connection that was lost
    after = world.row(S)
    assert (after.node, after.late_at, after.offline_at) == (
        "node-2",
        row.late_at,
        row.offline_at,
    )
    assert after.upto == 2  # its samples count all the same
    assert after.nonce is not None


def test_each_node_judges_its_own_devices_by_its_own_clock(served: World) -> None:
    world = served
    signs_in(world, "node-2", 1)
    heartbeat(world, "node-2", 1)
    # The other node's clock is far ahead, and means nothing to this device.
    assert not world.read(lambda tx: presence.anybody_silent(tx, "node-1", CLOCKS["node-1"]))
    assert world.write(lambda tx: presence.sweep(tx, "node-1", CLOCKS["node-1"])) == 0
    late_ms = world.row(S).late_at
    assert world.read(lambda tx: presence.anybody_silent(tx, "node-2", late_ms))
    assert world.write(lambda tx: presence.sweep(tx, "node-2", late_ms)) == 1
    assert world.row(S).presence == "late"


def test_a_command_follows_a_device_that_moved_before_it_was_sent(served: World) -> None:
    world = served
    signs_in(world, "node-1", 1)
    heartbeat(world, "node-1", 1)
    world.write(lambda tx: claim(tx, "node-1", SITE.master_key, SITE.tickets))
    world.do("commands.send", serial=S, verb="refresh")
    signs_in(world, "node-2", 2)

    def sent_by(node: str) -> list[str]:
        found = world.write(lambda tx: claim(tx, node, SITE.master_key, SITE.tickets))
        return [one.serial for one in found if one.payload is not None]

    assert sent_by("node-1") == []
    assert sent_by("node-2") == [S]
    assert sent_by("node-2") == []


def heard(world: World, relay_id: str) -> None:
    said = State(f"epoch-{relay_id}", 0, 0, 0, 0, (), ())
    world.write(lambda tx: take_state(tx, relay_id, said))


def test_a_session_goes_to_the_relay_with_the_fewest_and_to_none_that_is_silent(
    world: World,
) -> None:
    tunnel = Tunnel(world)
    world.write(lambda tx: one_relay(tx, "relay-2"))
    chosen = [tunnel.row(tunnel.open()["id"]).relay_id for _ in range(2)]
    assert chosen == ["relay-1", "relay-1"], "the other one was never heard"
    heard(world, "relay-2")
    chosen = [tunnel.row(tunnel.open()["id"]).relay_id for _ in range(4)]
    assert chosen == ["relay-2", "relay-2", "relay-1", "relay-2"]
    world.now_ms += round(LEASE_S * SECOND_MS)
    heard(world, "relay-1")
    assert tunnel.row(tunnel.open()["id"]).relay_id == "relay-1", "the other one fell silent"


def test_devices_that_join_are_spread_over_the_nodes(world: World) -> None:
    """Each is told all hosts, in an order of its own."""
    hosts = ("a.example.org", "b.example.org", "c.example.org")
    site = replace(SITE, mqtt_hosts=hosts)
    acme = world.company("Acme")
    serials = [f"11000000{number:02}" for number in range(12)]

    def first_hosts() -> dict[str, str]:
        found = {}
        for serial in serials:
            code = decode_join_string(world.do("devices.join", serial=serial)["join"]).code
            request = JoinRequest(code, serial, "00:1E:42:00:00:01", "a" * 64, "b" * 64)
            answer = world.write(partial(join, site=site, request=request, source="test"))
            assert sorted(answer.mqtt_hosts) == list(hosts)
            found[serial] = answer.mqtt_hosts[0]
        return found

    for serial in serials:
        world.register(serial, acme, "later")
    world.write(lambda tx: presence.note_probe(tx, "node-1"))
    assert set(first_hosts().values()) == {"a.example.org"}
    world.write(lambda tx: presence.note_probe(tx, "node-2"))
    spread = first_hosts()
    assert set(spread.values()) == set(hosts)
    assert spread == first_hosts()
