"""A real relay in this process, tickets for it, and devices that speak the link by hand."""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.relay.clock import Clock
from broker.relay.configuration import RelayConfiguration
from broker.relay.errors import StreamRefused
from broker.relay.limits import Limits
from broker.relay.relay import Relay, WebMaker
from broker.relay.session import Session
from gateway.join.ca import KeyFiles, prepare_keys
from tests.echo_stream import echo
from tests.ports import free_port
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.hello import (
    FORGOTTEN,
    LINK_NAME,
    Answered,
    Hello,
    Word,
    answered_of,
    hello_bytes,
    resume_bytes,
)
from wire.link import Link
from wire.relay_control import Lease
from wire.stream import Stream
from wire.tickets import ALGORITHM, Claims, Party, Way, payload_of

SERIAL = "1100000001"
KID = "20260101-aaaaaaaa"
EPOCH = "e" * 32
LIMIT_S = 10.0


class MovedClock(Clock):
    """Moved by hand."""

    moved_s = 0.0

    def wall_ms(self) -> int:
        return super().wall_ms() + round(self.moved_s * 1000)

    def now_s(self) -> float:
        return super().now_s() + self.moved_s


class Mint:
    """Makes tickets as the gateway does, and wrong ones."""

    def __init__(self, clock: Clock) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.clock = clock
        self.epoch = EPOCH

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def session(self, **changes: Any) -> Claims:
        """Claims of a device's ticket to a new session."""
        now_ms = self.clock.wall_ms()
        letters = "abcdefghijklmnopqrstuvwxyz234567"
        claims = Claims(
            jti=secrets.token_hex(16),
            session=secrets.token_hex(16),
            party=Party.DEVICE,
            way=Way.LINK,
            relay="relay-1",
            epoch=self.epoch,
            device=SERIAL,
            company="1",
            target="127.0.0.1:80",
            protocol="http",
            person="7",
            host="s-" + "".join(secrets.choice(letters) for _ in range(26)),
            until_ms=now_ms + 3_600_000,
            idle_streams_s=900,
            idle_bytes_s=3600,
            state="",
            issued_ms=now_ms,
            expires_ms=now_ms + 60_000,
        )
        return claims._replace(**changes)

    def again(self, claims: Claims, **changes: Any) -> Claims:
        """A new ticket's claims for the same session."""
        now_ms = self.clock.wall_ms()
        fresh = {"jti": secrets.token_hex(16), "issued_ms": now_ms, "expires_ms": now_ms + 60_000}
        return claims._replace(**{**fresh, **changes})

    def sign(self, claims: Claims, **header: Any) -> str:
        headers = {"kid": KID, **header}
        return jwt.encode(payload_of(claims), self.key, algorithm=ALGORITHM, headers=headers)


class Rig:
    """The relay and what a test needs beside it."""

    def __init__(self, relay: Relay, port: int, mint: Mint, clock: MovedClock, keys: KeyFiles):
        self.relay = relay
        self.port = port
        self.mint = mint
        self.clock = clock
        self.keys = keys

    def lease(self, **changes: Any) -> None:
        """As if the gateway had just sent one."""
        lease = Lease(self.relay.epoch, self.relay.control.applied, 0)
        self.relay.control.take(lease._replace(**changes))

    async def device(self, claims: Claims | None = None, **options: Any) -> "RawDevice":
        """A device whose link is up."""
        claims = claims or self.mint.session()
        device = await self.dial(**options)
        answered = await device.hello(self.mint.sign(claims))
        assert answered.word is Word.WELCOME, answered
        return device

    async def dial(self, **options: Any) -> "RawDevice":
        """A TLS connection on which nothing was said yet."""
        return await dial(self.port, self.keys.ca_certificate, **options)


