"""Bodies of requests and answers: their framing, their ends, their size, their pace."""

import asyncio
from pathlib import Path

from tests.relay_rig import fact
from tests.relay_web_rig import Recorder, headers, random_body, read_answer, running_site


async def test_bodies_keep_their_framing(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        await browser.ask("/", method="POST", body=b"x" * 70_000)
        assert target.bodies[-1] == b"x" * 70_000
        assert target.values(b"content-length") == [b"70000"]
        await browser.ask("/", method="POST", headers={"Content-Length": "0"})
        assert target.values(b"content-length") == [b"0"]
        chunked = browser.head("PUT", "/", {"Transfer-Encoding": "chunked"})
        await browser.raw(chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "PUT")
        assert target.values(b"transfer-encoding") == [b"chunked"]
        assert target.values(b"content-length") == []
        assert target.bodies[-1].endswith(b"0\r\n\r\n")
        await browser.ask("/", method="PROPFIND")
        assert target.lines()[0] == b"PROPFIND / HTTP/1.1"


async def test_answers_without_a_body(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        target.answer = headers("HTTP/1.1 200 OK", "Content-Length: 1000")
        assert (await browser.ask("/", method="HEAD")).one("content-length") == "1000"
        target.answer = headers("HTTP/1.1 304 Not Modified", 'ETag: "e"', "Content-Length: 9")
        assert (await browser.ask("/")).status == 304
        target.answer = headers("HTTP/1.1 204 No Content")
        assert (await browser.ask("/")).headers == []
        target.answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + headers(
            "HTTP/1.1 200 OK", "Content-Length: 0"
        )
        assert (await browser.ask("/")).status == 200
        assert target.connections == 1


async def test_a_body_that_ends_with_the_connection(tmp_path: Path) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"y" * 100_000)
        await writer.drain()

    async with running_site(tmp_path, old) as site:
        answer = await site.browser.ask("/")
        assert answer.body == b"y" * 100_000
        assert answer.all("transfer-encoding") == [b"chunked"]
        old_head = site.browser.head("GET", "/").replace(b"HTTP/1.1", b"HTTP/1.0")
        answer = await site.browser.raw(old_head)
        assert answer.body == b"y" * 100_000
        assert answer.all("transfer-encoding") == []


async def test_a_body_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ]

    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop())
        await writer.drain()

    async with running_site(tmp_path, breaks_off) as site:
        for head_and_half in (b"\r\n\r\n4\r\nhalf\r\n", b"\r\n\r\nhalf"):
            await site.browser.connect()
            site.browser.writer.write(site.browser.head("GET", "/"))
            async with asyncio.timeout(10):
                got = await site.browser.reader.read()
            assert got.endswith(head_and_half)
            site.browser.close()


async def test_expect_100_continue(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        await browser.connect()
        given = {"Expect": "100-continue", "Content-Length": "5"}
        browser.writer.write(browser.head("POST", "/", given))
        assert await browser.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        browser.writer.write(b"hello")
        assert (await read_answer(browser.reader)).status == 200
        assert target.bodies == [b"hello"]
        assert target.values(b"expect") == []
        browser.close()


async def test_connections_are_kept_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Twice: the second request on a kept connection gets no answer.
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")

    async with running_site(tmp_path, hangs_up) as site:
        await site.browser.connect()
        for _ in range(4):
            site.browser.writer.write(site.browser.head("GET", "/"))
            assert (await read_answer(site.browser.reader)).body == b"ok"
        site.browser.close()


async def test_fifty_megabytes_up_and_down(tmp_path: Path) -> None:
    body = random_body(50_000_000)
    taken = bytearray()

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"PUT"):
            while len(taken) < len(body):
                taken.extend(await reader.read(2**18))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
        await writer.drain()

    async with running_site(tmp_path, store) as site:
        assert (await site.browser.ask("/", method="PUT", body=body)).status == 201
        assert taken == body
        assert (await site.browser.ask("/")).body == body


async def test_two_hundred_at_once(tmp_path: Path) -> None:
    target = Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"z" * 50_000)
    async with running_site(tmp_path, target) as site:
        answers = await asyncio.gather(*(site.browser.ask(f"/{one}") for one in range(200)))
        assert {len(answer.body) for answer in answers} == {50_000}
        assert len(target.heads) == 200
        assert target.connections <= 32


async def test_events_come_at_once(tmp_path: Path) -> None:
    step = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await step.wait()
        writer.write(b"data: 2\n\n")
        await reader.read()

    async with running_site(tmp_path, events) as site:
        await site.browser.connect()
        site.browser.writer.write(site.browser.head("GET", "/events"))
        reader = site.browser.reader
        await reader.readuntil(b"data: 1\n\n\r\n")
        step.set()
        await reader.readuntil(b"data: 2\n\n\r\n")
        site.browser.close()
        # A visitor who leaves ends the stream at the device too.
        await fact(lambda: site.session.usage().streams == 0)


async def test_a_visitor_that_does_not_read_holds_back_the_target(tmp_path: Path) -> None:
    sent = 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"w" * 65_536)
            await writer.drain()
            sent += 65_536

    async with running_site(tmp_path, pours) as site:
        await site.browser.connect()
        site.browser.writer.write(site.browser.head("GET", "/"))
        await site.browser.reader.readuntil(b"\r\n\r\n")
        before = 0
        while not sent or sent != before:
            before = sent
            await asyncio.sleep(0.5)  # long enough for a byte to move, if any may
        assert sent < 60_000_000
        assert site.session.budget.used < 16 * 2**20
        site.browser.close()
