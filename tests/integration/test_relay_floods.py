"""Visitors who break the rules of the link harm nobody but themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from broker.relay.session import Session
from broker.relay.web_door import web_factory
from tests.relay_rig import LIMIT_S, RawDevice, Rig, Visitor, running_relay
from wire.frames import (
    Frame,
    FrameReader,
    Kind,
    count_frame,
    encode,
    open_frame,
    reason_frame,
    reason_of,
    window_frame,
)
from wire.hello import Answered, Hello, Word, answered_of, hello_bytes
from wire.tickets import Claims, Party, Way


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path, web=web_factory) as rig:
        yield rig


class RawVisitor:
    """A visitor's link, frame by frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.reader = FrameReader()

    async def hello(self, ticket: str) -> Answered:
        await self.socket.send_bytes(hello_bytes(Hello(ticket, bytes(32))))
        frame = None
        while frame is None:
            frame = self.reader.first(await self.socket.receive_bytes())
        return answered_of(frame)

    async def bye(self) -> str:
        """Why the relay ended the link."""
        async with asyncio.timeout(LIMIT_S):
            async for message in self.socket:
                frames: list[Frame] = self.reader.feed(message.data)
                for frame in frames:
                    if frame.kind == Kind.BYE:
                        return reason_of(frame)
        return ""


@asynccontextmanager
async def visitor_of(rig: Rig, claims: Claims) -> AsyncIterator[RawVisitor]:
    url = f"http://127.0.0.1:{rig.port}/.fleetgate/link"
    headers = {"Host": f"{claims.host}.localhost:{rig.port}"}
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=headers, max_msg_size=0) as socket,
    ):
        visitor = RawVisitor(socket)
        ticket = rig.mint.again(claims, party=Party.VISITOR, way=Way.CONNECT)
        assert (await visitor.hello(rig.mint.sign(ticket))).word is Word.WELCOME
        yield visitor


async def lives(session: Session) -> None:
    """Another visitor's bytes go through within a few seconds."""
    visitor = Visitor()
    visitor.stream = await session.stream(visitor, wait_s=LIMIT_S)
    visitor.stream.write(b"lives")
    assert await visitor.got(5) == b"lives"
    visitor.stream.reset("reset")


async def with_device(rig: Rig) -> tuple[Claims, RawDevice, Session]:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None
    return claims, device, session


def opens_and_resets(count: int) -> bytes:
    return b"".join(
        open_frame(number, 65_536) + reason_frame(Kind.RESET, number, "reset")
        for number in range(1, count + 1)
    )


FLOODS: dict[str, Callable[[], bytes]] = {
    "opens and resets": lambda: opens_and_resets(5_000),
    "data beyond the window": lambda: (
        open_frame(1, 65_536) + encode(Kind.DATA, 1, b"x" * 60_000) * 6
    ),
    "a stream twice": lambda: open_frame(1, 65_536) * 2,
    "data for nothing": lambda: encode(Kind.DATA, 7, b"x"),
    "a refusal of its own": lambda: (
        open_frame(1, 65_536) + reason_frame(Kind.REFUSED, 1, "refused")
    ),
    "acknowledged too much": lambda: count_frame(Kind.ACK, 2**40),
    "two ends": lambda: open_frame(1, 65_536) + encode(Kind.FIN, 1) + encode(Kind.FIN, 1),
    "a window for nothing": lambda: window_frame(9, 2**40),
    "a second hello": lambda: hello_bytes(Hello("x", bytes(32))),
    "an unknown kind": lambda: b"\x63" + bytes(7),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_visitor_who_breaks_the_rules_loses_its_link_alone(rig: Rig, kind: str) -> None:
    claims, device, session = await with_device(rig)
    _, other_device, other = await with_device(rig)
    async with visitor_of(rig, claims) as visitor:
        await visitor.socket.send_bytes(FLOODS[kind]())
        assert await visitor.bye() == "protocol_error"
    await lives(session)
    await lives(other)
    assert not device.ended.done() and not other_device.ended.done()
    assert device.link is not None and device.link.streams.opened < 1_300
    device.transport.abort()
    other_device.transport.abort()


async def test_many_links_that_open_fast_do_not_cost_the_session_its_device(rig: Rig) -> None:
    claims, device, session = await with_device(rig)
    async with asyncio.TaskGroup() as group:

        async def storm() -> None:
            async with visitor_of(rig, claims) as visitor:
                for first in range(1, 1_000, 100):
                    frames = b"".join(
                        open_frame(number, 65_536) + reason_frame(Kind.RESET, number, "reset")
                        for number in range(first, first + 100)
                    )
                    await visitor.socket.send_bytes(frames)
                    await asyncio.sleep(0)
                await visitor.socket.close()

        for _ in range(5):
            group.create_task(storm())
    await lives(session)
    assert not device.ended.done()
    device.transport.abort()


async def test_a_visitor_who_never_reads_holds_up_nobody_else(rig: Rig) -> None:
    claims, device, session = await with_device(rig)
    async with visitor_of(rig, claims) as visitor:
        # All that it sends comes back, and it never reads it.
        await visitor.socket.send_bytes(open_frame(1, 2**31))
        for _ in range(4):
            await visitor.socket.send_bytes(encode(Kind.DATA, 1, b"x" * 16_000))
        for _ in range(20):
            await lives(session)
        assert session.budget.used < 4 * 1024 * 1024
    device.transport.abort()
