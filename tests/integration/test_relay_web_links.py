"""Visitors' links over a WebSocket, whose streams are joined with the device's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.relay import session as relay_session
from broker.relay import visitor_link, visitor_output
from tests.relay_rig import LIMIT_S, Visitor, fact
from tests.relay_web_rig import Recorder, Site, random_body, running_site
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader, open_frame
from wire.hello import Answered, Hello, Word, answered_of, hello_bytes, resume_bytes
from wire.link import Link
from wire.relay_control import Note
from wire.tickets import Party, Way

SECRET = b"s" * 32


class Guest:
    """A visitor's program: a WebSocket that carries a link."""

    def __init__(self, site: Site, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.site = site
        self.socket = socket
        self.reader = FrameReader()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._closing = False
        self.link: Link

    async def hello(self, ticket: str) -> Answered:
        await self.socket.send_bytes(hello_bytes(Hello(ticket, SECRET)))
        return await self.answered()

    async def answered(self) -> Answered:
        async with asyncio.timeout(LIMIT_S):
            while True:
                frame = self.reader.first(await self.socket.receive_bytes())
                if frame is not None:
                    return answered_of(frame)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        ticket = connect_ticket(self.site)
        assert (await self.hello(ticket)).word is Word.WELCOME
        loop = asyncio.get_running_loop()
        self.link = Link(
            self,
            budget=Budget(SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=self.ended.set_result,
            reader=self.reader,
        )
        tasks.create_task(self._send())
        tasks.create_task(self._receive())
        self.link.start()

    async def open(self, *, reads: bool = True) -> Visitor:
        visitor = Visitor(reads=reads)
        visitor.stream = self.link.open(visitor)
        return visitor

    def write(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._queue.put_nowait(b"")

    abort = close

    async def _send(self) -> None:
        try:
            while data := await self._queue.get():
                await self.socket.send_bytes(data)
        except ConnectionError:
            pass  # the relay has hung up
        await self.socket.close()

    async def _receive(self) -> None:
        async for message in self.socket:
            self.link.receive(message.data)
        self.link.lost()


def connect_ticket(site: Site, **changes: Any) -> str:
    wanted = {"party": Party.VISITOR, "way": Way.CONNECT, **changes}
    return site.rig.mint.sign(site.rig.mint.again(site.claims, **wanted))


@asynccontextmanager
async def dialled(site: Site, **given: str) -> AsyncIterator[Guest]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        headers = {"Host": site.browser.host, **given}
        url = f"http://127.0.0.1:{site.rig.port}/.fleetgate/link"
        async with client.ws_connect(url, headers=headers, max_msg_size=0) as socket:
            yield Guest(site, socket)


@asynccontextmanager
async def linked(site: Site) -> AsyncIterator[Guest]:
    async with dialled(site) as guest, asyncio.TaskGroup() as tasks:
        await guest.start(tasks)
        try:
            yield guest
        finally:
            guest.link.bye("done")


async def test_bytes_both_ways(tmp_path: Path) -> None:
    body = random_body(20_000_000)

    async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**18):
            writer.write(data)
            await writer.drain()

    async with running_site(tmp_path, echoes, enter=False) as site, linked(site) as guest:
        visitor = await guest.open()
        visitor.stream.write(body)
        visitor.stream.finish()
        async with asyncio.timeout(LIMIT_S * 3):
            await visitor.finished.wait()
        assert visitor.data == body
        await fact(lambda: site.session.usage().streams == 0)
        usage = site.session.usage()
        assert (usage.to_device, usage.from_device) == (len(body), len(body))
        assert usage.visitors == 1
        assert len(guest.link.streams) == 0


async def test_half_close_both_ways(tmp_path: Path) -> None:
    async def says_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())  # only after the visitor's end

    async def says_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        assert await reader.read() == b"still here"

    async with running_site(tmp_path, says_last, enter=False) as site, linked(site) as guest:
        visitor = await guest.open()
        visitor.stream.write(b"question")
        visitor.stream.finish()
        assert await visitor.got(8) == b"question"
        await asyncio.wait_for(visitor.finished.wait(), LIMIT_S)
    other = tmp_path / "other"
    other.mkdir()
    async with running_site(other, says_first, enter=False) as site, linked(site) as guest:
        visitor = await guest.open()
        await asyncio.wait_for(visitor.finished.wait(), LIMIT_S)
        assert visitor.data == b"bye"
        visitor.stream.write(b"still here")
        visitor.stream.finish()
        await fact(lambda: site.session.usage().streams == 0)


@pytest.mark.parametrize("reason", ["not_allowed", "refused", "timed_out", "unreachable", "busy"])
async def test_refusals_reach_the_visitor(tmp_path: Path, reason: str) -> None:
    async with running_site(tmp_path, port=1, enter=False) as site, linked(site) as guest:
        site.refusal = reason
        visitor = await guest.open()
        visitor.stream.write(b"x" * 100)
        assert await visitor.end() == reason
        assert not guest.link.ended


async def test_resets_pass(tmp_path: Path) -> None:
    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await reader.read()

    async with running_site(tmp_path, waits, enter=False) as site, linked(site) as guest:
        visitor = await guest.open()
        await visitor.got(1)
        visitor.stream.reset("reset")
        await fact(lambda: site.session.usage().streams == 0)
        visitor = await guest.open()
        await visitor.got(1)
        site.device.transport.abort()
        await fact(lambda: site.session.link is None)
        assert site.session.channel is not None
        site.session.channel.end("link_lost")  # as after a minute
        assert await visitor.end() == "link_lost"
        assert not guest.link.ended  # new streams wait for the device's next link
        visitor = await guest.open()
        await site.start_device()
        assert await visitor.got(1) == b"x"


async def test_a_stalled_reader_holds_back_only_its_own_sender(tmp_path: Path) -> None:
    sent = [0]

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"p":
            while True:
                writer.write(b"w" * 65_536)
                await writer.drain()
                sent[0] += 65_536
        writer.write(await reader.readexactly(5))

    async with running_site(tmp_path, pours, enter=False) as site, linked(site) as guest:
        stalled = await guest.open(reads=False)
        stalled.stream.write(b"p")
        before = 0
        while not sent[0] or sent[0] != before:
            before = sent[0]
            await asyncio.sleep(0.5)  # long enough for a byte to move, if any may
        assert sent[0] < 60_000_000
        for _ in range(3):
            other = await guest.open()
            other.stream.write(b"ehello")
            other.stream.finish()
            assert await other.got(5) == b"hello"
        stalled.stream.reset("reset")
        await fact(lambda: site.session.usage().streams == 0)


async def test_without_the_device_a_stream_waits_then_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"wait_s": 0.2, "address": ""}
    monkeypatch.setattr(relay_session.Session.stream, "__kwdefaults__", short)
    async with running_site(tmp_path, Recorder(), enter=False) as site, linked(site) as guest:
        site.device.transport.abort()
        await fact(lambda: site.session.link is None)
        visitor = await guest.open()
        visitor.stream.write(b"early")
        assert await visitor.end() == "no_link"
        note = Note(site.claims.session, "mqtt", "device_offline", 1)
        site.rig.lease(notes=(note,))
        assert await (await guest.open()).end() == "device_offline"
        site.rig.clock.moved_s = 20
        assert await (await guest.open()).end() == "control_link_lost"


