"""Targets, devices and sessions that cannot be reached: what the visitor is told."""

import asyncio
from pathlib import Path

import pytest

from broker.relay import session as relay_session
from broker.relay import upstream, web_bridge
from tests.relay_rig import LIMIT_S, fact
from tests.relay_web_rig import NAVIGATION, UPGRADE, Recorder, read_answer, read_head, running_site
from wire.relay_control import Note, Revocation


@pytest.mark.parametrize(
    ("reason", "status", "words"),
    [
        ("not_allowed", 403, "does not allow this target"),
        ("refused", 502, "refused the connection"),
        ("timed_out", 504, "does not answer"),
        ("unreachable", 502, "cannot reach the target"),
        ("busy", 503, "Too many connections"),
    ],
)
async def test_what_the_device_refuses(
    tmp_path: Path, reason: str, status: int, words: str
) -> None:
    async with running_site(tmp_path, port=1) as site:
        site.refusal = reason
        for method, body in (("GET", b""), ("POST", b"x" * 300_000)):
            answer = await site.browser.ask("/", method=method, body=body, headers=NAVIGATION)
            assert answer.status == status
            assert words in answer.text and reason in answer.text
            assert answer.one("cache-control") == "no-store"


async def test_the_device_has_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        relay_session.Session.stream, "__kwdefaults__", {"wait_s": 0.2, "address": ""}
    )
    async with running_site(tmp_path, Recorder()) as site:
        # The connection that is kept after this would wait for the device much longer.
        assert (await site.browser.ask("/", headers=NAVIGATION)).status == 200
        site.device.transport.abort()
        await fact(lambda: site.session.link is None)
        answer = await site.browser.ask("/", headers=NAVIGATION)
        assert answer.status == 504 and "no_link" in answer.text
        note = Note(site.claims.session, "mqtt", "device_offline", 1)
        site.rig.lease(notes=(note,))
        answer = await site.browser.ask("/", headers=NAVIGATION)
        assert answer.status == 504 and "The device is offline" in answer.text
        assert "the MQTT server (device_offline)" in answer.text
        note = note._replace(hop="agent", code="not_allowed")
        site.rig.lease(notes=(note,))
        assert (await site.browser.ask("/", headers=NAVIGATION)).status == 403


async def test_a_visitor_waits_for_the_device(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder()) as site:
        site.device.transport.abort()
        await fact(lambda: site.session.link is None)
        asking = asyncio.ensure_future(site.browser.ask("/"))
        await fact(lambda: len(site.rig.relay.arrivals) == 0)
        await site.start_device()
        assert (await asking).body == b"ok"


async def test_the_lease_is_old(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder()) as site:
        site.rig.clock.moved_s = 20
        answer = await site.browser.ask("/", headers=NAVIGATION)
        assert answer.status == 503 and "control_link_lost" in answer.text


async def test_the_session_ends(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await reader.read()

    async with running_site(tmp_path, slow) as site:
        await site.browser.connect()
        site.browser.writer.write(site.browser.head("GET", "/"))
        await read_head(site.browser.reader)
        site.rig.lease(newest=1, revoked=(Revocation(1, site.claims.session, "right_lost"),))
        async with asyncio.timeout(LIMIT_S):
            assert await site.browser.reader.read() == b"half"
        site.browser.close()
        answer = await site.browser.ask("/", headers=NAVIGATION)
        assert answer.status == 410
        assert "This session is over" in answer.text
        assert "The right to it was taken back" in answer.text
        entered = await site.browser.ask(site.browser.entrance("x" * 43), headers=NAVIGATION)
        assert entered.status == 403


@pytest.mark.parametrize("websocket", [False, True])
async def test_the_session_ends_while_a_visitor_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, websocket: bool
) -> None:
    monkeypatch.setattr(upstream, "GOODBYE_S", 0.3)
    monkeypatch.setattr(web_bridge, "GOODBYE_S", 0.3)

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Hi\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            if websocket
            else b"HTTP/1.1 200 OK\r\n\r\n"
        )
        while True:
            writer.write(b"w" * 65_536)
            await writer.drain()

    async with running_site(tmp_path, pours) as site:
        browser = site.browser
        await browser.connect()
        given = {**UPGRADE, "Origin": f"http://{browser.host}"} if websocket else {}
        browser.writer.write(browser.head("GET", "/", given))
        await read_head(browser.reader)
        browser.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it can
        usage, before = site.session.usage, 0
        while not usage().from_device or usage().from_device != before:
            before = usage().from_device
            await asyncio.sleep(0.3)  # long enough for a byte to move, if any may
        site.session.end("closed")
        browser.writer.transport.set_write_buffer_limits(0)
        with pytest.raises(ConnectionError):
            await write_until_reset(browser.writer)


async def write_until_reset(writer: asyncio.StreamWriter) -> None:
    """What a closed connection is sent comes back as a reset."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)


async def test_targets_that_do_not_speak_http(tmp_path: Path) -> None:
    answers = [
        b"SSH-2.0-x\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ]

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[0])
        await writer.drain()

    async with running_site(tmp_path, other) as site:
        for code in ("bad_answer", "closed_early", "bad_answer"):
            answer = await site.browser.ask("/")
            assert answer.status == 502 and code in answer.text
            answers.pop(0)


async def test_sessions_of_other_protocols_have_no_page(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), protocol="ssh") as site:
        answer = await site.browser.ask("/", headers=NAVIGATION)
        assert answer.status == 404 and "fleetgate connect" in answer.text


async def test_an_early_answer_to_a_long_upload(tmp_path: Path) -> None:
    async def rejects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read()

    async with running_site(tmp_path, rejects) as site:
        browser = site.browser
        await browser.connect()
        browser.writer.write(browser.head("POST", "/", {"Content-Length": "90000000"}))
        browser.writer.write(b"x" * 100_000)
        answer = await read_answer(browser.reader)
        assert (answer.status, answer.body) == (413, b"big")
        await fact(lambda: site.session.usage().streams == 0)
        browser.close()
