"""The terminal's WebSocket attacked: by other sites, other people, floods and broken messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.join.ca import KeyFiles
from gateway.storage.address import Address
from gateway.terminal import shell
from gateway.terminal.places import TERMINALS_OF_PERSON_MAX
from gateway.terminal.shell import WINDOW_BYTES
from gateway.web.terminal_page import PLACES
from tests.integration.relay_certificate import visitors_certificate
from tests.relay_rig import fact
from tests.terminal_rig import PIECE, SECRET, Terminals, terminals

pytestmark = [pytest.mark.either_engine, pytest.mark.usefixtures("no_task_left_behind")]


@pytest.fixture
async def world(tmp_path: Path, database: Address) -> AsyncIterator[Terminals]:
    async with terminals(tmp_path, database) as made:
        yield made
        await fact(lambda: not made.server.app[PLACES].count("user:1"))


async def refused(world: Terminals, session_id: str = "", **options: Any) -> int:
    """The status of an answer that is no WebSocket."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with world.tab(session_id, **options):
            pass
    return caught.value.status


async def test_only_a_page_of_ours_opens_one(world: Terminals) -> None:
    assert await refused(world, origin=None) == 403
    for origin in ("http://evil.example", "null", "file://", world.server.url + "1"):
        assert await refused(world, origin=origin) == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert await refused(world, headers=foreign) == 403
    bearer = {"Authorization": f"Bearer {world.server.token}"}
    assert await refused(world, headers=bearer) == 401
    async with aiohttp.ClientSession() as nobody:
        assert await refused(world, client=nobody) == 401
    for csrf in ("", "x", "é\ud800", world.csrf[:-1]):
        async with world.tab() as tab:
            await tab.begin(csrf=csrf)
            assert await tab.over() in ("forbidden", "bad_message")
    assert world.ssh.sizes == []


async def test_a_session_is_its_own_persons(world: Terminals) -> None:
    await world.person("admin@example.org", "administrator")
    await world.person("reader@example.org", "read_only")
    for email in ("admin@example.org", "reader@example.org"):
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            await world.sign_in(client, email)
            assert await refused(world, client=client) == 404
            assert await refused(world, "0" * 32, client=client) == 404
    web = await world.session(protocol="http")
    assert await refused(world, web) == 404
    plain = {"Origin": world.server.url}
    async with world.server.client.get(world.address(), headers=plain) as answer:
        assert answer.status == 400  # no WebSocket


async def test_messages_that_no_page_sends(world: Terminals) -> None:
    for text in (
        "{",
        "[]",
        "7",
        '"x"',
        "[" * 20_000,
        '{"columns": NaN}',
        '{"rows": 1.5}',
        '{"user": "' + "u" * 101 + '"}',
        '{"csrf": 1}',
        '{"columns": 1e400}',
    ):
        async with world.tab() as tab:
            await tab.socket.send_bytes(b"nobody reads this yet")
            await tab.socket.send_str(text)
            assert await tab.over() == "bad_message", text
    async with world.tab() as tab:
        await tab.socket.send_str("x" * 65_537)
        message = await tab.socket.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.TEXT)
    async with world.tab() as tab:
        await tab.begin(columns=-5, rows=10**30)
        await tab.accept()
        await tab.hear("open")
        for text in (
            '{"do":"resize","columns":0,"rows":-1}',
            "{",
            "[" * 20_000,
            '{"x":' + "[" * 20_000,
            '{"columns":NaN,"rows":1}',
            '{"columns":"7"}',
        ):
            await tab.socket.send_str(text)
        await tab.socket.send_bytes(b"exit\n")
        assert await tab.over() == "shell_ended"
    assert world.ssh.sizes[:2] == [(1, 1_000), (1, 1)]


async def test_a_browser_that_does_not_read_stops_the_router(world: Terminals) -> None:
    """What waits is bounded by windows and buffers on the way, however long it goes on."""
    async with world.tab() as tab:
        await tab.open()
        await tab.socket.send_bytes(b"flood\n")
        await tab.see(PIECE[:1_000])
        still, last = 0, -1
        async with asyncio.timeout(15):
            while still < 5:
                await asyncio.sleep(0.05)
                still = still + 1 if world.ssh.flooded == last else 0
                last = world.ssh.flooded
        assert last < 16 * 1024 * 1024
        # It goes on where it stopped, once somebody reads.
        seen = len(tab.output)
        async with asyncio.timeout(15):
            while world.ssh.flooded < last + 2 * WINDOW_BYTES:
                tab.output += (await tab.socket.receive()).data
        assert len(tab.output) > seen
        await tab.socket.close()
    await fact(lambda: world.ssh.shells == 0)


