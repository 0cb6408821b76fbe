"""Hostile devices and visitors on links: frames of any kind, no reading, no end, and bad timing."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import pytest
import pytest_asyncio

from broker.relay.session import Session
from broker.relay.visitor_link import VisitorLink
from broker.relay.web_door import web_factory
from tests.echo_stream import Echo
from tests.integration.test_relay_attack_devices import quick_loop
from tests.integration.test_relay_floods import lives, visitor_of, with_device
from tests.relay_rig import (
    LIMIT_S,
    Rig,
    Visitor,
    fact,
    opened,
    running_relay,
    visit,
)
from wire.frames import Kind, count_frame, encode, open_frame, reason_frame, window_frame
from wire.hello import Hello, Word, hello_bytes
from wire.relay_control import Revocation
from wire.stream import WINDOW_BYTES_FIRST, Stream
from wire.tickets import Claims, Party, Way

MEMORY_BYTES_MAX = 2 * 1024 * 1024


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path, web=web_factory) as rig:
        yield rig


def random_frame(rng: Random) -> bytes:
    """Mostly a frame as it should be, at a time when it should not."""
    stream = rng.choice((1, 1, 2, 3, rng.randrange(1, 300)))
    kind = rng.choice([one for one in Kind if one >= Kind.OPEN])
    if kind == Kind.OPEN:
        return open_frame(rng.randrange(1, 300), rng.choice((0, 65_536, 2**32 - 1)))
    if kind in (Kind.ACK, Kind.PING, Kind.PONG):
        return count_frame(kind, rng.choice((0, 1, 12, rng.randrange(2**64))))
    if kind == Kind.WINDOW:
        return window_frame(stream, rng.choice((0, 70_000, 2**64 - 1)))
    if kind in (Kind.RESET, Kind.REFUSED, Kind.BYE):
        return reason_frame(kind, 0 if kind == Kind.BYE else stream, "refused")
    if kind == Kind.DATA:
        return encode(kind, stream, rng.randbytes(rng.choice((1, 100, 9_000))))
    return encode(Kind.FIN, stream) if rng.random() < 0.9 else rng.randbytes(rng.randrange(50))


async def carries(session: Session, size: int = 200_000) -> None:
    """Another session's bytes come back exactly, and soon."""
    visitor = await opened(session)
    data = os.urandom(size)
    sent = 0
    async with asyncio.timeout(LIMIT_S):
        while len(visitor.data) < size:
            room = min(visitor.stream.room, size - sent)
            if room:
                visitor.stream.write(data[sent : sent + room])
                sent += room
            await asyncio.sleep(0.001)
    assert bytes(visitor.data) == data
    visitor.stream.reset("reset")


def no_link(session: Session) -> bool:
    return session.link is None


# Frames of any kind


@pytest.mark.parametrize("seed", range(4))
async def test_devices_that_say_anything(rig: Rig, seed: int) -> None:
    rng = Random(seed)
    _, _, other = await with_device(rig)
    async with quick_loop():
        for _ in range(15):
            claims = rig.mint.session()
            device = await rig.dial()
            assert (await device.hello(rig.mint.sign(claims))).word is Word.WELCOME
            session = visit(rig, claims)
            visitors = [await opened(session) for _ in range(3)]
            for visitor in visitors:
                visitor.stream.write(b"hello")
            for _ in range(rng.randrange(1, 60)):
                if device.lost.done():
                    break
                device.transport.write(random_frame(rng))
                if rng.random() < 0.2:
                    await asyncio.sleep(0)
            (device.transport.abort if rng.random() < 0.5 else device.transport.close)()
            await carries(other)
            await fact(partial(no_link, session))
            session.end("closed")
            assert session.budget.used == 0
    await fact(lambda: rig.relay.sessions.budget.used == 0)


