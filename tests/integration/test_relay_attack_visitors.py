"""Hostile visitors of session hosts, with and without a cookie."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.test_relay_attack_devices import quick_loop
from tests.relay_rig import LIMIT_S
from tests.relay_web_rig import NAVIGATION, UPGRADE, Browser, Recorder, running_site


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "///evil.example", "/\\evil.example/x", "/\\/evil.example", "//"]
)
async def test_nobody_is_led_elsewhere_after_entering(tmp_path: Path, path: str) -> None:
    async with running_site(tmp_path, Recorder()) as site:
        browser = Browser(site.rig, site.claims)
        first = await browser.ask(path, headers=NAVIGATION)
        assert first.status == 302
        assert first.one("location").startswith("http://127.0.0.1:8080/enter?")
        state = parse_qs(urlsplit(first.one("location")).query)["state"][0]
        browser.cookie = first.one("set-cookie").partition(";")[0]
        entered = await browser.ask(browser.entrance(state), headers=NAVIGATION)
        assert (entered.status, entered.one("location")) == (303, "/")


async def test_a_language_of_blanks_does_not_hold_the_loop(tmp_path: Path) -> None:
    async with quick_loop(), running_site(tmp_path, Recorder()) as site:
        for accepted in ("en" + " " * 15_000 + "x", "en;" * 5_000, "en-" + "a-" * 7_000 + "!"):
            # Without a cookie: anybody can ask this.
            headers = {"Accept-Language": accepted, "Cookie": "a=b"}
            assert (await site.browser.ask(headers=headers)).status == 431


STRANGE = {
    "surrogates in the query": (
        "GET /.fleetgate/enter?state=%ED%A0%80&ticket=%FF HTTP/1.1",
        "",
        403,
    ),
    "a query of nothing": ("GET /.fleetgate/enter?[]=[&;;&&&=== HTTP/1.1", "", 403),
    "another host in the path": ("GET //[::1:99999999/ HTTP/1.1", "", 200),
    "whole URL": ("GET http://evil.example/ HTTP/1.1", "", 400),
    "half a URL": ("GET http://[::1 HTTP/1.1", "", 400),
    "a tunnel": ("CONNECT evil.example:80 HTTP/1.1", "", 400),
    "asterisk": ("OPTIONS * HTTP/1.1", "", 400),
    "control characters": ("GET /\x01\x02\x7f HTTP/1.1", "", 400),
    "a tab in the path": ("GET /a\tb HTTP/1.1", "", 400),
    "a blank in the path": ("GET /a b HTTP/1.1", "", 400),
    "a fold": ("GET / HTTP/1.1", "X: a\r\n b", 400),
    "a blank before the colon": ("GET / HTTP/1.1", "X : a", 400),
    "a bare CR": ("GET / HTTP/1.1", "X: a\rb", 400),
    "a bare LF": ("GET / HTTP/1.1", "X: a\nY: b", 400),
    "two hosts": ("GET / HTTP/1.1", "Host: evil.example", 400),
    "length and chunks": (
        "POST / HTTP/1.1",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        400,
    ),
    "unknown chunks": ("POST / HTTP/1.1", "Transfer-Encoding: xchunked", 400),
    "chunks and more": ("POST / HTTP/1.1", "Transfer-Encoding: chunked, identity", 400),
    "two lengths": ("POST / HTTP/1.1", "Content-Length: 0\r\nContent-Length: 0", 400),
    "a signed length": ("POST / HTTP/1.1", "Content-Length: +0", 400),
    "hop-by-hop names": ("GET / HTTP/1.1", "Connection: host, cookie, content-length", 200),
    "an upgrade to something else": ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: tcp", 200),
    "HTTP/2 in clear": ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c", 200),
    "an expectation": ("GET / HTTP/1.1", "Expect: 200-maybe", 200),
    "our prefix behind a semicolon": ("GET /;/.fleetgate/enter HTTP/1.1", "", 404),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_strange_requests_are_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    first, header, status = STRANGE[kind]
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        cookie = "" if "/enter" in first else f"Cookie: {site.browser.cookie}\r\n"
        head = f"{first}\r\nHost: {site.browser.host}\r\n{cookie}{header}"
        data = head.encode("latin-1") + (b"\r\n\r\n" if header else b"\r\n")
        answer = await site.browser.raw(data)
        assert answer.status == status, answer
        assert len(target.heads) == (status == 200)
        for head_there in target.heads:
            assert b"fleetgate" not in head_there and b"evil" not in head_there.lower()
            assert head_there.lower().count(b"\r\nhost: 127.0.0.1") == 1
            assert b"\r\nupgrade" not in head_there.lower()


@pytest.mark.parametrize("cookie", [True, False])
async def test_a_pipeline_of_requests_does_not_hold_the_loop(tmp_path: Path, cookie: bool) -> None:
    async with quick_loop(), running_site(tmp_path, Recorder()) as site:
        if not cookie:
            site.browser.cookie = ""
        reader, writer = await asyncio.open_connection("127.0.0.1", site.rig.port)
        writer.write(site.browser.head("GET", "/") * 3_000)
        async with asyncio.timeout(LIMIT_S):
            for _ in range(200):
                await reader.readuntil(b"\r\n\r\n")
        assert (await site.browser.ask()).status == (200 if cookie else 401)
        writer.close()


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
async def test_bytes_behind_an_upgrade_are_not_collected(tmp_path: Path, method: str) -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()  # never answers

    async with running_site(tmp_path, serve) as site:
        given = {**UPGRADE, "Origin": f"http://{site.browser.host}"}
        _, writer = await asyncio.open_connection("127.0.0.1", site.rig.port)
        path = "/" if method == "GET" else "a:80"
        writer.write(site.browser.head(method, path, given))
        sent = 0
        # Somewhere the sockets are full, or the relay has hung up.
        try:
            while sent < 64 * 2**20:
                writer.write(bytes(2**20))
                async with asyncio.timeout(0.5):
                    await writer.drain()
                sent += 2**20
        except (TimeoutError, ConnectionError):
            pass
        assert sent < 32 * 2**20
        writer.transport.abort()
