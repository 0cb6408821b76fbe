"""One connection to a relay: TCP, TLS with the own CA, the hello, and then a link."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from agent.errors import ConnectionFailed
from agent.waiting import until_set
from wire.frames import FrameReader
from wire.heartbeat import WireError
from wire.hello import LINK_NAME, Answered, answered_of
from wire.link import Link

log = logging.getLogger(__name__)

HOST_S_MAX = 10.0  # for TCP, TLS and the relay's answer
CLOSE_S_MAX = 3.0
_UNACKNOWLEDGED_MS_MAX = 15_000
_UNSENT_BYTES_MAX = 128 * 1024  # in the kernel, where nothing can be overtaken any more
_WRITE_BYTES_HIGH = 128 * 1024


class RelayConnection(asyncio.BufferedProtocol):
    """`on_answer` is called with the relay's answer, at once, and may set `link` then.

    What is read goes through `buffer`, which may be lent to others too. Without one, TLS would
    make a large buffer for each read, and the heap would keep their holes.
    """

    def __init__(
        self, buffer: memoryview, on_answer: "Callable[[RelayConnection, Answered], None]"
    ) -> None:
        self._buffer = buffer
        self.reader = FrameReader()
        self.link: Link | None = None
        self._gone = asyncio.Event()
        self._on_answer = on_answer
        self._transport: asyncio.Transport | None = None
        self._error = ""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def transport(self) -> asyncio.Transport:
        """There is one from the moment of the hello."""
        assert self._transport is not None
        return self._transport

    async def greet(
        self, host: str, port: int, *, tls: ssl.SSLContext, hello: Callable[[], bytes]
    ) -> None:
        """Dials, says hello, and waits for the answer. Raises `ConnectionFailed`, `OSError`."""
        await asyncio.get_running_loop().create_connection(
            lambda: self,
            host,
            port,
            ssl=tls,
            server_hostname=LINK_NAME,
            ssl_handshake_timeout=HOST_S_MAX,
            ssl_shutdown_timeout=CLOSE_S_MAX,
        )
        self.transport.write(hello())
        await self._answered
        if self._error:
            raise ConnectionFailed(self._error)

    async def closed(self) -> None:
        """Until it is gone, if it was ever there; at most a few seconds."""
        if self._transport is not None:
            await until_set(self._gone, CLOSE_S_MAX)

    def abort(self) -> None:
        """Ends it at once, if it is there."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is spoken, and the relay has shown its certificate."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BYTES_HIGH)
        plain = transport.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS_MAX)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:
        """For the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of the link, after those of the answer."""
        data = self._buffer[:nbytes]
        if self.link is not None:
            if self.link.carries(self._transport):
                self.link.receive(data)
        elif not self._answered.done():
            self._read_answer(bytes(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._gone.set()
        if self.link is not None and self.link.carries(self._transport):
            self.link.lost()
        self._settle("the relay ended the connection")

    def pause_writing(self) -> None:
        """The network does not keep up."""
        if self.link is not None and self.link.carries(self._transport):
            self.link.pause()

    def resume_writing(self) -> None:
        """It does again."""
        if self.link is not None and self.link.carries(self._transport):
            self.link.resume()

    def _read_answer(self, data: bytes) -> None:
        try:
            frame = self.reader.first(data)
            if frame is None:
                return
            answered = answered_of(frame)
        except WireError as error:
            self._settle(f"the relay's answer was not understood: {error}")
            self.abort()
            return
        self._settle("")
        # What follows the answer may be here already, so the link must be there before it is read.
        self._on_answer(self, answered)

    def _settle(self, error: str) -> None:
        if not self._answered.done():
            self._error = error
            self._answered.set_result(None)


def said_of(error: Exception | None) -> str:
    """The error as people are told it; of certificates the reason is what matters."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
