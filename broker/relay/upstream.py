"""HTTP connections to one session's target: streams of its link, kept alive between requests.

aiohttp's client protocol parses the answers; requests are written as bytes, since its client would
spell paths and headers anew.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from broker.relay.answers import INTERIM_MAX, AnswerReader
from broker.relay.errors import StreamRefused
from broker.relay.stream_transport import StreamLost, StreamTransport
from wire.stream import Stream, User

CONNECTIONS_MAX = 32  # in use by requests; those that became WebSockets do not count
IDLE_MAX = CONNECTIONS_MAX
IDLE_S = 15.0
WAIT_S = 30.0  # for one of the connections
HANDSHAKE_S = 15.0
ANSWER_S_MAX = 300.0  # for the head of an answer; what follows may take as long as it likes
SHUTDOWN_S = 2.0
GOODBYE_S = 5.0  # for visitors to read what was sent, when a session is over
LINE_BYTES_MAX = 32 * 1024
HEADERS_MAX = 256
_LEGACY_SERVER_CONNECT = 0x4  # OpenSSL's SSL_OP_LEGACY_SERVER_CONNECT, named by Python from 3.12

OpenStream = Callable[[User], Awaitable[Stream]]


def device_tls_context() -> ssl.SSLContext:
    """TLS towards machines in a device's own network, which mostly made their certificates.

    Nobody vouches for an address such as 192.168.1.1, so no certificate is checked: the way there
    is protected by the link, and the rest of it is the device's own network. Old machines speak
    old TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.options |= _LEGACY_SERVER_CONNECT
    return context


class Connection:
    """One connection, lent to one request at a time."""

    def __init__(self, protocol: AnswerReader, stream: StreamTransport, *, used: bool) -> None:
        self.protocol = protocol
        self.stream = stream
        self.visitor: asyncio.Transport | None = None  # gets an answer from it just now
        self.used = used  # an earlier request was answered: the target may have given it up since

    def expect(self, method: str) -> None:
        """The next answer is to this method."""
        self.protocol.asked()
        self.protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )

    def write(self, data: bytes) -> None:
        """Raises `ConnectionError` when it is gone."""
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection to the target is gone")
        transport.write(data)

    async def drain(self) -> None:
        """Waits until the target takes more."""
        await self.protocol._drain_helper()

    async def answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """The head of the answer, and its body to be read. Raises `StreamRefused`.

        Answers before the answer (100, 103) are for this hop and left out.
        """
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                for _ in range(INTERIM_MAX + 1):
                    message, body = await self.protocol.read()
                    if message.code == 101 or message.code >= 200:
                        self.protocol.answered()
                        return message, body
                    if message.code < 100:
                        break
                raise StreamRefused("bad_answer")
        except TimeoutError as error:
            raise StreamRefused("timed_out") from error
        except HttpProcessingError as error:
            raise StreamRefused("bad_answer") from error
        except (OSError, ClientError) as error:
            raise StreamRefused(self.why_lost()) from error

    def why_lost(self) -> str:
        """As far as the link said; the target itself says nothing when it hangs up."""
        reason = self.stream.reason
        return "closed_early" if reason in ("", "reset") else reason

    def switch(self, protocol: asyncio.BaseProtocol) -> bytes:
        """Another protocol takes over after a 101; what came behind it already."""
        assert self.protocol.transport is not None
        tail, self.protocol._tail = self.protocol._tail, b""
        self.protocol.transport.set_protocol(protocol)
        return tail

    def hang_up(self) -> None:
        """A visitor who has not read the answer's last words by now never will."""
        if self.visitor is not None:
            self.visitor.abort()

    def abort(self) -> None:
        """It is not to be used again."""
        transport = self.protocol.transport
        if transport is not None:
            transport.abort()
        self.stream.abort()