async def dial(port: int, ca: Path, **options: Any) -> "RawDevice":
    """Connects as a device does."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=str(ca))
    _, device = await loop.create_connection(
        lambda: RawDevice(**options), "127.0.0.1", port, ssl=context, server_hostname=LINK_NAME
    )
    return device


class RawDevice(asyncio.Protocol):
    """The device's side of a link, without an agent."""

    def __init__(self, on_open: Callable[[Stream], object] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.secret = secrets.token_bytes(32)
        self.accepted: list[Stream] = []
        self.link: Link | None = None
        self.link_before: Link | None = None  # what RESUMED goes on with
        self.answered: asyncio.Future[Answered] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._on_open = on_open or echo
        self._reader = FrameReader()
        self.transport: asyncio.Transport

    async def hello(self, ticket: str) -> Answered:
        self.transport.write(hello_bytes(Hello(ticket, self.secret)))
        async with asyncio.timeout(LIMIT_S):
            return await self.answered

    async def resume(
        self, session: str, generation: int, secret: bytes = b"", received: int = FORGOTTEN
    ) -> Answered:
        self.secret = secret or self.secret
        self.transport.write(resume_bytes(self.secret, session, generation, received))
        async with asyncio.timeout(LIMIT_S):
            return await self.answered

    async def end(self) -> str:
        """Why the link ended."""
        async with asyncio.timeout(LIMIT_S):
            return await self.ended

    async def closed(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.link is not None:
            if self.link.carries(self.transport):
                self.link.receive(data)
            return
        frame = self._reader.first(data)
        if frame is None:
            return
        answered = answered_of(frame)
        if answered.word in (Word.WELCOME, Word.FRESH):
            loop = asyncio.get_running_loop()
            self.link = Link(
                self.transport,
                budget=Budget(SESSION_BYTES),
                clock=loop.time,
                later=loop.call_later,
                on_end=self._over,
                on_open=self._accept,
                reader=self._reader,
            )
            self.link.start()
        elif answered.word is Word.RESUMED and self.link_before is not None:
            self.link = self.link_before
            self.link.attach(self.transport, self._reader, answered.received)
            self.link.start()
        self.answered.set_result(answered)

    def _over(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _accept(self, stream: Stream) -> None:
        self.accepted.append(stream)
        self._on_open(stream)

    def pause_writing(self) -> None:
        if self.link is not None:
            self.link.pause()

    def resume_writing(self) -> None:
        if self.link is not None:
            self.link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link is not None and self.link.carries(self.transport):
            self.link.lost()
        if not self.lost.done():
            self.lost.set_result(None)


class Visitor:
    """Collects what comes, from a stream that it was handed."""

    def __init__(self, *, reads: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.reads = reads
        self.stream: Stream
        self.data = bytearray()
        self.arrived = asyncio.Event()
        self.finished = asyncio.Event()
        self.ended: asyncio.Future[str] = loop.create_future()

    def stream_data(self, data: bytes) -> None:
        self.data += data
        if self.reads:
            self.stream.took(len(data))
        self.arrived.set()

    def stream_finished(self) -> None:
        self.finished.set()

    def stream_ended(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def stream_room(self) -> None:
        pass

    async def got(self, size: int) -> bytes:
        """So many bytes, once they are there."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.data) < size:
                self.arrived.clear()
                await self.arrived.wait()
        return bytes(self.data)

    async def end(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            return await self.ended


def session_of(rig: Rig, claims: Claims) -> Session:
    """The relay's side of it."""
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None
    return session


def visit(rig: Rig, claims: Claims) -> Session:
    """A visitor's ticket is redeemed; the device may not have come yet."""
    ticket = rig.mint.again(claims, party=Party.VISITOR, way=Way.CONNECT)
    admitted = rig.relay.desk.admit(rig.mint.sign(ticket), party=Party.VISITOR, way=Way.CONNECT)
    return rig.relay.sessions.enter(admitted)


async def opened(
    session: Session, *, reads: bool = True, wait_s: float = LIMIT_S, address: str = ""
) -> Visitor:
    """A visitor whose stream is open."""
    visitor = Visitor(reads=reads)
    visitor.stream = await session.stream(visitor, wait_s=wait_s, address=address)
    return visitor


async def refusal(session: Session, wait_s: float = 0.05) -> StreamRefused:
    """Why none could be opened."""
    with pytest.raises(StreamRefused) as caught:
        await session.stream(Visitor(), wait_s=wait_s)
    return caught.value


class NoWeb(asyncio.Protocol):
    """Serves no browsers: counts as admitted with the first blank line and says 404."""

    def __init__(self, admitted: Callable[[], None]) -> None:
        self._admitted = admitted
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if b"\r\n\r\n" in self._data:
            self._admitted()
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._admitted()


def no_web(relay: Relay) -> Callable[[str, Callable[[], None]], asyncio.BaseProtocol]:
    return lambda _, admitted: NoWeb(admitted)


def make_configuration(
    folder: Path, mint: Mint, keys: KeyFiles, **changes: Any
) -> RelayConfiguration:
    """With files in the folder, on a port of its own choice, and no MQTT server."""
    (folder / "ticket-keys.json").write_text(json.dumps({KID: mint.public_pem.decode()}))
    (folder / "password").write_text("word of @relay-1")
    values: dict[str, Any] = {
        "id": "relay-1",
        "host": "127.0.0.1",
        "port": 0,
        "domain": "localhost",
        "gateway_url": "http://127.0.0.1:8080",
        "link_certificate_file": keys.relay.certificate,
        "link_key_file": keys.relay.key,
        "ticket_keys_file": folder / "ticket-keys.json",
        "mqtt_host": "127.0.0.1",
        "mqtt_port": free_port(),
        "mqtt_ca_file": keys.ca_certificate,
        "mqtt_password_file": folder / "password",
    }
    return RelayConfiguration(**{**values, **changes})


@asynccontextmanager
async def running_relay(
    folder: Path,
    *,
    limits: Limits | None = None,
    web: WebMaker = no_web,
    leased: bool = True,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """A relay that has just had a lease."""
    clock = MovedClock()
    mint = Mint(clock)
    keys = prepare_keys(folder / "keys", [], datetime.now(UTC))
    configuration = make_configuration(folder, mint, keys, **changes)
    relay = Relay(configuration, epoch=EPOCH, clock=clock, web=web, limits=limits)
    listeners = relay.bind()
    rig = Rig(relay, listeners[0].getsockname()[1], mint, clock, keys)
    if leased:
        rig.lease()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(relay.run(listeners))
        try:
            yield rig
        finally:
            running.cancel()


async def fact(holds: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110  the fact may be anything's
            await asyncio.sleep(0.01)
