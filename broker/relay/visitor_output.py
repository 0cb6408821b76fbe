"""What a visitor's link writes to: a WebSocket with one bounded queue before it."""

import asyncio

from aiohttp import web

from broker.relay.web_front import VisitorProtocol
from wire.link import Link

QUEUE_BYTES_HIGH = 128 * 1024
QUEUE_BYTES_LOW = 32 * 1024
CLOSE_S = 5.0


class Output:
    """The link's transport: what it writes waits for the socket in one bounded queue.

    The link writes data only while it is not paused; what it may write beyond that is bounded by
    itself.
    """

    def __init__(self, socket: web.WebSocketResponse, front: VisitorProtocol) -> None:
        self._socket = socket
        self._front = front
        self._linger: asyncio.TimerHandle | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._stirred = asyncio.Event()
        self._closing = False
        self.link: Link  # set before anything is written
        self._paused = False

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._stirred.set()
        if self._size > QUEUE_BYTES_HIGH and not self._paused and self._carries():
            self._paused = True
            self.link.pause()

    def _carries(self) -> bool:
        return self.link.carries(self)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._stirred.set()
            # Whoever does not read shall not keep the last words waiting.
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(CLOSE_S, self._hang_up)

    def abort(self) -> None:
        self._chunks.clear()
        self._closing = True
        self._stirred.set()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._front.transport is not None:
            self._front.transport.abort()

    async def run(self) -> None:
        """Sends until it is closed and empty, then ends. Raises `ConnectionError`."""
        try:
            while self._chunks or not self._closing:
                await self._stirred.wait()
                self._stirred.clear()
                while self._chunks:
                    await self._send_all()
            await self._socket.close()
        finally:
            if self._linger is not None:
                self._linger.cancel()

    async def _send_all(self) -> None:
        chunks, self._chunks = self._chunks, []
        self._size = 0
        if self._socket.closed:
            raise ConnectionResetError("the WebSocket has ended")
        await self._front.send_message(chunks)
        if self._paused and self._size <= QUEUE_BYTES_LOW and self._carries():
            self._paused = False
            self.link.resume()
