"""`fleetgate connect` with local ports, as a process, against a small gateway and relay."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.connect_world import SERIAL, TOKEN, connecting, world
from tests.integration.relay_certificate import visitors_certificate
from wire.hello import Answered, Word

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATTERN = bytes(range(251)) * 40_000  # 10 MB; its period is no power of two


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything comes back; the end does too, last."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()


@asynccontextmanager
async def target(handler: Handler = echo) -> AsyncIterator[int]:
    """A machine behind the router; its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def exchanged(port: int, data: bytes) -> bytes:
    """Sends all, ends, and reads all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    try:
        _, got = await asyncio.gather(send(), reader.read())
    finally:
        writer.close()
    return got


async def is_refused(port: int) -> bool:
    """Whether a connection ends without a byte."""
    try:
        return await exchanged(port, b"x") == b""
    except ConnectionError:
        return True


async def test_several_ports_carry_bytes_exactly_both_ways() -> None:
    async with world() as server, target() as first, target() as second:
        wanted = (f"{SERIAL}:{first}", "--local", f"0=box-B_2:127.0.0.1:{second}")
        async with connecting(server, "--json", "--reason", "why", *wanted) as running:
            ports = await running.ports()
            assert [one["serial"] for one in ports] == [SERIAL, "box-B_2"]
            assert [one["address"] for one in ports] == ["127.0.0.1"] * 2
            got = await asyncio.gather(
                *(exchanged(one["port"], PATTERN) for one in ports),
                *(exchanged(ports[0]["port"], b"%d" % index) for index in range(200)),
            )
            assert got[:2] == [PATTERN, PATTERN]
            assert got[2:] == [b"%d" % index for index in range(200)]
            running.process.send_signal(signal.SIGINT)
            assert await running.ends() == 0
    opened = [content for what, _, content in server.asked if what == "POST"]
    assert opened[0] == {
        "serial": SERIAL,
        "minutes": 60,
        "target": f"127.0.0.1:{first}",
        "protocol": "tcp",
        "reason": "why",
    }
    # What it opened, it closed.
    closed = {session for what, session, _ in server.asked if what == "DELETE"}
    assert closed == set(server.sessions)


async def test_the_table_says_where_and_what_to_try_and_keep_keeps() -> None:
    async with (
        world() as server,
        connecting(server, "--keep", f"{SERIAL}:80", SERIAL) as running,
    ):
        assert running.process.stdout is not None
        lines = [(await running.process.stdout.readline()).decode() for _ in range(3)]
        await running.says("Ctrl-C")
        running.process.send_signal(signal.SIGTERM)
        assert await running.ends() == 0
    assert lines[0].split() == ["local", "port", "leads", "to", "try"]
    assert f"{SERIAL} 127.0.0.1:80" in lines[1] and "http://127.0.0.1:" in lines[1]
    assert "ssh -p" in lines[2]
    assert not [one for one in server.asked if one[0] == "DELETE"]


async def test_a_target_that_ends_first_is_seen_and_a_local_end_too() -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"over to you")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with (
        world() as server,
        target(speak_first) as port,
        connecting(server, "--json", f"{SERIAL}:{port}") as running,
    ):
        local = (await running.ports())[0]["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        assert await reader.read() == b"over to you"
        writer.write(b"thanks")
        writer.write_eof()
        assert await asyncio.wait_for(heard, 10) == b"thanks"
        writer.close()


async def test_after_the_relays_death_new_connections_work_without_a_word() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--json", f"{SERIAL}:{port}") as running,
    ):
        local = (await running.ports())[0]["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        await server.stop_relay()
        # The local port stays and lets new ones wait, and so does what was open.
        await running.says("trying again")
        waiting = asyncio.create_task(exchanged(local, PATTERN))
        await running.says("refused")
        server.refuse_ticket = (503, {"code": "unavailable", "detail": "relay_away"})
        await server.start_relay()
        # The relay that came back knows nothing of what was open.
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        await running.says("relay_away")
        server.refuse_ticket = None
        assert await asyncio.wait_for(waiting, 10) == PATTERN
        assert await exchanged(local, b"again") == b"again"
        await running.says("connected to the relay")


async def test_a_cut_is_healed_with_a_new_ticket() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--json", f"{SERIAL}:{port}") as running,
    ):
        local = (await running.ports())[0]["port"]
        for number in range(3):
            server.cut()
            await running.says("trying again", number + 1)
            assert await exchanged(local, b"%d" % number) == b"%d" % number
    assert len([one for one in server.asked if one[0] == "TICKET"]) >= 4


@pytest.mark.parametrize("told", [True, False])
async def test_when_the_session_is_over_it_says_why_and_ends(told: bool) -> None:
    async with (
        world() as server,
        connecting(server, "--json", f"{SERIAL}:22") as running,
    ):
        await running.ports()
        server.end("expired", told=told)
        server.cut()
        await running.says("its time is over")
        assert await running.ends() == 1
    assert not [one for one in server.asked if one[0] == "DELETE"]


async def test_one_of_two_sessions_may_end_alone() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--json", f"{SERIAL}:{port}", f"{SERIAL}:22") as running,
    ):
        ports = await running.ports()
        server.sessions[ports[1]["session"]].update(state="ended", ended_because="closed")
        server.cut()
        await running.says("somebody closed it")
        assert await exchanged(ports[0]["port"], b"alive") == b"alive"
        assert await is_refused(ports[1]["port"])


async def test_a_refused_stream_is_explained_once_with_the_hop() -> None:
    async with world() as server:
        server.refuse_streams = "device_offline"
        advice = "The device is offline. Check its power."
        server.culprit = {
            "hop": "mqtt",
            "state": "failed",
            "code": "device_signed_out",
            "at": "2030-01-01T00:00:00Z",
            "advice": advice,
        }
        async with connecting(server, "--json", f"{SERIAL}:22") as running:
            local = (await running.ports())[0]["port"]
            assert await is_refused(local)
            await running.says("the device is offline")
            await running.says(f"mqtt: device_signed_out, since 2030-01-01T00:00:00Z: {advice}")
            before = len(running.errors)
            assert await is_refused(local)
            server.refuse_streams = "not_allowed"
            assert await is_refused(local)
            await running.says("allow-list")
            server.refuse_streams = "device_signed_out"
            assert await is_refused(local)
            await running.says("mqtt: device_signed_out", 2)
            assert not [line for line in running.errors[before:] if "is offline;" in line]


REFUSALS: list[tuple[int, dict[str, Any], str]] = [
    (401, {"code": "signed_out", "detail": "Sign in first."}, "FLEETGATE_TOKEN"),
    (403, {"code": "forbidden", "detail": "No."}, "administrator"),
    (404, {"code": "not_found", "detail": "There is no such device."}, "Check the serial"),
    (409, {"code": "service_unpaid", "detail": "Not active."}, "admin devices activate"),
    (422, {"code": "validation", "detail": "target: no\x1b[2J"}, "target: no [2J"),
    (500, {"code": "internal", "detail": "Wrong.", "request_id": "r-7"}, "r-7"),
]


@pytest.mark.parametrize(("status", "problem", "says"), REFUSALS, ids=[str(r[0]) for r in REFUSALS])
async def test_a_refusal_says_what_to_do(status: int, problem: dict[str, Any], says: str) -> None:
    async with world() as server:
        server.refuse_open = (status, problem)
        async with connecting(server, f"{SERIAL}:22") as running:
            assert await running.ends() == 1
            await running.says(says)


async def test_a_ticket_that_is_refused_for_good_ends_it() -> None:
    async with world() as server:
        server.refuse_ticket = (403, {"code": "forbidden", "detail": "Not any more."})
        async with connecting(server, f"{SERIAL}:22") as running:
            await running.says("Not any more.")
            assert await running.ends() == 1


async def test_a_relay_that_wants_another_ticket_gets_one() -> None:
    async with world() as server, target() as port:
        server.turn_away = Answered(Word.REFUSED, reason="relay_restarted")
        async with connecting(server, "--json", f"{SERIAL}:{port}") as running:
            await running.says("relay_restarted")
            server.turn_away = None
            local = (await running.ports())[0]["port"]
            assert await exchanged(local, b"x") == b"x"


async def test_nobody_at_the_address_and_a_port_that_is_taken() -> None:
    async with target() as taken, world() as server:
        server_url = server.url
        local = ("--local", f"{taken}={SERIAL}:22")
        async with connecting(server, *local) as running:
            assert await running.ends() == 1
            await running.says(f"port {taken}: Address already in use")
        assert [one for one in server.asked if one[0] == "DELETE"]
    async with connecting(None, "--url", server_url, "--token", TOKEN, SERIAL) as running:
        assert await running.ends() == 1
        await running.says("Connection refused")


@pytest.mark.parametrize(
    "arguments", [(), ("--url", "ftp://x", SERIAL), ("--url", "http://x", "?")]
)
async def test_wrong_usage_ends_with_two(arguments: tuple[str, ...]) -> None:
    async with connecting(None, *arguments) as running:
        assert await running.ends() == 2


async def test_the_relays_certificate_is_checked_for_the_sessions_name(tmp_path: Path) -> None:
    certificate, key = visitors_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with world(context) as server, target() as port:
        wanted = f"{SERIAL}:{port}"
        async with connecting(server, "--json", "--ca", str(certificate), wanted) as running:
            local = (await running.ports())[0]["port"]
            assert await exchanged(local, PATTERN) == PATTERN
        async with connecting(server, wanted) as running:
            await running.says("was not accepted")
            await running.says("--ca")
            assert await running.ends() == 1
    foreign, key = visitors_certificate(tmp_path, "*.other.test")
    context.load_cert_chain(foreign, key)
    async with (
        world(context) as server,
        connecting(server, "--ca", str(foreign), f"{SERIAL}:22") as running,
    ):
        await running.says("every name in the relay's domain")
        assert await running.ends() == 1


async def test_another_host_of_the_relay_is_tried() -> None:
    async with world() as server, target() as port:
        server.hosts = ["127.0.0.2", "127.0.0.1"]
        async with connecting(server, "--json", f"{SERIAL}:{port}") as running:
            local = (await running.ports())[0]["port"]
            assert await exchanged(local, b"x") == b"x"
            assert json.dumps(running.errors).count("127.0.0.2") == 0


async def test_the_relay_may_be_dialled_elsewhere_than_the_gateway_says() -> None:
    async with world() as server, target() as port:
        server.hosts = ["127.0.0.9"]  # as where the relay's public address is not reached from here
        elsewhere = f"127.0.0.1:{server.relay_port}"
        words = ("--json", "--relay", elsewhere, f"{SERIAL}:{port}")
        async with connecting(server, *words) as running:
            local = (await running.ports())[0]["port"]
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(b"here")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b"here"
            writer.close()
