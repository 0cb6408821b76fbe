"""A terminal from a browser to a router: signing in, host keys, sizes, what ends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest
from sqlalchemy import select

from gateway.people.sign_ins import TOUCH_MS
from gateway.storage.address import Address
from gateway.storage.schema import sign_in
from gateway.web import terminal_page
from tests.relay_rig import fact
from tests.terminal_rig import SECRET, USER, Terminals, terminals

pytestmark = [pytest.mark.either_engine, pytest.mark.usefixtures("no_task_left_behind")]


@pytest.fixture
async def world(
    tmp_path: Path, database: Address, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Terminals]:
    monkeypatch.setattr(terminal_page, "LOOKED_EVERY_S", 0.05)
    async with terminals(tmp_path, database) as made:
        look = terminal_page._Asking.why_not

        async def counted(asking: Any) -> Any:
            made.looks += 1
            return await look(asking)

        monkeypatch.setattr(terminal_page._Asking, "why_not", counted)
        yield made


async def test_a_shell_answers_and_its_end_is_said(world: Terminals) -> None:
    async with world.tab() as tab:
        await tab.begin()
        asked = await tab.accept()
        assert asked["fingerprint"] == world.ssh.key.get_fingerprint() and asked["before"] == ""
        await tab.hear("open")
        await tab.see(b"ready\r\n")
        await tab.socket.send_bytes(b"one\n")
        await tab.see(b"said one\n")
        await tab.send({"do": "resize", "columns": 132, "rows": 50})
        await fact(lambda: len(world.ssh.sizes) > 1)
        assert world.ssh.sizes == [(90, 30), (132, 50)]
        assert world.ssh.types == ["xterm-256color"]
        await tab.socket.send_bytes(b"exit\n")
        assert await tab.over() == "shell_ended"


async def test_three_wrong_passwords_end_it_and_a_right_one_in_between_does_not(
    world: Terminals,
) -> None:
    async with world.tab() as tab:
        await tab.begin("wrong")
        await tab.accept()
        assert (await tab.hear("wrong_password"))["left"] == 2
        for wrong in ({"password": "again"}, {"user": "no\u0007body", "password": "x"}):
            await tab.send({"do": "login", "user": "root", **wrong})
            if "user" in wrong:
                assert await tab.over() == "no_ssh"  # no SSH user has such a name
            else:
                assert (await tab.hear("wrong_password"))["left"] == 1
    async with world.tab() as tab:
        await tab.begin("wrong")
        for left in (2, 1):
            assert (await tab.hear("wrong_password"))["left"] == left
            await tab.send({"do": "login", "user": "root", "password": "wrong"})
        assert (await tab.hear("wrong_password"))["left"] == 0
        assert await tab.over() == "too_many_logins"
    async with world.tab() as tab:
        await tab.begin("wrong")
        await tab.hear("wrong_password")
        await tab.send({"do": "login", "user": USER, "password": SECRET})
        await tab.hear("open")


async def test_a_host_key_that_changed_is_asked_about_and_needs_more_right(
    world: Terminals,
) -> None:
    async with world.tab() as tab:
        await tab.begin()
        await tab.accept(yes=False)
        assert await tab.over() == "host_key_refused"
    async with world.tab() as tab:
        await tab.open()
    before = world.ssh.key.get_fingerprint()
    await world.ssh.close()
    world.ssh.key = asyncssh.generate_private_key("ssh-ed25519")
    await world.ssh.listen()
    person_id = await world.person("basic@example.org", "basic")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        csrf = await world.sign_in(client, "basic@example.org")
        session_id = await world.session_of(client, csrf)
        await world.connect_device(session_id)
        async with world.tab(session_id, client=client, csrf=csrf) as tab:
            await tab.begin()
            asked = await tab.accept()
            assert asked["before"] == before
            assert asked["fingerprint"] == world.ssh.key.get_fingerprint()
            assert await tab.over() == "forbidden"
        async with world.tab() as tab:
            await tab.open()  # an administrator may
        async with world.tab(session_id, client=client, csrf=csrf) as tab:
            await tab.begin()
            await tab.hear("open")
            await world.right_lost(person_id)
            assert await tab.over() == "right_lost"


async def test_closing_and_signing_out_end_it(world: Terminals) -> None:
    async with world.tab() as tab:
        await tab.open()
        await world.server.done("DELETE", f"/api/v1/sessions/{world.session_id}")
        assert await tab.over() == "closed"
    async with world.tab() as tab:
        await tab.begin()
        # Whichever sees it first: the ticket's operation, or the look at the present rights.
        assert await tab.over() in ("session_over", "closed")
    session_id = await world.session()
    await world.connect_device(session_id)
    async with world.tab(session_id) as tab:
        await tab.begin()
        await tab.hear("open")
        async with world.server.client.post(
            f"{world.server.url}/api/v1/logout",
            headers={"Origin": world.server.url, "X-CSRF-Token": world.csrf},
        ) as answer:
            assert answer.status < 300
        assert await tab.over() == "signed_out"
    await fact(lambda: world.ssh.shells == 0)


async def test_typing_keeps_its_person_signed_in_and_an_open_page_does_not(
    world: Terminals,
) -> None:
    used = select(sign_in.c.used_at)
    async with world.tab() as tab:
        await tab.open()
        first = await world.server.store.read(lambda tx: tx.scalar(used))
        world.server.clock.moved_ms += 2 * TOUCH_MS
        await world.looked(2)
        assert await world.server.store.read(lambda tx: tx.scalar(used)) == first
        await tab.socket.send_bytes(b"one\n")
        await tab.see(b"said one\n")
        await world.looked(3)
        assert await world.server.store.read(lambda tx: tx.scalar(used)) > first


async def test_the_gateway_stops_and_nothing_is_left(world: Terminals) -> None:
    async with world.tab() as tab, world.tab() as waiting:
        await tab.open()
        await waiting.begin("wrong")
        await waiting.hear("wrong_password")
        stopping = asyncio.ensure_future(world.server.listening.close())
        assert await tab.over() == "gateway_stops"
        assert await waiting.over() == "gateway_stops"
        await stopping
        assert tab.socket.close_code == 1001
        await fact(lambda: world.ssh.shells == 0)


async def test_a_link_that_is_lost_is_said(world: Terminals) -> None:
    async with world.tab() as tab:
        await tab.open()
        world.rig.relay.sessions.revoke(world.session_id, "expired")
        assert await tab.over() == "expired"


async def test_a_target_that_does_not_answer_as_ssh(world: Terminals) -> None:
    async with world.tab() as tab:
        world.ssh.port = 1
        await tab.begin()
        assert await tab.over() == "refused"

    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n" + b"\xff" * 4_000)
        with suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    world.ssh.port = server.sockets[0].getsockname()[1]
    async with world.tab() as tab:
        await tab.begin()
        assert await tab.over() == "no_ssh"
    server.close()
