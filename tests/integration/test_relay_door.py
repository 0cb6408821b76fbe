"""The relay's one port: who is let in by which name, and what becomes of those who stall."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from broker.relay import device_link, door
from broker.relay.arrivals import Arrivals, address_key
from gateway.join.ca import prepare_keys
from tests.conftest import SummaryRow
from tests.relay_rig import LIMIT_S, Rig, Visitor, fact, running_relay
from wire.frames import Kind, encode
from wire.hello import LINK_NAME, Hello, Word, hello_bytes


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as rig:
        yield rig


class Client:
    """A connection that a test uses by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def rest(self, limit_s: float = LIMIT_S) -> bytes:
        """What still comes until the relay closes."""
        try:
            async with asyncio.timeout(limit_s):
                return await self.reader.read()
        except ConnectionResetError:
            return b""
        finally:
            self.close()

    def close(self) -> None:
        self.writer.transport.abort()


async def connect(rig: Rig, **options: Any) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", rig.port, **options))


async def connect_tls(rig: Rig, name: str | None, ca: Path | None = None) -> Client:
    context = ssl.create_default_context(cafile=str(ca or rig.keys.ca_certificate))
    if name is None:
        context.check_hostname = False
    return await connect(rig, ssl=context, server_hostname=name or "")


async def works(rig: Rig) -> None:
    """A device comes, and a visitor's bytes go through."""
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None
    visitor = Visitor()
    visitor.stream = await session.stream(visitor)
    visitor.stream.write(b"works")
    assert await visitor.got(5) == b"works"
    device.transport.abort()
    await device.closed()


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_http_on_loopback_is_for_browsers(rig: Rig) -> None:
    client = await connect(rig)
    client.writer.write(REQUEST)
    assert (await client.reader.readline()).startswith(b"HTTP/1.1 404")
    await fact(lambda: not len(rig.relay.arrivals))
    client.close()


async def test_the_links_name_has_the_own_cas_certificate_and_no_pages(rig: Rig) -> None:
    client = await connect_tls(rig, LINK_NAME)
    client.writer.write(REQUEST)
    assert await client.rest() == b""
    await works(rig)


@pytest.mark.parametrize("name", ["s-abc.localhost", "localhost", None])
async def test_other_names_end_in_the_handshake(rig: Rig, name: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect_tls(rig, name)
    await fact(lambda: not len(rig.relay.arrivals))


async def test_visitors_have_their_own_certificate_and_no_plain_http(tmp_path: Path) -> None:
    visitors = prepare_keys(tmp_path / "visitors", [], datetime.now(UTC))
    files: dict[str, Any] = {
        "visitors_certificate_file": visitors.server_certificate,
        "visitors_key_file": visitors.server_key,
    }
    async with running_relay(tmp_path, **files) as rig:
        for name in ("localhost", None):
            client = await connect_tls(rig, name, visitors.ca_certificate)
            client.writer.write(REQUEST)
            assert (await client.reader.readline()).startswith(b"HTTP/1.1 404")
            client.close()
        with pytest.raises(ssl.SSLError):
            await connect_tls(rig, LINK_NAME, visitors.ca_certificate)
        plain = await connect(rig)
        plain.writer.write(REQUEST)
        assert await plain.rest() == b""
        await works(rig)


BAD_HELLOS = {
    "another frame": encode(Kind.DATA, 1, b"x"),
    "an answer": encode(Kind.ANSWER, 0, b"{}"),
    "too long": b"\x01\x00\x20\x00" + bytes(4),
    "not JSON": encode(Kind.HELLO, 0, b"{" * 4_000),
    "no ticket": encode(Kind.HELLO, 0, b'{"v":1}'),
    "another version": hello_bytes(Hello("x", bytes(32))).replace(b'"v":1', b'"v":2'),
    "a short secret": hello_bytes(Hello("x", bytes(31))),
}


@pytest.mark.parametrize("kind", BAD_HELLOS)
async def test_a_bad_hello_ends_the_connection(rig: Rig, kind: str) -> None:
    client = await connect_tls(rig, LINK_NAME)
    client.writer.write(BAD_HELLOS[kind])
    assert await client.rest() == b""
    await fact(lambda: not len(rig.relay.arrivals))


async def test_a_hello_may_come_byte_by_byte(rig: Rig) -> None:
    device = await rig.dial()
    hello = hello_bytes(Hello(rig.mint.sign(rig.mint.session()), bytes(32)))
    for byte in hello:
        device.transport.write(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT_S):
        assert (await device.answered).word is Word.WELCOME
    device.transport.abort()


async def test_who_says_nothing_or_half_is_shown_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "FIRST_BYTE_S_MAX", 0.4)
    monkeypatch.setattr(door, "HANDSHAKE_S_MAX", 0.4)
    monkeypatch.setattr(door, "HEAD_S_MAX", 0.4)
    monkeypatch.setattr(device_link, "HELLO_S_MAX", 0.4)
    silent, half_tls, half_head = [await connect(rig) for _ in range(3)]
    half_tls.writer.write(b"\x16\x03\x01\x02\x00")
    half_head.writer.write(REQUEST[:-2])
    no_hello, half_hello = [await connect_tls(rig, LINK_NAME) for _ in range(2)]
    half_hello.writer.write(hello_bytes(Hello("x", bytes(32)))[:-1])
    clients = (silent, half_tls, half_head, no_hello, half_hello)
    assert await asyncio.gather(*(client.rest(3.0) for client in clients)) == [b""] * 5
    await fact(lambda: not len(rig.relay.arrivals))
    await works(rig)