class Upstream:
    """The connections of one session to its target; `here` says whether its device is."""

    def __init__(
        self,
        open_stream: OpenStream,
        *,
        here: Callable[[], bool],
        tls: ssl.SSLContext | None,
        server_name: str,
    ) -> None:
        self._open_stream = open_stream
        self._here = here
        self._tls = tls
        self._server_name = server_name
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[Connection, float]] = deque()  # and since when
        self._lent: set[Connection] = set()
        self._asking = 0
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def unused(self) -> bool:
        """Whether it holds no connection."""
        return not self._idle and not self._lent and not self._asking

    async def connect(self, *, idle_s_max: float = IDLE_S) -> Connection:
        """A connection for one request, to be given back. Raises `StreamRefused`.

        It is a new one, or one that was used so short a time ago.
        """
        self._asking += 1
        try:
            await self._turn()
            try:
                connection = self._kept(idle_s_max) or await self._new()
                if self._closed:
                    connection.abort()
                    raise StreamRefused("session_over")
            except BaseException:
                self._turns.release()
                raise
        finally:
            self._asking -= 1
        self._lent.add(connection)
        return connection

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StreamRefused("busy") from error

    def give_back(self, connection: Connection) -> None:
        """The request is over; what cannot serve another is closed."""
        if connection not in self._lent:
            return
        self._forget(connection)
        protocol = connection.protocol
        if self._closed or protocol.should_close or not protocol.is_connected():
            connection.abort()
            return
        connection.used = True
        protocol.rest()
        self._idle.append((connection, self._loop.time()))
        if len(self._idle) > IDLE_MAX:
            self._idle.popleft()[0].protocol.close()
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_S, self._close_idle)

    def detach(self, connection: Connection) -> None:
        """It has become something else than HTTP and is its taker's business."""
        if connection in self._lent:
            self._forget(connection)

    def close(self) -> None:
        """The session is over, or nobody is left who asks."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection, _ in self._idle:
            connection.abort()
        for connection in self._lent:
            connection.abort()
            self._loop.call_later(GOODBYE_S, connection.hang_up)
        self._idle.clear()

    def _forget(self, connection: Connection) -> None:
        connection.visitor = None
        self._lent.discard(connection)
        self._turns.release()

    def _kept(self, idle_s_max: float) -> Connection | None:
        if not self._here():
            return None  # a new stream waits for the device too, but not as long as an open one
        now_s = self._loop.time()
        while self._idle and now_s - self._idle[-1][1] < idle_s_max:
            connection, _ = self._idle.pop()
            protocol = connection.protocol
            if protocol.is_connected() and not protocol.should_close:
                return connection
            connection.abort()
        return None

    def _close_idle(self) -> None:
        self._sweep = None
        now_s = self._loop.time()
        while self._idle and now_s - self._idle[0][1] >= IDLE_S - 0.1:
            self._idle.popleft()[0].protocol.close()
        if self._idle:
            left_s = IDLE_S - (now_s - self._idle[0][1])
            self._sweep = self._loop.call_later(left_s, self._close_idle)

    async def _new(self) -> Connection:
        protocol = AnswerReader(self._loop)
        stream = StreamTransport(self._loop, protocol)
        try:
            stream.attach(await self._open_stream(stream))
            if self._tls is not None:
                await self._start_tls(protocol, stream, self._tls)
        except BaseException:
            stream.abort()
            raise
        return Connection(protocol, stream, used=False)

    async def _start_tls(
        self, protocol: AnswerReader, stream: StreamTransport, tls: ssl.SSLContext
    ) -> None:
        try:
            transport = await self._loop.start_tls(
                stream,
                protocol,
                tls,
                server_hostname=self._server_name,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except StreamLost as error:
            raise StreamRefused(error.reason) from error
        except ssl.SSLError as error:
            raise StreamRefused("no_tls") from error
        except (OSError, ClientError) as error:
            raise StreamRefused(stream.reason or "no_tls") from error
        if transport is None or transport.is_closing():
            raise StreamRefused(stream.reason or "closed_early")
        protocol.transport = transport
