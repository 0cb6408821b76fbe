"""The control link ends when it is told to, whatever the MQTT server says at that very moment."""

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from broker.relay.clock import Clock
from broker.relay.control import Control, MqttServers
from broker.relay.happenings import Happenings
from broker.relay.lease import LeaseWatch
from broker.relay.limits import Limits
from broker.relay.sessions import Sessions
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import RELAY, MqttNode, make_node
from tests.relay_rig import EPOCH, LIMIT_S, fact

TURNS_MAX = 8  # from an answer's arrival until whoever waits for it goes on; some more do no harm


def control(node: MqttNode, folder: Path) -> Control:
    clock = Clock()
    lease = LeaseWatch(clock)
    sessions = Sessions(clock=clock, lease=lease, happenings=Happenings(clock), limits=Limits())
    password = folder / "password"
    password.write_text(node.passwords[RELAY])
    addresses = (("127.0.0.1", node.server.port),)
    servers = MqttServers(addresses, node.keys.ca_certificate, password)
    return Control(servers, relay="relay-1", epoch=EPOCH, sessions=sessions, lease=lease)


def end_in(turns: int, running: asyncio.Task[None], told: asyncio.Event) -> None:
    """Tells it to end, so many turns of the loop later."""
    if turns:
        asyncio.get_running_loop().call_soon(end_in, turns - 1, running, told)
    else:
        running.cancel()
        told.set()


@pytest.mark.parametrize("answer", ["_on_connect", "_on_subscribe", "_on_publish"])
@pytest.mark.parametrize("turns", range(TURNS_MAX))
async def test_an_end_is_not_lost_when_an_answer_comes_at_that_moment(
    answer: str,
    turns: int,
    tmp_path: Path,
    mosquitto: MosquittoFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = make_node(mosquitto)
    node.server.start()
    usual = getattr(aiomqtt.Client, answer)
    told = asyncio.Event()

    def heard(client: aiomqtt.Client, *args: Any, **named: Any) -> None:
        usual(client, *args, **named)
        if not told.is_set():
            end_in(turns, running, told)

    monkeypatch.setattr(aiomqtt.Client, answer, heard)
    running = asyncio.create_task(control(node, tmp_path).run())
    try:
        async with asyncio.timeout(LIMIT_S):
            await told.wait()
        await asyncio.wait([running], timeout=LIMIT_S / 2)
        assert running.cancelled(), "it goes on"
    finally:
        running.cancel()
        await asyncio.wait([running], timeout=LIMIT_S)


async def test_an_end_is_not_lost_when_parting_fails(
    tmp_path: Path, mosquitto: MosquittoFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(mosquitto)
    node.server.start()
    usual = aiomqtt.Client.__aexit__

    async def parting(client: aiomqtt.Client, *args: Any) -> None:
        await usual(client, *args)
        raise aiomqtt.MqttError("Operation timed out")

    monkeypatch.setattr(aiomqtt.Client, "__aexit__", parting)
    made = control(node, tmp_path)
    running = asyncio.create_task(made.run())
    try:
        await fact(lambda: made.connected)
        running.cancel()
        await asyncio.wait([running], timeout=LIMIT_S / 2)
        assert running.cancelled(), "it goes on"
    finally:
        running.cancel()
        await asyncio.wait([running], timeout=LIMIT_S)
