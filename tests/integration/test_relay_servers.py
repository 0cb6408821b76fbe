"""A relay that knows several MQTT servers: its own first, another while that one does not serve."""

import asyncio
import json
from pathlib import Path

import pytest

from broker.relay import control
from broker.relay.clock import Clock
from broker.relay.configuration import ConfigurationError, load
from broker.relay.control import Control, MqttServers
from broker.relay.happenings import Happenings
from broker.relay.lease import LeaseWatch
from broker.relay.limits import Limits
from broker.relay.sessions import Sessions
from gateway.mqtt_server.connection import connected
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import GATEWAY, RELAY, MqttNode, make_node
from tests.relay_rig import EPOCH, LIMIT_S, fact
from wire import topics
from wire.relay_control import Lease, encode


class Relay:
    """A relay's control link alone, between two MQTT servers."""

    def __init__(self, nodes: list[MqttNode], folder: Path) -> None:
        clock = Clock()
        self.lease = LeaseWatch(clock)
        sessions = Sessions(
            clock=clock, lease=self.lease, happenings=Happenings(clock), limits=Limits()
        )
        password, authorities = folder / "password", folder / "ca.pem"
        password.write_text(nodes[0].passwords[RELAY])
        # Nodes of one installation have one authority; these two were made apart.
        authorities.write_text("".join(node.keys.ca_certificate.read_text() for node in nodes))
        addresses = tuple(("127.0.0.1", node.server.port) for node in nodes)
        servers = MqttServers(addresses, authorities, password)
        self.control = Control(
            servers, relay="relay-1", epoch=EPOCH, sessions=sessions, lease=self.lease
        )

    @property
    def leased(self) -> bool:
        return self.control.connected and self.control.leased


async def gateway_of(node: MqttNode) -> None:
    """Answers every state of the relay with a lease, until cancelled."""
    lease = encode(Lease(EPOCH, 0, 0, (), ()))
    async with connected(node.unix, node.as_login(GATEWAY)) as gateway:
        await gateway.subscribe(topics.relay_event("+"))
        while True:
            gateway.received.clear()
            await gateway.until_received(within_s=LIMIT_S)
            assert json.loads(gateway.received[0].payload)
            await gateway.publish(topics.relay_command("relay-1"), lease)


@pytest.fixture
def nodes(mosquitto: MosquittoFactory) -> list[MqttNode]:
    made = [make_node(mosquitto) for _ in range(2)]
    for node in made:
        node.server.start()
    return made


async def test_a_relay_moves_to_the_next_server_and_back_to_its_own(
    nodes: list[MqttNode], tmp_path: Path
) -> None:
    relay = Relay(nodes, tmp_path)
    own, other = (asyncio.create_task(gateway_of(node)) for node in nodes)
    running = asyncio.create_task(relay.control.run())
    try:
        await fact(lambda: relay.leased)
        own.cancel()
        await asyncio.to_thread(nodes[0].server.stop)
        await fact(lambda: not relay.control.connected)
        await fact(lambda: relay.leased)
        await asyncio.to_thread(nodes[0].server.start)
        own = asyncio.create_task(gateway_of(nodes[0]))
        other.cancel()
        await asyncio.to_thread(nodes[1].server.stop)
        await fact(lambda: not relay.control.connected)
        await fact(lambda: relay.leased)
    finally:
        for task in (own, other, running):
            task.cancel()
        await asyncio.wait([own, other, running], timeout=LIMIT_S)


async def test_a_server_without_a_gateway_is_left_for_one_that_has_some(
    nodes: list[MqttNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LEASE_S", 0.5)
    relay = Relay(nodes, tmp_path)
    other = asyncio.create_task(gateway_of(nodes[1]))
    running = asyncio.create_task(relay.control.run())
    try:
        await fact(lambda: relay.leased)
    finally:
        for task in (other, running):
            task.cancel()
        await asyncio.wait([other, running], timeout=LIMIT_S)


USUAL = """
id = "relay-2"
host = "127.0.0.1"
port = 8885
domain = "localhost"
gateway_url = "http://127.0.0.1:8080"
link_certificate_file = "link.pem"
link_key_file = "link.key"
ticket_keys_file = "keys.json"
mqtt_host = "127.0.0.1"
mqtt_port = 8883
mqtt_ca_file = "ca.pem"
mqtt_password_file = "password"
"""


def test_the_servers_are_named_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(USUAL)
    assert load(path).mqtt_addresses == (("127.0.0.1", 8883),)
    path.write_text(USUAL + 'mqtt_servers = ["node-1.example.org:8883", "[2001:db8::1]:8884"]\n')
    assert load(path).mqtt_addresses[1:] == (("node-1.example.org", 8883), ("2001:db8::1", 8884))
    for wrong in ('["node-1"]', '["a:b"]', "[1]", '"a:1"'):
        path.write_text(f"{USUAL}mqtt_servers = {wrong}\n")
        with pytest.raises(ConfigurationError, match="mqtt_servers"):
            load(path)