async def test_a_browser_that_never_reads_again_is_cut_off(
    world: Terminals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "STALLED_S_MAX", 0.3)
    async with world.tab() as tab:
        await tab.open()
        await tab.socket.send_bytes(b"flood\n")
        await fact(lambda: not world.server.app[PLACES].count("user:1"))
        await fact(lambda: world.ssh.shells == 0)


async def test_nobody_has_more_than_six(world: Terminals) -> None:
    tabs = [world.tab() for _ in range(TERMINALS_OF_PERSON_MAX)]
    for one in tabs:
        await one.__aenter__()
    try:
        async with world.tab() as tab:
            assert await tab.over() == "too_many_sessions"
    finally:
        for one in tabs:
            await one.__aexit__(None, None, None)
    await fact(lambda: not world.server.app[PLACES].count("user:1"))
    async with world.tab() as tab:
        await tab.open()


async def test_no_secret_is_written_anywhere(
    world: Terminals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with world.tab() as tab:
        await tab.begin("another secret word")
        await tab.accept()
        await tab.hear("wrong_password")
        await tab.send({"do": "login", "user": "root", "password": SECRET})
        await tab.hear("open")
        await tab.socket.send_bytes(b"typed secret\n")
        await tab.see(b"said typed secret")
        world.ssh.port = 1
    async with world.tab() as tab:
        await tab.begin()
        assert await tab.over() == "refused"
    logged = [one.getMessage() for one in caplog.records]
    assert any("/terminal/socket" in line for line in logged)
    for word in ("another secret", SECRET, "typed secret"):
        assert not [line for line in logged if word in line]


REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/x\r\nContent-Length: 0\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


async def test_a_relay_that_hangs_up_or_sends_elsewhere(world: Terminals) -> None:
    """At each point the person is told, nothing is left, and nobody else is asked."""
    asked: list[bytes] = []
    answers = [b"", b"\x00\xff" * 50_000, UPGRADE, REDIRECT]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        answer = answers[-1]
        with suppress(ConnectionError):
            writer.write(answer % port if answer is REDIRECT else answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await world.relay_at(port)
        while answers:
            async with world.tab() as tab:
                await tab.begin()
                assert await tab.over() == "relay_away"
            answers.pop()
    assert len(asked) >= 4 and set(asked) == {b"GET /.fleetgate/link HTTP/1.1\r\n"}


async def test_a_link_that_breaks(world: Terminals, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.tab() as tab:
        await tab.open()
        # Somebody who hears everything and answers nothing holds nobody up.
        monkeypatch.setattr(shell, "CLOSE_S_MAX", 0.2)
        world.link.transport.pause_reading()
        await tab.socket.close()
    await fact(lambda: not world.server.app[PLACES].count("user:1"))
    world.link.transport.resume_reading()
    async with world.tab() as tab:
        await tab.begin()
        await tab.hear("open")
        world.link.transport.abort()
        (session,) = world.rig.relay.sessions.all()
        await fact(lambda: session.link is None)
        assert session.channel is not None
        session.channel.end("link_lost")  # as after a minute
        assert await tab.over() == "link_lost"


async def test_a_relay_shows_a_certificate_that_is_trusted_here(
    tmp_path: Path, database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the system, or by the installation's own CA; a ticket goes to nobody else."""
    monkeypatch.chdir(tmp_path)
    certificate, key = visitors_certificate(tmp_path)
    options = {"visitors_certificate_file": certificate, "visitors_key_file": key}
    async with terminals(tmp_path, database, domain="relay.test", **options) as world:
        await world.relay_at(world.rig.port, tls=True, domain="relay.test")
        async with world.tab() as tab:
            await tab.begin()
            assert await tab.over() == "relay_away"
        own = KeyFiles(Path("keys")).ca_certificate
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(certificate.read_bytes())
        async with world.tab() as tab:
            await tab.open()
        await world.relay_at(world.rig.port, tls=True, domain="other.test")
        async with world.tab() as tab:
            await tab.begin()
            assert await tab.over() == "relay_away"
        await fact(lambda: not world.server.app[PLACES].count("user:1"))
