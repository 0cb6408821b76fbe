"""What stands at the relay's address may be anything: the dial fails with a reason, in time."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.connect import connection, websocket
from broker.connect.connection import DialFailed, Relay, dial
from tests.integration.supervised import until
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.hello import Answered, Hello, Word, answer_bytes, hello_bytes
from wire.link import Link
from wire.transport import Transport

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NAME = "s-x.relay.test"
HELLO = Hello("ticket", bytes(32))
PIECE = b"\x82"  # a final binary frame


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Relay]:
    """A server that reads the request, then does what it likes until the other side leaves."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
            await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side left first: fine
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield Relay(("127.0.0.1",), server.sockets[0].getsockname()[1], False, NAME)


def upgraded(request: bytes) -> bytes:
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {websocket.accept_text(key)}\r\n\r\n"
    ).encode()


async def dialled(relay: Relay) -> tuple[Answered, list[Link], list[str]]:
    loop = asyncio.get_running_loop()
    links: list[Link] = []
    ends: list[str] = []

    def take(answered: Answered, transport: Transport, reader: FrameReader) -> Link | None:
        if answered.word is not Word.WELCOME:
            return None
        links.append(
            Link(
                transport,
                budget=Budget(SESSION_BYTES),
                clock=loop.time,
                later=loop.call_later,
                on_end=ends.append,
                reader=reader,
            )
        )
        return links[-1]

    answered = await dial(
        relay, lambda: hello_bytes(HELLO), take, context=None, random_bytes=secrets.token_bytes
    )
    return answered, links, ends


def saying(*parts: bytes) -> Answer:
    """Sends the parts, without a look at the request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)

    return answer


def after_upgrade(*parts: bytes) -> Answer:
    """Upgrades rightly, then sends the parts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(upgraded(await reader.readuntil(b"\r\n\r\n")) + b"".join(parts))

    return answer


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


GAMES: list[tuple[str, Answer, str]] = [
    ("another page", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "answered 200"),
    ("unknown name", saying(b"HTTP/1.1 421 Misdirected\r\n\r\n"), "does not serve"),
    ("wrong key", saying(upgraded(b"Sec-WebSocket-Key: x\r\n")), "wrong answer to the key"),
    ("not HTTP", saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not HTTP"),
    ("a head without end", saying(b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 2_000), "too long"),
    ("hangs up", hang_up, "hung up"),
    ("text", after_upgrade(b"\x81\x01x"), "text"),
    ("another frame first", after_upgrade(PIECE + b"\x08" + b"\x20" + bytes(7)), "hello"),
    ("a broken hello", after_upgrade(PIECE + b"\x0a\x03\x00\x00\x02\x00\x00\x00\x00[]"), "hello"),
]


@pytest.mark.parametrize(("answer", "says"), [g[1:] for g in GAMES], ids=[g[0] for g in GAMES])
async def test_a_wrong_answer_is_named(answer: Answer, says: str) -> None:
    async with answering(answer) as relay:
        with pytest.raises(DialFailed, match=says) as caught:
            await dialled(relay)
        assert f"relay 127.0.0.1:{relay.port}" in str(caught.value)


@pytest.mark.parametrize("answer", [saying(), after_upgrade()], ids=["mute", "mute after upgrade"])
async def test_who_says_nothing_is_not_waited_for(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DIAL_S_MAX", 0.3)
    async with answering(answer) as relay:
        with pytest.raises(DialFailed, match="no answer within"):
            await dialled(relay)


def message(data: bytes) -> bytes:
    return PIECE + bytes([len(data)]) + data


async def test_an_answer_in_parts_is_read_and_a_ping_answered() -> None:
    pong: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    welcome = answer_bytes(Answered(Word.WELCOME))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = upgraded(await reader.readuntil(b"\r\n\r\n"))
        sent = head + message(welcome[:5]) + b"\x89\x02hi" + message(welcome[5:])
        for index in range(0, len(sent), 7):
            writer.write(sent[index : index + 7])
            await writer.drain()
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            mask, body = await reader.readexactly(4), await reader.readexactly(size)
            if first == 0x8A:
                plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
                pong.set_result(plain)

    async with answering(answer) as relay:
        answered, links, ends = await dialled(relay)
        assert answered.word is Word.WELCOME
        assert await asyncio.wait_for(pong, 10) == b"hi"
        links[0].bye("closed")
        assert ends == ["closed"]


async def test_a_refused_ticket_makes_no_link() -> None:
    refused = answer_bytes(Answered(Word.REFUSED, reason="ticket_used"))
    async with answering(after_upgrade(message(refused))) as relay:
        answered, links, _ = await dialled(relay)
        assert (answered.word, answered.reason, links) == (Word.REFUSED, "ticket_used", [])


@pytest.mark.parametrize(
    ("end", "reason"), [(b"\xff\xff", "link_broken"), (b"\x88\x02\x03\xe9", "link_lost")]
)
async def test_a_broken_frame_or_a_close_ends_the_link(end: bytes, reason: str) -> None:
    welcome = message(answer_bytes(Answered(Word.WELCOME)))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(upgraded(await reader.readuntil(b"\r\n\r\n")) + welcome)
        hello_and_ping = await reader.read(65_536)
        assert hello_and_ping
        writer.write(end)

    async with answering(answer) as relay:
        _, _, ends = await dialled(relay)
        await until(lambda: ends)
        assert ends == [reason]


async def test_nobody_and_no_host_at_all() -> None:
    async with answering(hang_up) as relay:
        pass
    with pytest.raises(DialFailed, match="refused"):
        await dialled(relay)
    with pytest.raises(DialFailed, match="no host"):
        await dialled(relay._replace(hosts=()))
