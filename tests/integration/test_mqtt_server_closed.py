"""The probe: it is content with the product's own server and names the setting of an open one."""

from collections.abc import Callable

import pytest

from gateway.mqtt_server import acl
from gateway.mqtt_server.connection import MqttError
from gateway.mqtt_server.probe import ProbeSettings, UnsafeServer, prove_closed
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import GATEWAY, MqttNode, make_node


async def test_the_products_own_server_is_closed(mosquitto: MosquittoFactory) -> None:
    node = make_node(mosquitto)
    node.server.start()
    await prove_closed(node.probe_settings())
    await prove_closed(node.probe_settings())


def _option(name: str, replacement: str) -> Callable[[MqttNode], None]:
    return lambda node: node.write(conf=node.spoiled(name, replacement))


def _anonymous(node: MqttNode) -> None:
    """Without the second belt too: a client id that must be a login admits nobody without one."""
    conf = node.spoiled("allow_anonymous", "allow_anonymous true")
    node.write(conf=conf.replace("use_username_as_clientid true", ""))


def _access(text: str) -> Callable[[MqttNode], None]:
    return lambda node: node.write(access=acl.render(gateways=[GATEWAY]) + text)


# What is done to the server, and the setting that the probe must name.
OPEN_SERVERS: list[tuple[str, Callable[[MqttNode], None], str]] = [
    ("anonymous", _anonymous, "allow_anonymous"),
    ("no access list", _option("acl_file", ""), "acl_file"),
    (
        "no password file",
        lambda node: node.write(
            conf=node.spoiled("password_file", "").replace(
                "allow_anonymous false", "allow_anonymous true"
            )
        ),
        "password_file",
    ),
    ("free client ids", _option("use_username_as_clientid", ""), "use_username_as_clientid"),
    ("retained messages", _option("retain_available", ""), "retain_available"),
    ("large packets", _option("max_packet_size", "max_packet_size 99999"), "max_packet_size"),
    ("no packet limit", _option("max_packet_size", ""), "max_packet_size"),
    ("free writing", _access("pattern write fg1/d/#\n"), "acl_file"),
    ("free receipts", _access("pattern write fg1/c/+/ok\n"), "acl_file"),
    ("free commands", _access("pattern write fg1/c/+/cmd\n"), "acl_file"),
    ("free probe topic", _access("pattern write fg1/probe/+\n"), "acl_file"),
    ("free reading", _access("pattern read fg1/d/+/ans\n"), "acl_file"),
    ("free reading of all", _access("pattern read #\n"), "acl_file"),
]


@pytest.mark.parametrize(
    ("spoil", "setting"), [row[1:] for row in OPEN_SERVERS], ids=[row[0] for row in OPEN_SERVERS]
)
async def test_an_open_server_is_refused_by_name(
    spoil: Callable[[MqttNode], None], setting: str, mosquitto: MosquittoFactory
) -> None:
    node = make_node(mosquitto)
    spoil(node)
    node.server.start()
    with pytest.raises(UnsafeServer) as caught:
        await prove_closed(node.probe_settings())
    assert caught.value.setting == setting


async def test_anonymous_alone_is_held_by_the_second_belt(mosquitto: MosquittoFactory) -> None:
    node = make_node(mosquitto)
    node.write(conf=node.spoiled("allow_anonymous", "allow_anonymous true"))
    node.server.start()
    await prove_closed(node.probe_settings())


async def test_a_server_that_refuses_the_probe_itself_proves_nothing(
    mosquitto: MosquittoFactory,
) -> None:
    node = make_node(mosquitto)
    node.server.start()
    wrong = ProbeSettings(listeners=node.listeners, password="wrong", gateway="gateway-1")
    with pytest.raises(MqttError):
        await prove_closed(wrong)
    node.server.stop()
    with pytest.raises(MqttError):
        await prove_closed(node.probe_settings())
