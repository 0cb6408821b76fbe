"""An echo server for tests of the bad network, and how to talk with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# Nothing may come for so long where nothing shall come.
REST_S = 0.15


class Echo:
    """Gives back what it gets, and closes after the other side did."""

    def __init__(self) -> None:
        self.accepted = 0
        self.ended = 0
        self.got_bytes = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while data := await reader.read(65_536):
                self.got_bytes += len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[Echo]:
    """Listens on loopback; at the end every connection must have ended."""
    made = Echo()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await until(lambda: made.ended == made.accepted)


async def until(fact: Callable[[], bool], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not fact():  # noqa: ASYNC110  facts of bare sockets announce nothing
            await asyncio.sleep(0.005)


@asynccontextmanager
async def dialled(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end, however the other side ended it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


async def echoed(port: int, data: bytes) -> bytes:
    """Sends all, half-closes, and reads until the other side has closed too."""
    async with dialled(port) as (reader, writer), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(reader.read())
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        return await reading