async def test_a_visitor_that_gives_up_waiting_takes_nothing_along(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site, linked(site) as guest:
        site.device.transport.abort()
        await fact(lambda: site.session.link is None)
        tally = site.rig.relay.sessions._shared.tally
        for _ in range(100):
            visitor = await guest.open()
            visitor.stream.write(b"x")
            visitor.stream.reset("reset")
        await fact(lambda: tally.count(("session", site.claims.session)) == 0)
        assert not guest.link.ended


async def test_the_end_of_the_session_is_said(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        async with linked(site) as guest:
            site.session.end("expired")
            assert await asyncio.wait_for(guest.ended, LIMIT_S) == "expired"
        async with dialled(site) as guest:
            answered = await guest.hello(connect_ticket(site))
            assert (answered.word, answered.reason) == (Word.OVER, "expired")


async def test_a_visitor_that_reads_nothing_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor_output, "CLOSE_S", 0.3)

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"w" * 65_536)
            await writer.drain()

    async with running_site(tmp_path, pours, enter=False) as site, linked(site) as guest:
        visitor = await guest.open()
        await visitor.got(1)
        connection = guest.socket._conn
        assert connection is not None and connection.transport is not None
        connection.transport.pause_reading()
        link = next(iter(site.session._links))
        assert isinstance(link, visitor_link.VisitorLink)
        for _ in range(220):
            await guest.open()
        await fact(lambda: link._output._paused)
        site.session.end("closed")
        await fact(lambda: link._output._front.transport is None and not link._joining)
        connection.transport.resume_reading()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"way": Way.WEB}, "ticket_wrong"),
        ({"party": Party.DEVICE, "way": Way.LINK}, "ticket_wrong"),
        ({"host": "s-" + "a" * 26}, "ticket_wrong"),
        ({"epoch": "f" * 32}, "relay_restarted"),
        ({"expires_ms": 1_700_000_000_000}, "ticket_expired"),
    ],
)
async def test_wrong_tickets(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site, dialled(site) as guest:
        answered = await guest.hello(connect_ticket(site, **changes))
        assert (answered.word, answered.reason) == (Word.REFUSED, reason)
        assert (await guest.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert site.session.usage().visitors == 0


async def test_a_ticket_makes_one_link(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        ticket = connect_ticket(site)
        async with dialled(site) as guest, dialled(site) as second:
            assert (await guest.hello(ticket)).word is Word.WELCOME
            assert (await second.hello(ticket)).reason == "ticket_used"
        await fact(lambda: site.session.usage().visitors == 0)


async def test_hellos_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor_link, "HELLO_S", 0.3)
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        for sent in (
            open_frame(1, 1000),
            b"\x00" * 100,
            resume_bytes(SECRET, site.claims.session, 2, 0),
            hello_bytes(Hello(connect_ticket(site), SECRET))[:50],  # and nothing more
            b"",
        ):
            async with dialled(site) as guest:
                if sent:
                    await guest.socket.send_bytes(sent)
                async with asyncio.timeout(LIMIT_S):
                    types = {(await guest.socket.receive()).type for _ in range(2)}
                assert types & {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
        async with dialled(site) as guest:
            await guest.socket.send_str("hello")
            assert (await guest.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with dialled(site) as guest:
            try:
                await guest.socket.send_bytes(b"\x01\x00\x00\x00" + b"x" * 100_000)
            except ConnectionError:
                pass  # hung up already
            message = await guest.socket.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert site.session.usage().visitors == 0


async def test_pages_of_others_open_no_links(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        for origin in ("http://evil.example", "null", f"https://{site.browser.host}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with dialled(site, Origin=origin):
                    pass
            assert caught.value.status == 403
        async with dialled(site, Origin=f"http://{site.browser.host}") as guest:
            assert (await guest.hello(connect_ticket(site))).word is Word.WELCOME


async def test_two_hundred_streams(tmp_path: Path) -> None:
    async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(10_000))

    async with running_site(tmp_path, echoes, enter=False) as site, linked(site) as guest:
        visitors = [await guest.open() for _ in range(200)]
        for visitor in visitors:
            visitor.stream.write(b"q" * 10_000)
        for visitor in visitors:
            assert len(await visitor.got(10_000)) == 10_000
