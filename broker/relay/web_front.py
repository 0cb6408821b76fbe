"""The first to read a browser's bytes: bounds the time and the size of each request's head."""

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_protocol import RequestHandler

from broker.relay import web_pages

HEAD_S = 10.0
HEAD_BYTES_MAX = 16 * 1024  # with a valid cookie; without one the door allows less
KEEP_ALIVE_S = 75.0
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BINARY = 0x82  # a whole binary message (RFC 6455, 5.2)
_SHORT, _LONG = struct.Struct("!BBH"), struct.Struct("!BBQ")
log = logging.getLogger("relay.web")


class _Silent(AbstractAccessLogger):
    """Paths of tunnelled pages are the customer's; nobody logs them."""

    @property
    def enabled(self) -> bool:
        return False

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        pass


class VisitorProtocol(RequestHandler):
    """aiohttp's own, which waits for ever for the end of a head, with limits before it."""

    __slots__ = ("_admitted", "_head_bytes", "_head_timer", "address", "allowance_bytes")

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        address: str,
        admitted: Callable[[], None],
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEP_ALIVE_S,
            access_log_class=_Silent,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            auto_decompress=False,
            logger=log,
        )
        self.address = address
        # How much a visitor's link may still send before it is known; None: as much as it likes.
        self.allowance_bytes: int | None = None
        self._admitted = admitted
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self._admitted()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.allowance_bytes is not None:
            self.allowance_bytes -= len(data)
            if self.allowance_bytes < 0:
                self._give_up(b"")
                return
        heads = self._request_count
        in_head = not heads or (self._waiter is not None and not self._waiter.done())
        super().data_received(data)
        if not in_head:
            return
        if self._request_count != heads:
            self._stop_timer()
            self._admitted()
        elif data:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._give_up(_TOO_LONG)
            elif self._head_timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._head_timer = self._loop.call_later(HEAD_S, self._give_up, _TOO_SLOW)

    def _stop_timer(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self, answer: bytes) -> None:
        begun = self._head_bytes > 0
        self._stop_timer()
        if self.transport is not None:
            if begun:
                self.transport.write(answer)
            self.force_close()

    def take_over(self, protocol: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """The connection becomes something else than HTTP; what came behind the request with it.

        The new owner calls this protocol's `connection_lost` in the end.
        """
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the visitor has gone")
        tail, self._message_tail = self._message_tail, b""
        transport.set_protocol(protocol)
        return transport, tail

    async def send_message(self, chunks: Sequence[bytes]) -> None:
        """A WebSocket's binary message, by one write: aiohttp sends the head of a long one alone.

        Raises `ConnectionError`.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the visitor has gone")
        transport.write(b"".join((_message_head(sum(map(len, chunks))), *chunks)))
        await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A few words instead of aiohttp's page; what a visitor's bytes caused is not logged."""
        if status >= 500:
            log.error("a request failed error=%r", exc, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = web_pages.bad_request()
        if status >= 500:
            response = web_pages.failed()
        response.force_close()
        return response


def _message_head(size: int) -> bytes:
    """A server's, so without a mask."""
    if size < 126:
        return bytes((_BINARY, size))
    if size < 1 << 16:
        return _SHORT.pack(_BINARY, 126, size)
    return _LONG.pack(_BINARY, 127, size)


class Relayed(web.StreamResponse):
    """An answer that was written already, byte for byte; aiohttp has only to go on after it."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> Any:
        return request.writer

    async def write_eof(self, data: Any = b"") -> None:
        pass
