"""What stands behind a simulated router, reached the way its agent reaches it."""

import asyncio
import hashlib
import io
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from firmware_sim.lan.bulk import bulk, bulk_sha256
from firmware_sim.lan.facts import PASSWORD, USER
from firmware_sim.lan.lan import ECHO, FICKLE_NAME, METADATA, PLC, ROUTER, SILENT, SimulatedLan
from firmware_sim.lan.pieces import OBJECTS, pieces
from tests.browser import browsing
from tests.simulated_lan import FACTS, HOSTNAME, connect, door_to, lan_in, output_of


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[SimulatedLan]:
    async with lan_in(tmp_path / "lan") as made:
        yield made


@asynccontextmanager
async def web(
    lan: SimulatedLan, address: str = ROUTER, port: int = 80, **more: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose paths lead to one web server of the LAN; it keeps cookies of addresses."""
    scheme = "https" if port == 443 else "http"
    async with (
        door_to(lan, address, port) as local,
        aiohttp.ClientSession(
            f"{scheme}://127.0.0.1:{local}", cookie_jar=aiohttp.CookieJar(unsafe=True), **more
        ) as client,
    ):
        yield client


async def sign_in(client: aiohttp.ClientSession) -> aiohttp.ClientResponse:
    form = {"username": USER, "password": PASSWORD}
    return await client.post("/login", data=form, allow_redirects=False)


# The page of the router


async def test_signing_in_redirects_with_absolute_urls_and_sets_two_cookies(
    lan: SimulatedLan,
) -> None:
    async with web(lan) as client:
        host = {"Host": "router.example:8080"}
        async with client.get("/", headers=host, allow_redirects=False) as answer:
            assert answer.status == 302
            assert answer.headers["Location"] == "http://router.example:8080/login"
        async with client.get("/login") as answer:
            assert HOSTNAME in await answer.text()
        wrong = {"username": USER, "password": "admin"}
        async with client.post("/login", data=wrong, allow_redirects=False) as answer:
            assert answer.status == 403 and "Set-Cookie" not in answer.headers
        async with client.get("/status", allow_redirects=False) as answer:
            assert answer.status == 302 and answer.headers["Location"].endswith("/login")
        for path in ("/piece/icon-01.svg", "/api/value/1", "/ws"):
            async with client.get(path) as answer:
                assert answer.status == 403, path
        form = {"username": USER, "password": PASSWORD}
        async with client.post("/login", data=form, headers=host, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "http://router.example:8080/status"
            session, theme = answer.headers.getall("Set-Cookie")
            assert session.startswith("sysauth=") and "HttpOnly" in session
            assert "Path=/" in session and "Domain" not in session
            assert theme == "theme=harbour; Domain=router.example; Path=/"


async def test_the_status_page_and_its_sixty_objects(lan: SimulatedLan) -> None:
    async with web(lan) as client:
        (await sign_in(client)).release()
        async with client.get("/") as answer:
            text = await answer.text()
            assert answer.url.path == "/status"
        for said in (FACTS.serial, FACTS.model, HOSTNAME, "LT &lt;BITE&gt;"):
            assert said in text
        paths = [f"/piece/{name}" for name in pieces()]
        paths += [f"/api/value/{number}" for number in range(1, 11)]
        assert len(paths) == OBJECTS == 60
        for path in paths:
            async with client.get(path) as answer:
                assert answer.status == 200 and await answer.read(), path
        async with client.get("/api/cookies") as answer:
            assert await answer.json() == {"signed_in": True, "theme": True}
        async with client.post("/logout") as answer:
            assert answer.url.path == "/login"
        async with client.get("/api/value/1") as answer:
            assert answer.status == 403


async def test_the_websocket_ticks_and_returns_what_it_gets(lan: SimulatedLan) -> None:
    async with web(lan) as client:
        (await sign_in(client)).release()
        async with client.ws_connect("/ws") as socket:
            first = await socket.receive_json(timeout=5)
            assert first["tick"] == 0 and first["rsrp"] == -98
            await socket.send_str("ž €")
            await socket.send_bytes(bytes(range(256)) * 4_096)
            got = [await socket.receive(timeout=5) for _ in range(3)]
            said = [one.data for one in got if one.type is aiohttp.WSMsgType.BINARY]
            assert said == [bytes(range(256)) * 4_096]
            texts = [one.data for one in got if one.type is aiohttp.WSMsgType.TEXT]
            assert "ž €" in texts
            assert any(json.loads(text)["tick"] == 1 for text in texts if text != "ž €")


async def test_https_has_a_self_signed_certificate_that_stays(
    lan: SimulatedLan, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cadata=None)
    async with web(lan, port=443) as client:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get("/")
    file = tmp_path / "lan" / "https.pem"
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_bytes()
    await lan.reboot()
    certificate = before[before.index(b"-----BEGIN CERTIFICATE") :].decode()
    context.load_verify_locations(cadata=certificate)
    connector = aiohttp.TCPConnector(ssl=context)  # its own word is enough, names included
    async with web(lan, port=443, connector=connector) as client:
        async with client.get("/", allow_redirects=False) as answer:
            assert answer.headers["Location"].startswith("https://127.0.0.1:")
        (await sign_in(client)).release()
        async with client.get("/status") as answer:
            assert answer.status == 200
    assert file.read_bytes() == before


async def test_bodies_of_every_kind(lan: SimulatedLan) -> None:
    total_bytes = 3_000_001
    async with web(lan) as client:
        async with client.get(f"/download?bytes={total_bytes}") as answer:
            assert answer.content_length == total_bytes
            body = await answer.read()
        assert hashlib.sha256(body).hexdigest() == bulk_sha256(total_bytes)
        expected = {"bytes": total_bytes, "sha256": bulk_sha256(total_bytes)}
        async with client.post("/upload", data=io.BytesIO(body)) as answer:
            assert await answer.json() == expected

        async def blocks() -> AsyncIterator[bytes]:
            for block in bulk(total_bytes):
                yield block

        async with client.put("/upload", data=blocks()) as answer:  # sent in chunks
            assert await answer.json() == expected
        async with client.get("/download?bytes=-1") as answer:
            assert answer.status == 400
        async with client.get("/chunked") as answer:
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert (await answer.text()).count("<li>") == 10
        async with client.get("/gzip") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert "was sent with" in await answer.text()
        async with client.get("/events?count=2") as answer:
            assert answer.content_type == "text/event-stream"
            assert (await answer.text()).count("data: ") == 2
        async with client.post("/form", data={"note": "<b>"}) as answer:
            assert "note = &lt;b&gt;" in await answer.text()
        for path in ("/login", "/chunked", "/download?bytes=9", "/events"):
            async with client.head(path) as answer:
                assert answer.status == 200 and await answer.read() == b""


async def test_cookies_and_the_request_as_it_arrived(lan: SimulatedLan) -> None:
    async with web(lan) as client:
        async with client.get("/worker.js") as answer:
            assert answer.content_type == "text/javascript" and "respondWith" in await answer.text()
        async with client.get("/cookies") as answer:
            cookies = answer.headers.getall("Set-Cookie")
        assert [one.partition("=")[0] for one in cookies] == ["first", "second", "third"]
        assert "Path=/cookies" in cookies[1] and "Domain=127.0.0.1" in cookies[2]
        doubled = [("X-Twice", "1"), ("X-Twice", "2")]
        async with client.request("PATCH", "/headers//x?a=b%20c", headers=doubled) as answer:
            seen = await answer.json()
        assert (seen["method"], seen["target"]) == ("PATCH", "/headers//x?a=b%20c")
        assert [value for name, value in seen["headers"] if name == "X-Twice"] == ["1", "2"]


async def test_a_browser_sees_the_whole_status_page(lan: SimulatedLan) -> None:
    async with (
        door_to(lan, ROUTER, 80) as router,
        door_to(lan, PLC, 80) as plc,
        browsing() as browser,
    ):
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{router}/")
        await page.fill("[name=password]", PASSWORD)
        await page.press("[name=password]", "Enter")
        whole = "60 of 60 objects, websocket ok, cookie ok"
        await page.wait_for_function(f"document.title === '{whole}'")
        assert await page.inner_text("#ready") == whole
        machine = await browser.new_page()
        await machine.goto(f"http://localhost:{plc}/")
        await machine.wait_for_function("document.title === 'plc websocket ok, cookie ok'")
        await machine.fill("[name=speed]", "77")
        await machine.press("[name=speed]", "Enter")
        await machine.wait_for_function("document.querySelector('#speed')?.defaultValue === '77'")


# The machines behind it


async def test_the_plc_has_a_cookie_of_the_same_name_and_a_form(lan: SimulatedLan) -> None:
    async with web(lan, PLC) as client:
        async with client.get("/") as answer:
            assert answer.headers["Set-Cookie"].startswith("sysauth=plc-")
            assert "PLC behind router" in await answer.text()
        async with client.post("/set", data={"speed": "600"}, allow_redirects=False) as answer:
            assert answer.status == 303 and answer.headers["Location"] == "/"
        async with client.get("/value") as answer:
            said = await answer.json()
            assert said["speed"] == 600 and said["cookie"] is True
        for wrong in ("601", "-1", "x" * 100, ""):
            async with client.post("/set", data={"speed": wrong}) as answer:
                assert answer.status == 400, wrong
        async with client.ws_connect("/ws") as socket:
            assert (await socket.receive_json(timeout=5))["speed"] == 600


async def test_the_echo_returns_everything_after_a_half_close(lan: SimulatedLan) -> None:
    data = Random(1).randbytes(4 * 1024 * 1024)
    reader, writer = await connect(lan, ECHO, 7777)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        assert await reader.read() == data
    writer.close()
    await writer.wait_closed()


async def test_what_is_not_there_says_so_each_in_its_way(lan: SimulatedLan) -> None:
    for address, port in ((ROUTER, 8080), (PLC, 443), ("192.168.1.62", 80), ("192.168.1.1", 23)):
        with pytest.raises(ConnectionRefusedError):
            await lan.dial(asyncio.Protocol, address, port)
    for address in ("192.168.1.99", METADATA, "10.0.0.1", "::1", "127.0.0.2"):
        with pytest.raises(OSError, match="No route to host"):
            await lan.dial(asyncio.Protocol, address, 80)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await lan.dial(asyncio.Protocol, SILENT, 81)
    assert not lan._listening  # asking for what is not there started nothing


async def test_names_of_the_lan(lan: SimulatedLan) -> None:
    assert await lan.resolve("plc.lan") == [PLC]
    assert await lan.resolve("metadata.lan") == [METADATA]
    assert [await lan.resolve(FICKLE_NAME) for _ in range(2)] == [[PLC], [METADATA]]
    with pytest.raises(OSError, match="not known"):
        await lan.resolve("nowhere.lan")


async def test_an_idle_router_costs_no_socket_and_loads_no_server_library(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; import firmware_sim.router\n"
        "from firmware_sim.lan.lan import SimulatedLan\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        f"kept = [SimulatedLan(Path({str(tmp_path)!r}), None) for _ in range(1000)]\n"
        "assert len(os.listdir('/proc/self/fd')) == before\n"
        "assert not {'aiohttp', 'asyncssh'} & set(sys.modules)\n"
    )
    out = await output_of(sys.executable, "-c", code)
    assert out == b"" and not list(tmp_path.iterdir())


async def test_a_reboot_ends_the_router_s_connections_and_leaves_those_of_the_lan(
    lan: SimulatedLan,
) -> None:
    routers = [await connect(lan, ROUTER, port) for port in (80, 22)]
    plc_reader, plc_writer = await connect(lan, PLC, 80)
    await lan.reboot()
    async with asyncio.timeout(5):
        for reader, writer in routers:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
        plc_writer.write(b"GET /value HTTP/1.0\r\n\r\n")
        assert b"bottles" in await plc_reader.read()
    plc_writer.close()
    async with web(lan) as client, client.get("/login") as answer:
        assert answer.status == 200
