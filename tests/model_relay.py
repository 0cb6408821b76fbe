"""A small relay for tests: TLS by the own CA, tickets from a set, streams opened by the test."""

import asyncio
import contextlib
import hmac
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.join.ca import KeyFiles, prepare_keys
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.heartbeat import WireError
from wire.hello import Answered, Hello, Resume, Word, answer_bytes, greeting_of, proof
from wire.link import Link
from wire.stream import Stream

WAIT_S = 15.0


def relay_keys(folder: Path) -> KeyFiles:
    folder.mkdir(exist_ok=True)
    return prepare_keys(folder / "keys", (), datetime.now(UTC))


def server_context(keys: KeyFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.relay.certificate, keys.relay.key)
    return context


async def until(fact: Callable[[], object], *, within_s: float = WAIT_S) -> None:
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110  # facts of many kinds, none of which has an event
            await asyncio.sleep(0.005)


class Visitor:
    """A stream's user: notes what comes, and takes it at once unless it is told to be slow."""

    def __init__(self, *, slow: bool = False, keep: bool = True) -> None:
        self.slow = slow
        self.keep = keep
        self.got = bytearray()
        self.count = 0
        self.finished = False
        self.ended: str | None = None
        self.stream: Stream | None = None
        self.room = asyncio.Event()

    def stream_data(self, data: bytes) -> None:
        self.count += len(data)
        if self.keep:
            self.got += data
        if not self.slow:
            assert self.stream is not None
            self.stream.took(len(data))

    def stream_finished(self) -> None:
        self.finished = True

    def stream_ended(self, reason: str) -> None:
        self.ended = reason
        self.room.set()

    def stream_room(self) -> None:
        self.room.set()

    async def send(self, data: bytes) -> None:
        assert self.stream is not None
        view = memoryview(data)
        while view and self.ended is None:
            room = self.stream.room
            if not room:
                self.room.clear()
                await self.room.wait()
                continue
            self.stream.write(bytes(view[:room]))
            view = view[room:]


class RelaySide(asyncio.Protocol):
    """One connection of a device."""

    def __init__(self, relay: "ModelRelay") -> None:
        self.relay = relay
        self.reader = FrameReader()
        self.link: Link | None = None
        self.heard = False
        self.ended: str | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=128 * 1024)
        self.relay.sides.append(self)

    def data_received(self, data: bytes) -> None:
        if self.link is not None:
            self.link.receive(data)
        elif not self.heard:
            frame = self.reader.first(data)
            if frame is not None:
                self.heard = True
                self._greeted(greeting_of(frame))

    def _greeted(self, greeting: Hello | Resume) -> None:
        self.relay.greetings.append(greeting)
        answered = self.relay.admit(greeting)
        if answered is None:
            self.transport.abort()
            return
        said = answer_bytes(answered)
        if answered.word not in (Word.WELCOME, Word.FRESH):
            self.transport.write(said)
            self.transport.close()
            return
        loop = asyncio.get_running_loop()
        self.link = Link(
            self.transport,
            budget=Budget(SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=self._ended,
            reader=self.reader,
        )
        self.transport.write(said)
        self.link.start()
        self.relay.links.append(self.link)

    def _ended(self, reason: str) -> None:
        self.ended = reason

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link is not None:
            self.link.lost()

    def pause_writing(self) -> None:
        if self.link is not None:
            self.link.pause()

    def resume_writing(self) -> None:
        if self.link is not None:
            self.link.resume()


class ModelRelay:
    """`scripted` answers are given first; then tickets and resume secrets decide."""

    def __init__(self) -> None:
        self.port = 0
        self.tickets: dict[str, str] = {}
        self.secrets: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.scripted: list[Answered | None] = []
        self.greetings: list[Hello | Resume] = []
        self.sides: list[RelaySide] = []
        self.links: list[Link] = []

    def admit(self, greeting: Hello | Resume) -> Answered | None:
        scripted = self.scripted.pop(0) if self.scripted else Answered(Word.WELCOME)
        if scripted is None or scripted.word is not Word.WELCOME:
            return scripted
        if isinstance(greeting, Hello):
            session = self.tickets.pop(greeting.ticket, None)
            if session is None:
                return Answered(Word.REFUSED, reason="ticket_used")
            self.secrets[session] = greeting.secret
            self.generations[session] = 0
            return Answered(Word.WELCOME)
        secret = self.secrets.get(greeting.session)
        if secret is None:
            return Answered(Word.UNKNOWN)
        wanted = proof(secret, greeting.session, greeting.generation, greeting.received)
        if not hmac.compare_digest(wanted, greeting.proof):
            raise WireError("wrong proof")
        assert greeting.generation > self.generations[greeting.session]
        self.generations[greeting.session] = greeting.generation
        return Answered(Word.FRESH)

    async def link(self, number: int = 0) -> Link:
        """The link of the so-manieth accepted connection."""
        await until(lambda: len(self.links) > number)
        return self.links[number]

    def open(self, link: Link, visitor: Visitor | None = None) -> Visitor:
        visitor = visitor or Visitor()
        visitor.stream = link.open(visitor)
        return visitor

    @contextlib.asynccontextmanager
    async def listening(self, context: ssl.SSLContext, port: int = 0) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: RelaySide(self), "127.0.0.1", port or self.port, ssl=context
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for side in self.sides:
                side.transport.abort()
            await server.wait_closed()
            await asyncio.sleep(0)
