"""The relay as a program of its own, with a real MQTT server and a gateway played by hand."""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from broker.relay.__main__ import loop_factory, main
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import GATEWAY, RELAY, MqttNode, make_node
from tests.relay_rig import KID, LIMIT_S, Mint, MovedClock, RawDevice, dial, fact
from wire.hello import Word
from wire.relay_control import Lease, Note, Revocation, State, decode_state, encode
from wire.tickets import Claims, Party, Way
from wire.topics import relay_command, relay_event


class Gateway:
    """Hears states, and sends leases when told to."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.states: list[State] = []

    async def listen(self) -> None:
        async for message in self.client.messages:
            self.states.append(decode_state(bytes(message.payload)))

    async def lease(self, epoch: str, **changes: Any) -> None:
        lease = Lease(epoch, 0, 0)._replace(**changes)
        await self.client.publish(relay_command("relay-1"), encode(lease))

    async def state(self, count: int = 1) -> State:
        """The next one, or so many later."""
        wanted = len(self.states) + count
        await fact(lambda: len(self.states) >= wanted)
        return self.states[-1]


class Running:
    """The process, and how it is reached."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            found = re.search(r"relay starts .* port=(\d+)", self.lines[-1])
            if found:
                self.port = int(found[1])

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()


def write_files(folder: Path, node: MqttNode, mint: Mint, **changes: Any) -> Path:
    """The relay's files."""
    keys = {KID: mint.public_pem.decode()}
    (folder / "ticket-keys.json").write_text(json.dumps(keys))
    (folder / "password").write_text(node.passwords[RELAY])
    values = {
        "id": "relay-1",
        "host": "127.0.0.1",
        "port": 0,
        "domain": "localhost",
        "gateway_url": "http://127.0.0.1:8080",
        "public_port": 0,
        "behind_proxy": False,
        "link_certificate_file": str(node.keys.relay.certificate),
        "link_key_file": str(node.keys.relay.key),
        "visitors_certificate_file": "",
        "visitors_key_file": "",
        "ticket_keys_file": "ticket-keys.json",
        "mqtt_host": "127.0.0.1",
        "mqtt_port": node.server.port,
        "mqtt_ca_file": str(node.keys.ca_certificate),
        "mqtt_password_file": "password",
        "log_format": "text",
        "log_level": "info",
    } | changes
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    path = folder / "relay.toml"
    path.write_text(text)
    return path


