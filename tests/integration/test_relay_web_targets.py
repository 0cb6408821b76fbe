"""Targets of other kinds: HTTPS and WebSockets."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from gateway.join.ca import prepare_keys
from tests.relay_rig import LIMIT_S, fact
from tests.relay_web_rig import (
    UPGRADE,
    Browser,
    Recorder,
    Site,
    headers,
    random_body,
    read_head,
    running_site,
)


def device_certificate(folder: Path) -> ssl.SSLContext:
    """As routers make theirs: of no authority that anybody knows."""
    keys = prepare_keys(folder / "device", ["device.example"], datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.relay.certificate, keys.relay.key)
    return context


# HTTPS


async def test_https_targets_with_certificates_of_their_own(tmp_path: Path) -> None:
    target = Recorder()
    tls = device_certificate(tmp_path)
    async with running_site(
        tmp_path, target, tls=tls, protocol="https", target="192.168.1.1:443"
    ) as site:
        own = f"http://{site.browser.host}"
        given = {"Origin": own}
        for _ in range(3):
            assert (await site.browser.ask("/", headers=given)).body == b"ok"
        assert target.values(b"origin") == [b"https://192.168.1.1"]
        assert target.connections == 1
        target.answer = headers(
            "HTTP/1.1 302 Found", "Location: https://192.168.1.1/login", "Content-Length: 0"
        )
        assert (await site.browser.ask("/")).one("location") == f"{own}/login"


async def test_large_bodies_over_https(tmp_path: Path) -> None:
    body = random_body(5_000_000)

    async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        data = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()

    tls = device_certificate(tmp_path)
    async with running_site(tmp_path, echoes, tls=tls, protocol="https") as site:
        assert (await site.browser.ask("/", method="POST", body=body)).body == body
        await fact(lambda: site.session.usage().streams == 0)


async def test_a_target_without_tls_is_told_of(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with running_site(tmp_path, plain, protocol="https") as site:
        answer = await site.browser.ask("/")
        assert answer.status == 502 and "no_tls" in answer.text


# WebSockets


async def test_websockets_pass_as_they_are(tmp_path: Path) -> None:
    closed: list[int | None] = []
    asked: list[web.Request] = []

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("mqtt", "chat"))
        asked.append(request)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        closed.append(socket.close_code)
        return socket

    application = web.Application()
    application.router.add_get("/ws", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        port = runner.addresses[0][1]
        async with running_site(tmp_path, port=port, target="127.0.0.1:80") as site:
            browser = site.browser
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
                own = f"http://{browser.host}"
                given = {"Host": browser.host, "Origin": own, "Cookie": browser.cookie + "; a=1"}
                url = f"http://127.0.0.1:{site.rig.port}/ws?x=%20"
                async with client.ws_connect(
                    url, headers=given, protocols=("chat",), compress=15
                ) as socket:
                    assert socket.protocol == "chat"
                    assert socket.compress
                    big = random_body(3_000_000)
                    await socket.send_str("hello")
                    assert await socket.receive_str() == "hello"
                    await socket.send_bytes(big)
                    assert await socket.receive_bytes() == big
                    assert await socket.close(code=4321)
            assert asked[0].headers["Origin"] == "http://127.0.0.1"
            assert asked[0].headers["Cookie"] == "a=1"
            assert asked[0].raw_path == "/ws?x=%20"
            await fact(lambda: closed == [4321])
            await fact(lambda: site.session.usage().streams == 0)
    finally:
        await runner.cleanup()


async def test_websockets_of_other_pages_are_refused(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        own = f"http://{site.browser.host}"
        for given in (
            {},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": own, "Sec-Fetch-Site": "same-site"},
        ):
            answer = await site.browser.ask("/", headers={**UPGRADE, **given})
            assert answer.status == 403, given
        assert target.heads == []
        declined = await site.browser.ask("/", headers={**UPGRADE, "Origin": own})
        assert (declined.status, declined.body) == (200, b"ok")
        assert target.values(b"upgrade") == [b"websocket"]
        assert target.values(b"connection") == [b"Upgrade"]


async def switched(site: Site) -> Browser:
    """A connection that is a WebSocket now."""
    browser = Browser(site.rig, site.claims)
    browser.cookie = site.browser.cookie
    await browser.connect()
    given = {**UPGRADE, "Origin": f"http://{browser.host}"}
    browser.writer.write(browser.head("GET", "/", given) + b"early")
    answer = await read_head(browser.reader)
    assert answer.status == 101
    assert answer.one("upgrade") == "websocket"
    return browser


async def test_what_follows_a_switch_is_not_touched(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Hi\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nfirst")
        got.append(await reader.readexactly(5))
        while data := await reader.read(1000):
            writer.write(data.upper())
        got.append(b"end")

    async with running_site(tmp_path, switches) as site:
        browser = await switched(site)
        assert await browser.reader.readexactly(5) == b"first"
        browser.writer.write(b"\x00\x01http/1.1 \r\n\r\n")
        assert await browser.reader.readexactly(15) == b"\x00\x01HTTP/1.1 \r\n\r\n"
        browser.close()
        await fact(lambda: got == [b"early", b"end"])
        await fact(lambda: site.session.usage().streams == 0)
        # And from the other side: the session's end ends it.
        browser = await switched(site)
        site.session.end("closed")
        async with asyncio.timeout(LIMIT_S):
            await browser.reader.read()
        browser.close()


async def test_visitors_with_tls(tmp_path: Path) -> None:
    """On the one port, with a certificate for the visitors' names; WebSockets too."""

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Upgrade" in head:
            writer.write(b"HTTP/1.1 101 Hi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"t" * 3_000_000)
        await writer.drain()

    keys = prepare_keys(tmp_path / "visitors", [], datetime.now(UTC))
    files = {
        "visitors_certificate_file": keys.relay.certificate,
        "visitors_key_file": keys.relay.key,
    }
    async with running_site(tmp_path, both, enter=False, relay=files) as site:
        browser = site.browser
        browser.tls = ssl.create_default_context(cafile=str(keys.ca_certificate))
        browser.tls.check_hostname = False
        assert (await browser.enter()).status == 303
        assert browser.cookie.startswith("__Host-fleetgate-relay=")
        assert (await browser.ask("/")).body == b"t" * 3_000_000
        await browser.connect()
        given = {**UPGRADE, "Origin": f"https://{browser.host}"}
        browser.writer.write(browser.head("GET", "/", given))
        assert (await read_head(browser.reader)).status == 101
        data = random_body(1_000_000)
        browser.writer.write(data)
        async with asyncio.timeout(LIMIT_S):
            assert await browser.reader.readexactly(len(data)) == data
        browser.close()
        await fact(lambda: site.session.usage().streams == 0)