@pytest.mark.parametrize("seed", range(4))
async def test_visitors_that_say_anything(rig: Rig, seed: int) -> None:
    rng = Random(seed)
    claims, device, session = await with_device(rig)
    _, _, other = await with_device(rig)
    async with quick_loop():
        for _ in range(15):
            async with visitor_of(rig, claims) as visitor:
                for _ in range(rng.randrange(1, 60)):
                    if visitor.socket.closed:
                        break
                    await visitor.socket.send_bytes(random_frame(rng) * rng.choice((1, 1, 3)))
                    if rng.random() < 0.2:
                        await asyncio.sleep(0)
            await carries(other)
    assert not device.ended.done()
    await lives(session)
    await fact(lambda: session.usage().streams == 0 and rig.relay.sessions.budget.used == 0)


def masked(first: int, payload: bytes, *, mask: bool = True, size: int | None = None) -> bytes:
    """A WebSocket frame; `size` may lie."""
    told = len(payload) if size is None else size
    bit = 0x80 if mask else 0
    if told < 126:
        head = bytes((first, bit | told))
    elif told < 65_536:
        head = bytes((first, bit | 126)) + struct.pack("!H", told)
    else:
        head = bytes((first, bit | 127)) + struct.pack("!Q", told)
    return head + (bytes(4) if mask else b"") + payload


ODD = {
    "text": masked(0x81, b"hello"),
    "not text": masked(0x81, b"\xff\xfe"),
    "compressed": masked(0xC2, b"hello"),
    "reserved bits": masked(0xF2, b"hello"),
    "unknown kind": masked(0x83, b"hello"),
    "unmasked": masked(0x82, b"hello", mask=False),
    "a continuation of nothing": masked(0x80, b"hello"),
    "a message in a message": masked(0x02, b"a") + masked(0x02, b"b"),
    "a long ping": masked(0x89, bytes(200)),
    "a ping in pieces": masked(0x09, b"a"),
    "endless": masked(0x82, b"", size=2**63 - 1),
    "too long": masked(0x82, b"", size=2**62),
    "half a close": masked(0x88, b"\x03"),
    "a close for no reason": masked(0x88, struct.pack("!H", 1005)),
    "pings": masked(0x89, b"") * 5_000,
    "nothing": masked(0x82, b"") * 5_000,
    "pieces of nothing": masked(0x02, b"") + masked(0x00, b"") * 20_000,
    "pieces for ever": masked(0x02, b"") + masked(0x00, bytes(60_000)) * 40,
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ODD)
async def test_websocket_frames_of_odd_kinds(rig: Rig, kind: str, known: bool) -> None:
    claims, device, session = await with_device(rig)
    async with quick_loop():
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(
            b"GET /.fleetgate/link HTTP/1.1\r\nHost: %b.localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % claims.host.encode()
        )
        async with asyncio.timeout(LIMIT_S):
            await reader.readuntil(b"\r\n\r\n")
        if known:
            ticket = rig.mint.again(claims, party=Party.VISITOR, way=Way.CONNECT)
            hello = hello_bytes(Hello(rig.mint.sign(ticket), bytes(32)))
            writer.write(masked(0x82, hello))
            async with asyncio.timeout(LIMIT_S):
                assert b"welcome" in await reader.read(1_000)
        writer.write(ODD[kind])
        await lives(session)
        writer.transport.abort()
    await fact(lambda: session.usage().visitors == 0)
    assert not device.ended.done()


# Who never reads


async def test_a_device_that_only_asks_fills_no_memory(rig: Rig) -> None:
    claims, _, _ = await with_device(rig)
    _, _, other = await with_device(rig)
    device = await rig.device(rig.mint.again(claims))
    device.transport.pause_reading()
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None and session.link is not None
    relayed = cast(asyncio.Transport, session.link._transport)
    worst = 0
    async with quick_loop():
        for number in range(400):
            if device.transport.is_closing():
                break
            device.transport.write(count_frame(Kind.PING, number) * 2_000)
            await asyncio.sleep(0.002)
            worst = max(worst, relayed.get_write_buffer_size())
    assert worst < MEMORY_BYTES_MAX
    device.transport.abort()
    await carries(other)