class World:
    """Everything of one test."""

    def __init__(self, folder: Path, node: MqttNode, gateway: Gateway, group: Any) -> None:
        self.folder = folder
        self.node = node
        self.gateway = gateway
        self.mint = Mint(MovedClock())
        self._group = group
        self._running: list[Running] = []

    async def start(self, *before: str, **environment: str) -> Running:
        """A relay that listens and has said its first state."""
        process = await asyncio.create_subprocess_exec(
            *before,
            sys.executable,
            "-m",
            "broker.relay",
            "--config",
            str(write_files(self.folder, self.node, self.mint)),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        running = Running(process)
        self._running.append(running)
        self._group.create_task(running.read())
        states = len(self.gateway.states)
        await fact(lambda: running.port and len(self.gateway.states) > states)
        self.mint.epoch = self.gateway.states[-1].epoch
        return running

    async def end(self) -> None:
        for running in self._running:
            await running.stop()

    async def device(self, running: Running, claims: Claims) -> RawDevice:
        device = await dial(running.port, self.node.keys.ca_certificate)
        answered = await device.hello(self.mint.sign(claims))
        assert answered.word is Word.WELCOME, answered
        return device


@asynccontextmanager
async def a_world(folder: Path, mosquitto: MosquittoFactory) -> AsyncIterator[World]:
    node = make_node(mosquitto)
    node.server.start()
    client = aiomqtt.Client(
        node.server.host,
        node.server.port,
        username=GATEWAY,
        password=node.passwords[GATEWAY],
        identifier=GATEWAY,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=ssl.create_default_context(cafile=str(node.keys.ca_certificate)),
    )
    async with client, asyncio.TaskGroup() as group:
        await client.subscribe(relay_event("relay-1"), qos=1)
        gateway = Gateway(client)
        listening = group.create_task(gateway.listen())
        world = World(folder, node, gateway, group)
        try:
            yield world
        finally:
            await world.end()
            listening.cancel()


async def test_a_session_from_the_ticket_to_the_revocation(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        gateway = world.gateway
        running = await world.start()
        assert gateway.states[0].applied == 0 and gateway.states[0].usage == ()
        claims = world.mint.session()
        device = await world.device(running, claims)
        # Said at once, not with the next turn two seconds later.
        await fact(lambda: any(one.happened for one in gateway.states), 1.5)
        state = gateway.states[-1]
        assert [one.what for one in state.happened] == ["link_up"]
        assert (state.links, state.usage[0].session, state.usage[0].link) == (
            1,
            claims.session,
            True,
        )
        await gateway.lease(state.epoch, newest=1, taken=state.happened[-1].number)
        assert (await gateway.state(2)).happened == ()
        assert gateway.states[-1].applied == 1
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        row = Revocation(2, claims.session, "closed")
        await gateway.lease(state.epoch, newest=2, revoked=(row,))
        assert await device.end() == "closed"
        await device.closed()
        assert loop.time() - before_s < 1
        await fact(lambda: gateway.states[-1].applied == 2, 1.5)
        state = gateway.states[-1]
        assert [(one.what, one.detail) for one in state.happened] == [
            ("link_lost", "closed"),
            ("ended", "closed"),
        ]
        # The last count stays until the end is stored.
        assert [usage.session for usage in state.usage] == [claims.session]
        await gateway.lease(state.epoch, newest=2, taken=state.happened[-1].number)
        assert (await gateway.state(2)).usage == ()
        assert await running.stop() == 0
        ticket = world.mint.sign(claims)
        assert not [line for line in running.lines if ticket.split(".")[2] in line]


def test_the_loop_is_pythons_own_where_nobody_installed_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not there
    assert loop_factory() is None


def test_a_loop_that_the_operator_installed_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "relay")
    installed = types.ModuleType("uvloop")
    installed.__dict__.update(__version__="1.2.3", new_event_loop=asyncio.SelectorEventLoop)
    monkeypatch.setitem(sys.modules, "uvloop", installed)
    factory = loop_factory()
    assert factory is asyncio.SelectorEventLoop
    assert "the event loop is uvloop version=1.2.3" in caplog.text


async def test_after_a_restart_the_device_is_unknown_and_old_tickets_are_void(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start()
        claims = world.mint.session()
        device = await world.device(running, claims)
        old_ticket = world.mint.sign(world.mint.again(claims))
        assert await running.stop() == 0
        assert await device.end() == "relay_stopping"
        before = world.mint.epoch
        running = await world.start()
        assert world.mint.epoch != before
        again = await dial(running.port, world.node.keys.ca_certificate)
        assert (await again.resume(claims.session, 1, device.secret)).word is Word.UNKNOWN
        late = await dial(running.port, world.node.keys.ca_certificate)
        assert (await late.hello(old_ticket)).reason == "relay_restarted"
        device = await world.device(running, world.mint.again(claims, epoch=world.mint.epoch))
        device.transport.abort()


async def test_a_killed_relay_says_nothing_and_comes_back(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start()
        device = await world.device(running, world.mint.session())
        running.process.kill()
        assert await device.end() == "link_lost"
        await world.start()


async def test_the_control_link_comes_back(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start()
        device = await world.device(running, world.mint.session())
        # Another with the same login takes its place at the MQTT server.
        thief = aiomqtt.Client(
            world.node.server.host,
            world.node.server.port,
            username=RELAY,
            password=world.node.passwords[RELAY],
            identifier=RELAY,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=ssl.create_default_context(cafile=str(world.node.keys.ca_certificate)),
        )
        async with thief:
            await fact(lambda: any("no control link" in line for line in running.lines))
        await fact(lambda: sum("control link up" in line for line in running.lines) >= 2)
        await world.gateway.state()
        assert not device.ended.done()
        device.transport.abort()


async def test_a_lost_control_link_ends_sessions_after_five_minutes(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start(FLEETGATE_TEST_CLOCK=str(clock))
        await world.gateway.lease(world.mint.epoch)
        device = await world.device(running, world.mint.session())
        clock.write_text("290")
        await world.gateway.lease(world.mint.epoch)
        await world.gateway.state(2)
        assert not device.ended.done()
        clock.write_text("600")
        assert await device.end() == "control_link_lost"


async def test_states_of_many_sessions_fit_into_packets_and_all_are_said(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start()
        made = [world.mint.session() for _ in range(300)]
        for claims in made:
            await world.device(running, claims)
        said = {usage.session for state in world.gateway.states for usage in state.usage}
        wanted = {claims.session for claims in made}
        while said != wanted:
            said |= {usage.session for usage in (await world.gateway.state()).usage}
        assert world.gateway.states[-1].links == 300
        notes = tuple(Note(claims.session, "agent", "dialling", 1) for claims in made[:90])
        newest = world.gateway.states[-1].happened[-1].number
        await world.gateway.lease(world.mint.epoch, taken=newest, notes=notes)
        await fact(
            lambda: (
                world.gateway.states[-1].happened
                and world.gateway.states[-1].happened[0].number == newest + 1
            )
        )
        assert sum("control link up" in line for line in running.lines) == 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_it_connects_to_nothing_but_mqtt(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    trace = tmp_path / "trace"
    async with a_world(tmp_path, mosquitto) as world:
        running = await world.start("strace", "-f", "-o", str(trace), "-e", "trace=connect,sendto")
        await world.gateway.lease(world.mint.epoch)
        claims = world.mint.session()
        device = await world.device(running, claims)
        ticket = world.mint.again(claims, party=Party.VISITOR, way=Way.WEB, state="0" * 64)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        host = f"{claims.host}.localhost:{running.port}"
        path = f"/.fleetgate/enter?ticket={world.mint.sign(ticket)}&state=x"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 ")
        writer.close()
        await world.gateway.state(2)
        device.transport.abort()
        pid = int(trace.read_text().split()[0])
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            await running.process.wait()
    connects = [line for line in trace.read_text().splitlines() if "connect(" in line]
    ports = {found[1] for line in connects if (found := re.search(r"htons\((\d+)\)", line))}
    assert ports == {str(world.node.server.port)}, connects
    # Names are not asked for either: neither a resolver's daemon nor a name server.
    assert not [line for line in connects if "AF_UNIX" in line], connects
    assert not re.search(r"htons\(53\)", trace.read_text())


CONFIGURATION_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"domian": "x"}, "unknown key domian (nearest known: domain)"),
    "bad id": ({"id": "relay"}, "id must be relay-"),
    "name as host": ({"host": "example.org"}, "host must be an IP address"),
    "port": ({"port": 70_000}, "port must be from 0 to 65535"),
    "kind": ({"port": "8885"}, "port must be a whole number, not '8885'"),
    "off loopback": ({"host": "0.0.0.0"}, "off loopback without a certificate"),
    "half a pair": ({"visitors_key_file": "x"}, "belong together"),
    "gateway's domain": (
        {"gateway_url": "https://a.example.org", "domain": "example.org"},
        "domain must not be the gateway's",
    ),
    "missing": ({"mqtt_host": ""}, "missing: mqtt_host"),
    "no ticket keys": ({"ticket_keys_file": "nowhere.json"}, "nowhere.json"),
    "level": ({"log_level": "loud"}, "log_level must be one of"),
}


@pytest.mark.parametrize("kind", CONFIGURATION_ERRORS)
def test_a_wrong_configuration_is_told(
    kind: str, tmp_path: Path, mosquitto: MosquittoFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, said = CONFIGURATION_ERRORS[kind]
    node, mint = make_node(mosquitto), Mint(MovedClock())
    assert main(["--config", str(write_files(tmp_path, node, mint, **changes))]) == 2
    assert said in capsys.readouterr().err


def test_a_clock_moved_by_a_test_is_for_loopback_only(
    tmp_path: Path,
    mosquitto: MosquittoFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEETGATE_TEST_CLOCK", str(tmp_path / "clock"))
    node, mint = make_node(mosquitto), Mint(MovedClock())
    changes = {"host": "0.0.0.0", "behind_proxy": True, "domain": "tunnel.example.net"}
    path = write_files(tmp_path, node, mint, **changes)
    assert main(["--config", str(path)]) == 2
    assert "FLEETGATE_TEST_CLOCK" in capsys.readouterr().err
