"""What a device can and cannot do to others on the real MQTT server."""

import asyncio
import ssl

import mqtt5
import pytest

from gateway.mqtt_server.configuration import PACKET_SIZE_MAX_BYTES
from gateway.mqtt_server.connection import (
    Connection,
    MqttClosed,
    MqttRefused,
    MqttUnreachable,
    connected,
)
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import (
    DEVICE_A,
    DEVICE_B,
    GATEWAY,
    LIKE_A_GATEWAY,
    MqttNode,
    make_node,
)
from wire import topics

NOT_AUTHORIZED = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
EVERYTHING_FROM_DEVICES = tuple(
    topics.shared(topic)
    for topic in (topics.heartbeat("+"), topics.presence("+"), topics.answer("+"))
)


@pytest.fixture
def node(mosquitto: MosquittoFactory) -> MqttNode:
    made = make_node(mosquitto)
    made.server.start()
    return made


# Everything that a device may try with a topic; only its own three leaves are its own.
WRITING = [
    (topics.heartbeat(DEVICE_A), True),
    (topics.presence(DEVICE_A), True),
    (topics.answer(DEVICE_A), True),
    (topics.heartbeat(DEVICE_B), False),
    (topics.presence(DEVICE_B), False),
    (topics.answer(DEVICE_B), False),
    (topics.receipt(DEVICE_A), False),
    (topics.command(DEVICE_A), False),
    (topics.receipt(DEVICE_B), False),
    (topics.command(DEVICE_B), False),
    (topics.probe("gateway-1"), False),
    (topics.relay_event("relay-1"), False),
    (topics.relay_command("relay-1"), False),
    (f"fg1/d/{DEVICE_A}", False),
    (f"fg1/d/{DEVICE_A}/hb/more", False),
    (f"fg1/d/{DEVICE_A}/other", False),
    (f"fg1/d/{DEVICE_A}/", False),
    (f"/fg1/d/{DEVICE_A}/hb", False),
    (f"fg1/d/{DEVICE_A.lower()}x/hb", False),
    ("fg1/d/%u/hb", False),
    ("fg2/d/x/hb", False),
    ("$SYS/broker/load", False),
]


async def test_a_device_writes_its_own_three_topics_and_no_other(node: MqttNode) -> None:
    async with connected(node.unix, node.as_login(GATEWAY)) as gateway:
        await gateway.subscribe(*EVERYTHING_FROM_DEVICES, topics.probe("gateway-1"))
        for topic, allowed in WRITING:
            # Mosquitto 2.0.11 ends a connection that was refused a publication of QoS 1.
            async with connected(node.tls, node.as_login(DEVICE_A)) as device:
                reason = await device.publish(topic, b"x")
                assert (reason != NOT_AUTHORIZED) is allowed, topic
        await gateway.until_received(count=3)
        await gateway.ping()
        assert [packet.topic for packet in gateway.received] == [
            topic for topic, allowed in WRITING if allowed
        ]


READING = ("#", "+/+/+/+", "fg1/#", "fg1/c/+/cmd", "$share/x/fg1/c/+/ok", "$SYS/#", "fg1/d/+/hb")


async def test_a_device_reads_its_own_two_topics_and_no_other(node: MqttNode) -> None:
    async with (
        connected(node.unix, node.as_login(GATEWAY)) as gateway,
        connected(node.tls, node.as_login(DEVICE_A)) as device,
        connected(node.tls, node.as_login(DEVICE_B)) as other,
    ):
        await device.subscribe(topics.receipt(DEVICE_A), topics.command(DEVICE_A))
        await other.subscribe(*READING, topics.receipt(DEVICE_A), topics.command(DEVICE_A))
        for topic in (topics.receipt(DEVICE_A), topics.command(DEVICE_A)):
            await gateway.publish(topic, b"for A")
        await gateway.publish(topics.probe("gateway-1"), b"tick")
        await device.publish(topics.heartbeat(DEVICE_A), b"from A")
        await device.until_received(count=2)
        await other.ping()
        assert other.received == []


async def test_a_serial_called_like_a_gateway_gets_nothing_of_it(node: MqttNode) -> None:
    async with (
        connected(node.unix, node.as_login(GATEWAY)) as gateway,
        connected(node.tls, node.as_login(LIKE_A_GATEWAY, client_id=GATEWAY)) as device,
    ):
        await device.subscribe("#", *EVERYTHING_FROM_DEVICES, topics.probe("gateway-1"))
        await gateway.subscribe(topics.probe("gateway-1"))
        await gateway.publish(topics.probe("gateway-1"), b"tick")
        await gateway.until_received()
        await device.ping()
        # Its client id became its login, so the gateway was not thrown out either.
        assert device.received == []
    for topic in (topics.probe("gateway-1"), topics.command(DEVICE_A), topics.receipt(DEVICE_A)):
        async with connected(node.tls, node.as_login(LIKE_A_GATEWAY)) as device:
            assert await device.publish(topic, b"x") == NOT_AUTHORIZED


WILLS = [
    (topics.presence(DEVICE_A), 1),
    (topics.presence(DEVICE_B), 0),
    (topics.receipt(DEVICE_B), 0),
    (topics.probe("gateway-1"), 0),
]