async def test_a_device_may_take_its_time_once_it_is_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HEAD_S_MAX", 0.2)
    monkeypatch.setattr(device_link, "HELLO_S_MAX", 0.2)
    device = await rig.device()
    await asyncio.sleep(0.5)
    assert not device.ended.done()
    device.transport.abort()


async def test_garbage_after_the_first_byte_of_tls(rig: Rig) -> None:
    client = await connect(rig)
    client.writer.write(b"\x16" + b"garbage" * 100)
    await client.rest()
    await fact(lambda: not len(rig.relay.arrivals))


async def test_who_hangs_up_at_once_leaves_nothing(rig: Rig) -> None:
    for first in (b"", b"\x16", b"G", REQUEST):
        client = await connect(rig)
        client.writer.write(first)
        client.close()
    await fact(lambda: not len(rig.relay.arrivals))
    await works(rig)


def test_at_a_bound_the_oldest_goes() -> None:
    dropped: list[int] = []
    arrivals = Arrivals(per_address=3, most=5)

    def add(number: int, address: str) -> None:
        arrivals.add(number, address, lambda: dropped.append(number))

    for number in range(4):
        add(number, "192.0.2.1")
    assert dropped == [0]
    add(4, "192.0.2.2")
    add(5, "192.0.2.3")
    assert dropped == [0] and len(arrivals) == 5
    add(6, "192.0.2.4")
    assert dropped == [0, 1] and len(arrivals) == 5
    for number in (*range(7), 3):
        arrivals.remove(number)
    assert not len(arrivals) and arrivals.dropped == 2


def test_addresses_of_one_site_count_together() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1")
    assert address_key("2001:db8::1") != address_key("2001:db8:0:1::1")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1")
    assert address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key("fe80::1%eth0") == address_key("fe80::2%eth0")


class HalfOpen:
    """Connections from many addresses, on which nothing is said, or a part of a handshake."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []

    async def open(self, count: int, *, addresses: int, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        for number in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((f"127.0.{1 + number % addresses // 250}.{1 + number % addresses % 250}", 0))
            self.sockets.append(sock)
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
            if first:
                sock.send(first)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


async def storm(rig: Rig, count: int, *, addresses: int, first: bytes) -> None:
    """Others work before, during and after it."""
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None
    visitor = Visitor()
    visitor.stream = await session.stream(visitor)
    crowd = HalfOpen(rig.port)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(crowd.open(count, addresses=addresses, first=first))
        turns = 0
        while not opening.done():
            visitor.stream.write(b"%06d" % turns)
            turns += 1
            await visitor.got(6 * turns)
        assert turns > 10
    try:
        assert len(rig.relay.arrivals) <= 4_096
        await works(rig)
        assert not device.ended.done()
    finally:
        crowd.close()
    await fact(lambda: not len(rig.relay.arrivals))
    device.transport.abort()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET /"])
async def test_600_half_open_connections_of_one_address(rig: Rig, first: bytes) -> None:
    await storm(rig, 600, addresses=1, first=first)
    assert rig.relay.arrivals.dropped >= 600 - 256


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_10000_half_open_connections(rig: Rig, summary_row: SummaryRow) -> None:
    await storm(rig, 10_000, addresses=1_000, first=b"\x16\x03\x01")
    assert rig.relay.arrivals.dropped >= 10_000 - 4_097
    summary_row("half-open connections at the relay", 10_000, "sessions beside them unharmed")
