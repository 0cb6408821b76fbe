"""The MQTT server's operator: may read and write everything there, and opens no session."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import mqtt5
import pytest

from gateway.mqtt_server.connection import Connection, UnixListener, connected
from tests.scenario.box import Box, a_box
from tests.scenario.installation import Installation
from tests.scenario.tunnel import demo, router, until_true
from tests.scenario.visiting import Session, open_session
from wire import topics
from wire.commands import Command, Verb, encode_command
from wire.relay_control import Lease, Note, Revocation, State, encode
from wire.session_commands import Open, open_args
from wire.targets import parse_target

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SERIAL = "forged-1"
EVERYTHING = """
user @probe
topic readwrite fg1/#
"""
READ_S_MAX = 10.0
TAG_BYTES = 32


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("forged"), 1) as found:
        yield found
        assert not found.tracebacks()


@pytest.fixture(scope="module")
def box(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with a_box(installation, tmp_path_factory.mktemp("box") / SERIAL, SERIAL) as found:
        yield found


@asynccontextmanager
async def operator(installation: Installation) -> AsyncIterator[Connection]:
    """Signed in at the MQTT server with a login that may do everything, for so long.

    No longer: the gateway does not work with an MQTT server that is open to its probe.
    """
    folder = installation.data
    lists = folder / "mosquitto" / "acl"
    before = lists.read_text()
    password = json.loads((folder / "mqtt-logins.json").read_text())["@probe"]
    packet = mqtt5.ConnectPacket(
        client_id="@probe", username="@probe", password=password.encode(), clean_start=True
    )
    (name,) = [one.name for one in (folder / "mosquitto").iterdir() if one.is_socket()]
    lists.write_text(before + EVERYTHING)
    os.kill(installation.pid("mosquitto"), signal.SIGHUP)
    try:
        async with connected(UnixListener(folder / "mosquitto" / name), packet) as connection:

            async def may() -> bool:
                code = await connection.publish("fg1/nobody", b"")
                return code is not mqtt5.PubAckReasonCode.NOT_AUTHORIZED

            await until_true(may, "the access list is read", within_s=READ_S_MAX)
            yield connection
    finally:
        lists.write_text(before)
        os.kill(installation.pid("mosquitto"), signal.SIGHUP)


async def off_loop(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def forgeries(trap: socket.socket, genuine: bytes, foreign: bytes) -> list[bytes]:
    """What the operator can make: without the key, or from what was overheard."""
    host, port = trap.getsockname()
    # To a relay of the forger's own.
    target = parse_target("127.0.0.1:80")
    order = Open(secrets.token_hex(16), "e", "t" * 200, (host,), port, target, 600)
    command = Command(99, secrets.token_hex(8), Verb.OPEN, open_args(order), 1_900_000_000_000, 60)
    key, nonce = secrets.token_bytes(32), secrets.token_hex(16)
    tag, body = genuine[:TAG_BYTES], genuine[TAG_BYTES:]
    return [
        encode_command(command, key=key, serial=SERIAL, nonce=nonce),
        foreign,
        tag + body.replace(b'"n":', b'"n":9'),
        tag + body.replace(b"127.0.0.1:80", b"127.0.0.1:81"),
        bytes(len(tag)) + body,
        body,
        b"",
        b"\xff" * 8_000,
        b"[" * 8_000,
    ]


def ignored(box: Box) -> int:
    return box.log.count("command ignored")


async def test_forged_and_replayed_commands_make_no_agent_dial(
    installation: Installation, box: Box
) -> None:
    topic = topics.command(SERIAL)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        async with operator(installation) as connection:
            await connection.subscribe(topics.command("+"))
            # A genuine one, overheard.
            session = await off_loop(lambda: open_session(installation, SERIAL))
            await connection.until_received()
            genuine = connection.received[0].payload
            assert json.loads(genuine[TAG_BYTES:])["verb"] == "open"
            other = await off_loop(lambda: open_session(installation, router(1)))
            await connection.until_received(count=2)
            foreign = connection.received[1].payload
            assert connection.received[1].topic == topics.command(router(1))
            await off_loop(session.until_open)
            await off_loop(session.close)
            await off_loop(other.close)
            told = box.log.count("session told")
            before = ignored(box)
            payloads = forgeries(trap, genuine, foreign)
            for payload in payloads:
                assert payload != genuine
                await connection.publish(topic, payload)
            # The genuine one again: it was carried out once, and is only answered again.
            await connection.publish(topic, genuine)

            async def all_ignored() -> bool:
                return ignored(box) - before >= len(payloads)

            await until_true(all_ignored, "all were ignored", within_s=READ_S_MAX)
        # Commands are bound to a connection: after the next sign-in it is worth nothing.
        former = installation.kill_child("mosquitto")
        await off_loop(lambda: installation.back("mosquitto", former))
        await off_loop(lambda: open_session(installation, SERIAL).until_open(60).close())
        before, told_since = ignored(box), box.log.count("session told")
        async with operator(installation) as connection:
            await connection.publish(topic, genuine)

            async def one_more() -> bool:
                return ignored(box) == before + 1

            await until_true(one_more, "the old one is ignored", within_s=READ_S_MAX)
        assert told_since == told + 1 == box.log.count("session told")
        with pytest.raises(BlockingIOError):
            trap.accept()
        assert trap.getsockname()[1] not in {port for _, port in box.dialled()}


def relay_log(installation: Installation) -> str:
    return (installation.data / "logs" / "relay.log").read_text(errors="replace")


async def test_forged_leases_do_not_harm_the_relay(installation: Installation) -> None:
    session: Session = await off_loop(lambda: open_session(installation, router(1)))
    cookie = await off_loop(session.enter)
    assert (await off_loop(lambda: session.page(cookie=cookie))).status == 302
    pid, logged = installation.pid("relay"), len(relay_log(installation))
    topic = topics.relay_command("relay-1")
    revoked = (Revocation(1_000, session.id, "closed"),)
    lease = Lease("0" * 32, 1_000, 1_000, revoked, (Note(session.id, "mqtt", "x", 1),))
    good: dict[str, Any] = json.loads(encode(lease))
    wrong = [
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"epoch":' * 1_000,
        b"9" * 16_000,
        b'{"epoch":"' + b"x" * 15_000 + b'"}',
    ]
    for name, value in (
        ("epoch", 7),
        ("epoch", None),
        ("newest", "1"),
        ("newest", -1),
        ("newest", 1.5),
        ("newest", True),
        ("newest", 10**300),
        ("taken", []),
        ("revoked", {}),
        ("revoked", [1]),
        ("revoked", [[1, session.id]]),
        ("revoked", [["1", session.id, "closed"]]),
        ("revoked", [[1, "../../etc", "closed"]]),
        ("revoked", [[1, session.id, {"a": 1}]]),
        ("revoked", [[1, session.id, "x"]] * 501),
        ("notes", [[session.id, 1, 2, 3]]),
        ("notes", [[session.id, "a", "b"]]),
    ):
        wrong.append(json.dumps({**good, name: value}).encode()[:16_000])
    async with operator(installation) as connection:
        await connection.publish(topic, encode(lease))
        for payload in wrong:
            await connection.publish(topic, payload)
        # More than the MQTT server carries: it ends the connection of whoever sends it.
        await connection.publish(topic, b" " * 256 * 1024, qos=0)
        await connection.until_closed()

    async def all_seen() -> bool:
        said = relay_log(installation)[logged:]
        return said.count("lease not readable") == len(wrong) and "another epoch ignored" in said

    await until_true(all_seen, "all were put aside", within_s=READ_S_MAX)
    assert installation.pid("relay") == pid
    page = await off_loop(lambda: session.page(cookie=cookie, source="127.0.0.9"))
    assert page.status == 302
    assert "Traceback" not in relay_log(installation)
    await off_loop(session.close)


async def test_forged_states_do_not_harm_the_gateway(installation: Installation) -> None:
    session: Session = await off_loop(lambda: open_session(installation, router(1)))
    await off_loop(session.until_open)
    api = installation.api
    before = (await off_loop(api.status))["relay_messages"]
    stranger = encode(State("f" * 32, 9, 1, 1, 1, (), ()))
    good: dict[str, Any] = json.loads(stranger)
    wrong = [b"", b"{}", b"\xff", b"[" * 10_000, b"9" * 16_000]
    for name, value in (
        ("epoch", 1),
        ("applied", "1"),
        ("links", -1),
        ("usage", [[session.id, 1, 2]]),
        ("usage", [[session.id, "1", 2, 3, 4, 5, True]]),
        ("usage", [["x", 1, 2, 3, 4, 5, True]]),
        ("happened", [[1, session.id, "ended", 5, 1]]),
        ("happened", "ended"),
    ):
        wrong.append(json.dumps({**good, name: value}).encode())
    ended = encode(State("f" * 32, 9, 0, 0, 0, (), ())).replace(
        b'"happened":[]', f'"happened":[[1,"{session.id}","ended","closed",1]]'.encode()
    )
    async with operator(installation) as connection:
        for name in ("relay-2", "relay-1x", "relay-999"):
            assert await connection.publish(topics.relay_event(name), stranger) is not None
            # A session of another relay: not this one's to end.
            await connection.publish(topics.relay_event(name), ended)
        for payload in wrong:
            await connection.publish(topics.relay_event("relay-1"), payload)

    async def counted() -> bool:
        now = (await off_loop(api.status))["relay_messages"]
        return bool(
            now["malformed"] - before["malformed"] == len(wrong)
            and now["unknown"] - before["unknown"] >= 1
        )

    await until_true(counted, "all were counted", within_s=READ_S_MAX)
    assert [one["id"] for one in (await off_loop(api.status))["relays"]] == ["relay-1"]
    assert (await off_loop(session.shown))["state"] == "open"
    assert (await off_loop(session.diagnosis))["failing"] is None
    await off_loop(session.close)


async def test_a_relay_speaks_only_for_itself(installation: Installation) -> None:
    """With its own password and without the operator's rights."""
    folder = installation.data
    password = (folder / "relay" / "mqtt-password").read_text().strip()
    packet = mqtt5.ConnectPacket(
        client_id="@relay-1", username="@relay-1", password=password.encode(), clean_start=True
    )
    (name,) = [one.name for one in (folder / "mosquitto").iterdir() if one.is_socket()]
    state = encode(State("f" * 32, 9, 1, 1, 1))
    pid = installation.pid("relay")
    os.kill(pid, signal.SIGSTOP)  # else it takes its own connection over again
    try:
        for topic in (
            topics.relay_event("relay-2"),
            topics.relay_command("relay-1"),
            topics.command(router(1)),
            topics.receipt(router(1)),
            topics.answer(router(1)),
        ):
            # After a refusal the server may end the connection.
            async with connected(UnixListener(folder / "mosquitto" / name), packet) as connection:
                code = await connection.publish(topic, state)
                assert code == mqtt5.PubAckReasonCode.NOT_AUTHORIZED, topic
    finally:
        os.kill(pid, signal.SIGCONT)
    session: Session = await off_loop(lambda: open_session(installation, router(1)))
    await off_loop(session.until_open)
    await off_loop(session.close)
    assert pid == installation.pid("relay")
