"""A whole agent on a real Mosquitto: told of sessions, reporting them, with links of their own."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from agent.agent import Agent
from agent.clock import SystemClock
from agent.connection import Address
from agent.errors import ConfigurationError
from agent.intervals import Intervals
from agent.state import Login
from agent.status import Status, read_status
from agent.tls import device_context
from tests.conftest import MosquittoFactory
from tests.integration.test_agent_live import KEY, SERIAL, Peer, peer_on, running
from tests.linked_device import Device, echo, linked_device, serving
from tests.model_gateway import ModelGateway
from tests.model_relay import until
from tests.mosquitto import MosquittoServer
from wire.commands import Answer, Outcome
from wire.session_commands import LinkState, Report, open_args, report_of

SESSION = f"{1:032x}"


@pytest.fixture
def server(mosquitto: MosquittoFactory) -> MosquittoServer:
    made = mosquitto()
    made.configuration.write_text(
        f"listener {made.port} {made.bind_host}\nallow_anonymous true\nmax_packet_size 16384\n"
    )
    made.start()
    return made


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    async with linked_device(tmp_path / "relay") as made:
        yield made


def new_agent(
    server: MosquittoServer, folder: Path, device: Device, *, allow: tuple[str, ...]
) -> Agent:
    context = device_context(ca_file=device.keys.ca_certificate, check_dates=True)
    clock = SystemClock()
    return Agent(
        login=Login(SERIAL, "secret", KEY),
        addresses=[Address(server.host, server.port)],
        tls=None,
        state_dir=folder / "flash",
        spool_dir=folder / "memory",
        clock=clock,
        rng=Random(3),
        collector=lambda: {"uptime": 1},
        intervals=Intervals(60, 60),
        status=Status(folder / "memory", clock),
        relay_tls=lambda: context,
        allow=allow,
    )


@asynccontextmanager
async def signed_in(
    server: MosquittoServer, folder: Path, device: Device, *allow: str
) -> AsyncIterator[tuple[Agent, Peer]]:
    gateway = ModelGateway()
    agent = new_agent(server, folder, device, allow=allow)
    async with peer_on(server, gateway) as peer, running(agent):
        await until(lambda: agent.connected and gateway.stored)
        yield agent, peer


def reports_of(peer: Peer) -> list[Report]:
    return [report for answer in peer.answers if (report := report_of(answer)) is not None]


def answer_to(peer: Peer, n: int) -> Answer:
    return next(answer for answer in peer.answers if answer.id == f"id-{n}")


async def test_a_session_is_told_reported_and_closed(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    async with (
        serving(echo) as target,
        signed_in(server, tmp_path, device, "127.0.0.1:1-65535") as (agent, peer),
    ):
        order = open_args(device.order(target))
        await peer.command(1, "open", **order)
        answer = answer_to(peer, 1)
        assert (answer.outcome, answer.result) == (Outcome.DONE, {"dialling": True})
        await until(lambda: Report(SESSION, LinkState.UP, "") in reports_of(peer))
        visitor = device.relay.open(await device.relay.link())
        await visitor.send(b"through")
        await until(lambda: visitor.got == b"through")
        shown = read_status(tmp_path / "memory")
        assert shown is not None and f"{target} up" in shown.sessions[0]
        assert re.search(r", until [0-2]\d:[0-5]\d UTC$", shown.sessions[0])
        await peer.command(2, "open", **open_args(device.order(target)))
        await until(lambda: any(answer.id == "id-2" for answer in peer.answers))
        assert answer_to(peer, 2).result == {"link": "up"}
        await peer.command(3, "close", session=SESSION)
        await until(lambda: visitor.ended == "closed")
        await until(lambda: not len(agent.sessions))
        shown = read_status(tmp_path / "memory")
        assert shown is not None and not shown.sessions


async def test_what_is_not_allowed_is_refused_by_the_command_itself(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    async with signed_in(server, tmp_path, device, "router:22,80,443") as (_, peer):
        order = open_args(device.order("127.0.0.1:80"))
        for n, target in enumerate(("127.0.0.1:8080", "169.254.169.254:80", "0x7f.1:80"), 1):
            answer = await peer.command(n, "open", **order | {"target": target})
            assert (answer.outcome, answer.result) == (Outcome.REFUSED, {"error": "not_allowed"})
        assert not device.relay.sides


async def test_links_do_not_notice_that_the_mqtt_server_is_away(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    agent = new_agent(server, tmp_path, device, allow=("127.0.0.1:1-65535",))
    async with serving(echo) as target, AsyncExitStack() as lives:
        async with peer_on(server, gateway := ModelGateway()) as peer:
            await lives.enter_async_context(running(agent))
            await until(lambda: agent.connected and gateway.stored)
            await peer.command(1, "open", **open_args(device.order(target)))
            await until(lambda: reports_of(peer))
        visitor = device.relay.open(await device.relay.link())
        server.kill()
        await until(lambda: not agent.connected)
        await visitor.send(b"still here")
        await until(lambda: visitor.got == b"still here")
        # A link is made anew without the MQTT server; what is to be said of it waits.
        device.relay.sides[0].transport.abort()
        visitor = device.relay.open(await device.relay.link(1))
        server.start()
        async with peer_on(server, gateway) as peer:
            await until(lambda: Report(SESSION, LinkState.UP, "") in reports_of(peer))
            assert len(reports_of(peer)) == 1  # the newest alone
        await visitor.send(b"still here")
        await until(lambda: visitor.got == b"still here")


async def test_stopping_ends_links_with_a_word(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    async with serving(echo) as target:
        async with signed_in(server, tmp_path, device, "127.0.0.1:1-65535") as (agent, peer):
            await peer.command(1, "open", **open_args(device.order(target)))
            visitor = device.relay.open(await device.relay.link())
            await visitor.send(b"x")
            await until(lambda: visitor.got)
            agent.stop()
            await until(lambda: visitor.ended)
        assert visitor.ended == device.relay.sides[0].ended == "agent_stopping"
        assert not len(agent.sessions)


async def test_a_cut_of_power_leaves_nothing_running(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    gateway = ModelGateway()
    agent = new_agent(server, tmp_path, device, allow=("127.0.0.1:1-65535",))
    async with serving(echo) as target, peer_on(server, gateway) as peer:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(agent.run())
            await until(lambda: agent.connected and gateway.stored)
            await peer.command(1, "open", **open_args(device.order(target)))
            visitor = device.relay.open(await device.relay.link())
            await visitor.send(b"x")
            await until(lambda: visitor.got)
            task.cancel()
        await until(lambda: visitor.ended)
        assert visitor.ended == "link_lost"


async def test_a_wrong_list_is_refused_at_once(
    server: MosquittoServer, tmp_path: Path, device: Device
) -> None:
    with pytest.raises(ConfigurationError, match="allow: 'any'"):
        new_agent(server, tmp_path, device, allow=("any",))
