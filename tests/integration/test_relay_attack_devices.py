"""Hostile targets: what they answer harms neither the visitor's browser nor the relay."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.relay.answers import HEAD_BYTES_MAX
from tests.conftest import waited_for_a_processor_s
from tests.relay_rig import LIMIT_S
from tests.relay_web_rig import Handler, running_site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FLOOD_BYTES = 24 * 1024 * 1024
PULSE_S = 0.01
LAG_S_MAX = 0.7  # of two busy cores; the attacks took seconds each


class Pulse:
    """The longest time for which the loop did nothing else, and had a processor for it."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before_s, waited_s = loop.time(), waited_for_a_processor_s()
            await asyncio.sleep(PULSE_S)
            waited_s = waited_for_a_processor_s() - waited_s
            self.worst_s = max(self.worst_s, loop.time() - before_s - waited_s - PULSE_S)


@asynccontextmanager
async def quick_loop() -> AsyncIterator[None]:
    """The loop stays quick. What thousands of tests before left in memory is not looked through
    meanwhile, which takes most of a second."""
    gc.collect()
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        pulse = Pulse()
        beating = tasks.create_task(pulse.beat())
        yield
        beating.cancel()
    assert pulse.worst_s < LAG_S_MAX


class Flood:
    """A target that answers one request and then sends without end."""

    def __init__(self, answer: bytes, flood: bytes, wait_s: float) -> None:
        self.answer = answer
        self.flood = flood
        self.wait_s = wait_s
        self.sent = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        await asyncio.sleep(self.wait_s)
        try:
            while self.sent < FLOOD_BYTES:
                writer.write(self.flood)
                await writer.drain()
                self.sent += len(self.flood)
        finally:
            if not self.over.done():
                self.over.set_result(None)


FLOODS: dict[str, tuple[bytes, bytes, float, int]] = {
    # what is answered, what follows, after how long, and what the visitor sees
    "answers to nothing": (OK, OK * 200, 0.3, 200),
    "answers upon the answer": (OK, OK * 200, 0.0, 200),
    "continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0, 502),
    "hints for ever": (b"", b"HTTP/1.1 103 H\r\nLink: x\r\n\r\n" * 100, 0.0, 502),
    "headers for ever": (b"HTTP/1.1 200 OK\r\n", b"X-a: " + b"y" * 30_000 + b"\r\n", 0.0, 502),
    "one header for ever": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 60_000, 0.0, 502),
    "a reason for ever": (b"HTTP/1.1 200 ", b"y" * 60_000, 0.0, 502),
    "a switch nobody asked for": (
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"z" * 60_000,
        0.0,
        502,
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_of_answers_are_cut_off(tmp_path: Path, kind: str) -> None:
    answer, flood, wait_s, status = FLOODS[kind]
    target = Flood(answer, flood, wait_s)
    async with quick_loop(), running_site(tmp_path, target) as site:
        assert (await site.browser.ask()).status == status
        async with asyncio.timeout(LIMIT_S):
            await target.over
        # What fits into windows and sockets, and no more.
        assert target.sent < FLOOD_BYTES // 2


async def test_a_head_is_bounded_as_a_whole(tmp_path: Path) -> None:
    lines = HEAD_BYTES_MAX // 30_000 + 2

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(lines):
            writer.write(b"X-%d: %b\r\n" % (number, b"y" * 30_000))
            await writer.drain()
        await reader.read()  # the head never ends

    async with running_site(tmp_path, serve) as site:
        answer = await site.browser.ask()
        assert (answer.status, "(bad_answer)" in answer.text) == (502, True)


def answers(data: bytes) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return serve


SPLITS = {
    "bare CR": b"X: a\rSet-Cookie: fleetgate-relay=x",
    "bare LF": b"X: a\nSet-Cookie: fleetgate-relay=x",
    "fold": b"X: a\r\n Set-Cookie: fleetgate-relay=x",
    "NUL": b"X: a\0Set-Cookie: fleetgate-relay=x",
    "blank before the colon": b"Set-Cookie : fleetgate-relay=x",
    "no name": b": fleetgate-relay=x",
    "upper case": b"SET-COOKIE: __HOST-FLEETGATE-relay=x",
    "two of them": b"Set-Cookie: a=b\r\nset-cookie: fleetgate-relay=x; Domain=localhost",
    "nameless": b"Set-Cookie: =fleetgate-relay=x",
    "blanks": b"Set-Cookie: \t fleetgate-state \t = x",
    "no value": b"Set-Cookie: fleetgate-relay",
    "other prefix": b"Set-Cookie: __Host-fleetgate-state=x; Path=/; Secure",
    "behind an attribute": b"Set-Cookie: a=b; Domain=x; domain=y; DOMAIN = z;Domain",
}


@pytest.mark.parametrize("kind", SPLITS)
async def test_no_answer_sets_our_cookies_or_a_domain(tmp_path: Path, kind: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + SPLITS[kind] + b"\r\nContent-Length: 0\r\n\r\n"
    async with running_site(tmp_path, answers(head)) as site:
        answer = await site.browser.ask()
        assert answer.status in (200, 502)
        for cookie in answer.all("set-cookie"):
            assert b"fleetgate" not in cookie.lower() and b"domain" not in cookie.lower()
        assert all(b"\n" not in value and b"\r" not in value for _, value in answer.headers)


AMBIGUOUS = {
    "two lengths": b"200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nok!",
    "length and chunks": (
        b"200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a negative length": b"200 OK\r\nContent-Length: -1\r\n\r\nok!",
    "a signed length": b"200 OK\r\nContent-Length: +3\r\n\r\nok!",
    "an endless length": b"200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok!",
    "no status": b"000 OK\r\nContent-Length: 0\r\n\r\n",
    "a chunk of nonsense": b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
async def test_answers_that_clients_read_differently_are_refused(tmp_path: Path, kind: str) -> None:
    async with running_site(tmp_path, answers(b"HTTP/1.1 " + AMBIGUOUS[kind])) as site:
        try:
            answer = await site.browser.ask()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return  # it broke off, and did not end
        assert answer.status == 502


async def test_compressed_bodies_are_not_unpacked(tmp_path: Path) -> None:
    packed = b"\x1f\x8b\x08\x00" + b"\x00" * 30  # of no meaning to the relay
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with running_site(tmp_path, answers(head + packed)) as site:
        assert (await site.browser.ask()).body == packed


@pytest.mark.parametrize("value", [b"\x0b" * 30_000, b"0" + b" " * 30_000, b"1." * 15_000])
async def test_no_refresh_takes_long_to_judge(tmp_path: Path, value: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nRefresh: " + value + b"x\r\nContent-Length: 0\r\n\r\n"
    async with quick_loop(), running_site(tmp_path, answers(head)) as site:
        assert (await site.browser.ask()).status == 200