async def test_a_visitor_that_only_asks_fills_no_memory(rig: Rig) -> None:
    claims, device, session = await with_device(rig)
    async with quick_loop(), visitor_of(rig, claims) as visitor:
        guest = cast(VisitorLink, next(iter(session._links)))
        connection = visitor.socket._response.connection
        assert connection is not None and connection.transport is not None
        connection.transport.pause_reading()
        worst = 0
        try:
            for number in range(400):
                async with asyncio.timeout(0.5):
                    await visitor.socket.send_bytes(count_frame(Kind.PING, number) * 60)
                await asyncio.sleep(0)
                worst = max(worst, guest._output._size)
        except (TimeoutError, ConnectionError):
            pass  # it does not read us any more either, or has hung up
        assert worst < MEMORY_BYTES_MAX
        await lives(session)
    device.transport.abort()


async def test_messages_of_the_smallest_frames_do_not_hold_the_loop(rig: Rig) -> None:
    claims, device, session = await with_device(rig)
    async with quick_loop(), visitor_of(rig, claims) as visitor:
        await visitor.socket.send_bytes(open_frame(1, 0) + reason_frame(Kind.RESET, 1, "x"))
        for _ in range(10):
            await visitor.socket.send_bytes(encode(Kind.RESET, 1) * 60_000)
        await lives(session)
    assert not device.ended.done()


async def test_what_ended_streams_left_unread_is_counted_until_it_is_read(rig: Rig) -> None:
    """A device answers and ends; the visitor ends too and never reads: again and again."""
    sent = WINDOW_BYTES_FIRST

    def answer(stream: Stream) -> None:
        Answer(stream, bytes(sent))

    claims = rig.mint.session()
    device = await rig.device(claims, on_open=answer)
    session = visit(rig, claims)
    held = 0
    async with visitor_of(rig, claims) as visitor:
        for number in range(1, 41):
            await visitor.socket.send_bytes(open_frame(number, 0) + encode(Kind.FIN, number))
        link = cast(VisitorLink, next(iter(session._links)))._link
        await fact(lambda: session.link is not None and session.link.streams.bytes_in == 40 * sent)
        held = sum(stream.queued for stream in link.streams._by_number.values())
        assert held == 40 * sent  # they wait in the visitor's link, whose reader has no window
        assert session.link is not None and len(session.link.streams) == 0
        # Beside the windows that the visitor was granted for its own bytes.
        assert session.budget.used >= 40 * (WINDOW_BYTES_FIRST + 8_192)
        assert rig.relay.sessions._shared.tally.count(("session", session.id)) == 40
    await fact(lambda: session.budget.used == 0)
    assert rig.relay.sessions._shared.tally.count(("session", session.id)) == 0
    assert not device.ended.done()


class Answer(Echo):
    """Says what it has to say, and ends."""

    def __init__(self, stream: Stream, data: bytes) -> None:
        super().__init__(stream)
        stream.write(data)
        stream.finish()

    def stream_finished(self) -> None:
        pass


# Guests with mistakes in them


class FaultyGuest(Visitor):
    def stream_ended(self, reason: str) -> None:
        raise ValueError("a mistake")

    def session_ended(self, reason: str) -> None:
        raise ValueError("a mistake")


def revoked(rig: Rig, claims: Claims) -> None:
    rig.lease(revoked=(Revocation(1, claims.session, "right_lost"),), newest=1)


def expired(rig: Rig, claims: Claims) -> None:
    rig.clock.moved_s += 3_700
    rig.lease()


@pytest.mark.parametrize("end", [revoked, expired])
async def test_a_guest_that_fails_costs_neither_the_others_nor_the_relay(
    rig: Rig, end: Callable[[Rig, Claims], None]
) -> None:
    claims, device, session = await with_device(rig)
    faulty = FaultyGuest()
    faulty.stream = await session.stream(faulty)
    session.attach(faulty)
    good = await opened(session)
    end(rig, claims)
    reason = {"revoked": "right_lost", "expired": "expired"}[end.__name__]
    assert await good.end() == reason
    assert await device.end() == reason
    assert rig.relay.sessions.by_id(claims.session) is None
    assert session.budget.used == 0
    _, _, other = await with_device(rig)  # the relay goes on
    await lives(other)
