"""Streams of an agent: bytes, ends, many at once, stalled ones."""

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.linked_device import Device, echo, linked_device, serving
from tests.model_relay import Visitor, until
from wire.hello import Hello
from wire.session_commands import LinkState


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    async with linked_device(tmp_path) as made:
        yield made


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the end, with what came: nothing works without half-close."""
    hashed, count = hashlib.sha256(), 0
    while data := await reader.read(65_536):
        hashed.update(data)
        count += len(data)
    writer.write(f"{count} {hashed.hexdigest()}".encode())
    await writer.drain()


async def test_bytes_are_exact_both_ways_and_ends_pass_one_by_one(device: Device) -> None:
    sent = os.urandom(3_000_000)
    async with serving(echo) as target, device.running():
        assert device.open(target) == {"dialling": True}
        visitor = device.relay.open(await device.relay.link())
        assert visitor.stream is not None
        await visitor.send(sent)
        await until(lambda: len(visitor.got) == len(sent))
        assert visitor.got == sent
        assert not visitor.finished
        visitor.stream.finish()
        await until(lambda: visitor.finished)
        assert visitor.ended is None
        assert device.said(LinkState.UP)()
        greeting = device.relay.greetings[0]
        assert isinstance(greeting, Hello) and len(greeting.secret) == 32


async def test_a_target_may_answer_after_the_visitors_end(device: Device) -> None:
    sent = os.urandom(500_000)
    async with serving(digest) as target, device.running():
        device.open(target)
        visitor = device.relay.open(await device.relay.link())
        assert visitor.stream is not None
        await visitor.send(sent)
        visitor.stream.finish()
        await until(lambda: visitor.finished)
        assert visitor.got.decode() == f"{len(sent)} {hashlib.sha256(sent).hexdigest()}"
        await until(lambda: not len(device.relay.links[0].streams))


async def test_a_reset_of_either_side_reaches_the_other(device: Device) -> None:
    ends: list[str] = []

    async def note_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"r":
            plain = writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        try:
            ends.append("end" if await reader.read() == b"" else "bytes")
        except ConnectionResetError:
            ends.append("reset")

    async with serving(note_end) as target, device.running():
        device.open(target)
        link = await device.relay.link()
        by_target, by_visitor, by_close = (device.relay.open(link) for _ in range(3))
        await by_target.send(b"r")
        await until(lambda: by_target.ended)
        assert by_target.ended == "reset"
        for visitor in (by_visitor, by_close):
            await visitor.send(b"x")
        await until(lambda: by_visitor.stream and by_visitor.stream.sent)
        await asyncio.sleep(0.05)
        assert by_visitor.stream is not None
        by_visitor.stream.reset("reset")
        await until(lambda: ends)
        device.sessions.close({"session": f"{1:032x}"})
        await until(lambda: len(ends) == 2)
        assert ends == ["reset", "reset"]
        assert by_close.ended == "closed"


async def test_two_hundred_streams_at_once(device: Device) -> None:
    async with serving(echo) as target, device.running():
        device.open(target)
        link = await device.relay.link()

        async def one(number: int) -> None:
            sent = bytes([number % 256]) * (1 + 500 * number)
            visitor = device.relay.open(link)
            await visitor.send(sent)
            assert visitor.stream is not None
            visitor.stream.finish()
            await until(lambda: visitor.finished, within_s=30)
            assert visitor.got == sent and visitor.ended is None

        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(one(number))
        await until(lambda: not len(link.streams))


async def test_a_stalled_target_leaves_the_others_alone(device: Device) -> None:
    released = asyncio.Event()

    async def stall_or_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"s":
            await released.wait()
            return
        await echo(reader, writer)

    async with serving(stall_or_echo) as target, device.running():
        device.open(target)
        link = await device.relay.link()
        stalled = [device.relay.open(link) for _ in range(20)]
        async with asyncio.TaskGroup() as tasks:
            fillers = [tasks.create_task(one.send(b"s" + bytes(20_000_000))) for one in stalled]
            sent = os.urandom(4_000_000)
            visitor = device.relay.open(link)
            await visitor.send(b"e" + sent)
            await until(lambda: len(visitor.got) == len(sent), within_s=30)
            assert visitor.got == sent
            released.set()
            for filler in fillers:
                filler.cancel()


async def test_a_slow_visitor_leaves_the_others_alone(device: Device) -> None:
    async with serving(echo) as target, device.running():
        device.open(target)
        link = await device.relay.link()
        slow = device.relay.open(link, Visitor(slow=True))
        sending = os.urandom(2_000_000)
        async with asyncio.TaskGroup() as tasks:
            filler = tasks.create_task(slow.send(bytes(20_000_000)))
            visitor = device.relay.open(link)
            await visitor.send(sending)
            await until(lambda: visitor.got == sending)
            filler.cancel()
        assert slow.count <= 9_000_000


async def test_what_lingers_after_its_stream_is_ended_with_the_session(device: Device) -> None:
    """A target that has finished but never reads keeps bytes beyond the end of the stream."""
    released = asyncio.Event()
    ends: list[str] = []

    async def finish_and_stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await released.wait()
        try:
            while await reader.read(65_536):
                pass
            ends.append("end")
        except ConnectionResetError:
            ends.append("reset")

    async def dial_narrow(
        factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, (host, port))
        return await loop.create_connection(factory, sock=plain)

    device.dial = dial_narrow
    async with serving(finish_and_stall, limit=4_096) as target, device.running():
        device.open(target)
        link = await device.relay.link()
        visitor = device.relay.open(link)
        await visitor.send(bytes(60_000))
        assert visitor.stream is not None
        visitor.stream.finish()
        await until(lambda: visitor.finished and not len(link.streams))
        device.sessions.close({"session": f"{1:032x}"})
        await until(lambda: not len(device.sessions))
        released.set()
        await until(lambda: ends)
        assert ends == ["reset"]
