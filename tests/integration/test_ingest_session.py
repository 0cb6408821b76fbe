"""The gateway's own MQTT session on a real server: what devices can do to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import mqtt5
import pytest

from gateway.ingest.session import RECEIVE_MAX, Login, Session, SessionLost, open_session
from gateway.mqtt_server import acl
from gateway.mqtt_server.connection import MqttRefused, connected
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import (
    DEVICE_A,
    GATEWAY,
    OTHER_RELAY,
    RELAY,
    MqttNode,
    make_node,
)
from wire import topics

FILTERS = [topics.shared(topics.heartbeat("+")), topics.shared(topics.presence("+"))]


@pytest.fixture
def node(mosquitto: MosquittoFactory) -> MqttNode:
    made = make_node(mosquitto)
    made.server.start()
    return made


class Taken:
    """Acknowledges what comes, as the intake does once it is committed."""

    def __init__(self) -> None:
        self.packets: list[mqtt5.PublishPacket] = []
        self.session: Session | None = None
        self.acknowledging = True
        self._came = asyncio.Event()

    def deliver(self, packet: mqtt5.PublishPacket) -> None:
        self.packets.append(packet)
        self._came.set()
        if self.acknowledging and packet.packet_id is not None and self.session is not None:
            self.session.acknowledge(packet.packet_id)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.packets) < count:
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def gateway(node: MqttNode, login: str = GATEWAY) -> AsyncIterator[tuple[Session, Taken]]:
    taken = Taken()
    socket = node.directory / node.settings.socket_name
    session = await open_session(Login(socket, login, node.passwords[login]), taken.deliver)
    taken.session = session
    try:
        await session.start(FILTERS)
        yield session, taken
    finally:
        session.close()


async def test_a_device_that_publishes_at_qos_2_does_not_end_the_session(node: MqttNode) -> None:
    """The server would disconnect whoever answers such a message as one of QoS 1."""
    async with gateway(node) as (session, taken):
        async with connected(node.tls, node.as_login(DEVICE_A)) as device:
            packet = mqtt5.PublishPacket(
                topics.presence(DEVICE_A), b"{}", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=7
            )
            device._writer.write(packet.write() + mqtt5.PubRelPacket(7).write())
            await taken.until(1)
            for _ in range(3):
                await device.publish(topics.presence(DEVICE_A), b"{}")
            await taken.until(4)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await session.until_lost()
    assert all(packet.qos == mqtt5.QoS.AT_LEAST_ONCE for packet in taken.packets)


async def test_what_is_acknowledged_makes_room_for_the_next(node: MqttNode) -> None:
    """More messages than the session's window holds, and none is left behind."""
    count = RECEIVE_MAX + 200
    async with (
        gateway(node) as (_, taken),
        connected(node.tls, node.as_login(DEVICE_A)) as device,
    ):
        for _ in range(count):
            await device.publish(topics.presence(DEVICE_A), b"{}")
        await taken.until(count)


async def test_a_session_that_reads_nothing_on_purpose_is_not_silent(
    node: MqttNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(node) as (session, taken):
        monkeypatch.setattr("gateway.ingest.session.KEEP_ALIVE_S", 0.1)
        session.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await session.until_lost()
        session.resume()
        async with connected(node.tls, node.as_login(DEVICE_A)) as device:
            await device.publish(topics.presence(DEVICE_A), b"{}")
            await taken.until(1)
        node.server.kill()
        with pytest.raises(SessionLost):
            async with asyncio.timeout(10):
                await session.until_lost()


async def test_a_gateway_that_leaves_gives_its_share_to_the_others(node: MqttNode) -> None:
    other_login = "@gateway-2"
    node.passwords[other_login] = "word of the other"
    relays = [RELAY, OTHER_RELAY]
    node.write(access=acl.render(gateways=[GATEWAY, other_login], relays=relays))
    node.server.hup()
    async with connected(node.tls, node.as_login(DEVICE_A)) as device:
        await until_let_in(node, other_login)
        async with gateway(node) as (session, taken), gateway(node, other_login) as (_, others):
            for _ in range(10):
                await device.publish(topics.presence(DEVICE_A), b"{}")
            await others.until(5)
            await session.stop(FILTERS)
            before = len(taken.packets)
            for _ in range(10):
                await device.publish(topics.presence(DEVICE_A), b"{}")
            await others.until(20 - before)
            assert len(taken.packets) == before == 5


async def until_let_in(node: MqttNode, login: str) -> None:
    """The server reads its files again in its own time."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with connected(node.unix, node.as_login(login)):
                    return
            except MqttRefused:
                await asyncio.sleep(0.05)