@pytest.mark.parametrize(("topic", "count"), WILLS)
async def test_a_will_is_sent_on_own_topics_only(topic: str, count: int, node: MqttNode) -> None:
    will = mqtt5.Will(topic, payload=b"will", qos=mqtt5.QoS.AT_LEAST_ONCE)
    async with (
        connected(node.unix, node.as_login(GATEWAY)) as gateway,
        connected(node.tls, node.as_login(DEVICE_B)) as other,
    ):
        await gateway.subscribe(*EVERYTHING_FROM_DEVICES, topics.probe("gateway-1"))
        await other.subscribe(topics.receipt(DEVICE_B))
        async with connected(node.tls, node.as_login(DEVICE_A, will=will)) as device:
            await device.ping()
        # A newer connection of the same login: its presence comes after the Will of the old one.
        async with connected(node.tls, node.as_login(DEVICE_A)) as device:
            await device.publish(topics.presence(DEVICE_A), b"back")
        await gateway.until_received(count=count + 1)
        await other.ping()
        assert [packet.payload for packet in gateway.received] == [b"will"] * count + [b"back"]
        assert other.received == []


async def test_a_retained_message_ends_the_connection_and_is_not_kept(node: MqttNode) -> None:
    async with connected(node.tls, node.as_login(DEVICE_A)) as device:
        with pytest.raises(MqttClosed, match="RETAIN_NOT_SUPPORTED"):
            await device.publish(topics.heartbeat(DEVICE_A), b"x", retain=True)
    async with connected(node.unix, node.as_login(GATEWAY)) as gateway:
        await gateway.subscribe(topics.heartbeat("+"))
        await gateway.ping()
        assert gateway.received == []


async def test_another_logins_client_id_throws_nobody_out(node: MqttNode) -> None:
    async with (
        connected(node.tls, node.as_login(DEVICE_A)) as victim,
        connected(node.tls, node.as_login(DEVICE_B, client_id=DEVICE_A)) as thief,
    ):
        await thief.ping()
        await victim.ping()
        async with connected(node.tls, node.as_login(DEVICE_A)) as again:
            await again.ping()
            await victim.until_closed()
        await thief.ping()


async def _is_thrown_out(device: Connection, size_bytes: int) -> bool:
    try:
        await device.publish(topics.heartbeat(DEVICE_A), b"x" * size_bytes, qos=0)
    except MqttClosed:
        return True
    await device.until_closed()
    return True


async def test_a_payload_over_the_limit_ends_that_connection_only(node: MqttNode) -> None:
    async with (
        connected(node.unix, node.as_login(GATEWAY)) as gateway,
        connected(node.tls, node.as_login(DEVICE_B)) as other,
    ):
        await gateway.subscribe(*EVERYTHING_FROM_DEVICES)
        for size_bytes in (PACKET_SIZE_MAX_BYTES, 1024 * 1024):
            async with connected(node.tls, node.as_login(DEVICE_A)) as device:
                assert await _is_thrown_out(device, size_bytes)
        await other.publish(topics.heartbeat(DEVICE_B), b"x" * 16_000)
        await gateway.until_received()
        await gateway.ping()
        assert [packet.topic for packet in gateway.received] == [topics.heartbeat(DEVICE_B)]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_gateway_that_stalls_loses_nothing_over_a_count(qos: int, node: MqttNode) -> None:
    count, payload = 3_000, b"x" * 400  # three times Mosquitto's usual limit, beyond socket buffers
    async with (
        connected(node.unix, node.as_login(GATEWAY)) as gateway,
        connected(node.tls, node.as_login(DEVICE_A)) as device,
    ):
        await gateway.subscribe(*EVERYTHING_FROM_DEVICES)
        for _ in range(count):  # the gateway reads nothing meanwhile
            await device.publish(topics.presence(DEVICE_A), payload, qos=qos)
        await device.ping()
        await gateway.until_received(count=count, within_s=20)


@pytest.mark.parametrize("login", ["", "@gateway-2", "1100000003", "#", "+", f"{DEVICE_A}/hb"])
async def test_only_listed_logins_with_their_password_come_in(login: str, node: MqttNode) -> None:
    for listener in node.listeners:
        packet = mqtt5.ConnectPacket("x", username=login, password=b"word", clean_start=True)
        with pytest.raises(MqttRefused):
            async with connected(listener, packet):
                pass


async def test_one_devices_password_opens_no_other_login(node: MqttNode) -> None:
    packet = mqtt5.ConnectPacket(
        DEVICE_B, username=DEVICE_B, password=node.passwords[DEVICE_A].encode(), clean_start=True
    )
    with pytest.raises(MqttRefused):
        async with connected(node.tls, packet):
            pass


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_the_tls_listener_speaks_no_older_version(node: MqttNode) -> None:
    context = ssl.create_default_context(cafile=str(node.keys.ca_certificate))
    # Old versions need weak hashes, which the client would refuse before the server could.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await asyncio.open_connection(node.tls.host, node.tls.port, ssl=context)


async def test_the_tls_listener_speaks_no_plain_text(node: MqttNode) -> None:
    reader, writer = await asyncio.open_connection(node.tls.host, node.tls.port)
    writer.write(node.as_login(DEVICE_A).write())
    try:
        answer = await reader.read(1)
    except ConnectionError:
        answer = b""
    assert answer in (b"", b"\x15")  # the end, or a TLS alert: never a CONNACK
    writer.close()


async def test_a_ca_that_is_not_ours_is_refused_by_the_client(
    node: MqttNode, mosquitto: MosquittoFactory
) -> None:
    other = make_node(mosquitto)
    stranger = type(node.tls)(node.tls.host, node.tls.port, other.keys.ca_certificate)
    with pytest.raises(MqttUnreachable, match="certificate verify failed"):
        async with connected(stranger, node.as_login(DEVICE_A)):
            pass
