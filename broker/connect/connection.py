"""One connection to a relay: TCP or TLS, the WebSocket in it, the hello, then the link."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from broker.connect import websocket, words
from broker.connect.websocket import Opcode, WebSocketError
from wire.frames import FrameReader
from wire.heartbeat import WireError
from wire.hello import Answered, answered_of
from wire.link import Link
from wire.transport import Transport

LINK_PATH = "/.fleetgate/link"
DIAL_S_MAX = 10.0  # for one host: address, TCP, TLS, WebSocket and hello together
WRITE_BYTES_HIGH = 128 * 1024
NOTSENT_BYTES = 128 * 1024
PONG_BACKLOG_BYTES_MAX = 1024 * 1024  # a relay that asks and does not read
_WRONG_NAME = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_HEAD_END = b"\r\n\r\n"


class DialFailed(Exception):
    """A relay was not reached; the text says why."""


class CertificateWrong(DialFailed):
    """Somebody answered who cannot show that he is the relay."""


class Relay(NamedTuple):
    """Where a session's relay is; `name` is the session's own host name."""

    hosts: tuple[str, ...]
    port: int
    tls: bool
    name: str


# Makes the first frame, at the moment in which it is sent; it may raise `NotNeeded`.
MakeHello = Callable[[], bytes]
# Hears the relay's answer, and says which link goes on over this connection: none, if refused.
TakeAnswer = Callable[[Answered, Transport, FrameReader], Link | None]


class NotNeeded(Exception):
    """The connection before this one lives."""


class Connection(asyncio.Protocol):
    """Asks for the WebSocket, sends the hello, and is then the transport of the link."""

    def __init__(
        self,
        host: str,
        make_hello: MakeHello,
        take_answer: TakeAnswer,
        answered: asyncio.Future[Answered],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._host = host
        self._make_hello = make_hello
        self._take_answer = take_answer
        self._answered = answered
        self._random_bytes = random_bytes
        self._key = websocket.key_text(random_bytes(websocket.KEY_BYTES))
        self._head: bytes | None = b""  # None once it is read
        self._pieces = websocket.Reader()
        self._frames = FrameReader()
        self._socket: asyncio.Transport | None = None
        self._link: Link | None = None

    @property
    def link(self) -> Link | None:
        """The link that it carries; None before, and once the link has gone to another."""
        return self._link if self._link is not None and self._link.carries(self) else None

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The relay is reached, and with TLS it is the right one."""
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        _tune(transport.get_extra_info("socket"))
        transport.write(websocket.request(self._host, LINK_PATH, self._key))

    def data_received(self, data: bytes) -> None:
        """Bytes came. A relay that breaks the rules ends the connection."""
        try:
            if self._head is not None:
                data = self._take_head(self._head + data)
            for piece in self._pieces.feed(data):
                self._take(piece)
        except NotNeeded as reason:
            self._answered.set_exception(reason)
            self.abort()
        except (WebSocketError, WireError) as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if not self._answered.done():
            said = words.of_os_error(exc) if isinstance(exc, OSError) else "it hung up"
            self._answered.set_exception(DialFailed(said))
        if self.link is not None:
            self.link.lost()

    def pause_writing(self) -> None:
        """The socket does not keep up."""
        if self.link is not None:
            self.link.pause()

    def resume_writing(self) -> None:
        """It does again."""
        if self.link is not None:
            self.link.resume()

    # For the link

    def write(self, data: bytes) -> None:
        """Sends one message."""
        assert self._socket is not None
        mask = self._random_bytes(websocket.MASK_BYTES)
        self._socket.write(websocket.frame(Opcode.BINARY, data, mask))

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._socket is None or self._socket.is_closing()

    def close(self) -> None:
        """Ends the WebSocket and the connection after what was written."""
        if self._socket is not None and not self._socket.is_closing():
            mask = self._random_bytes(websocket.MASK_BYTES)
            self._socket.write(websocket.close_frame(websocket.CLOSE_NORMAL, mask))
            self._socket.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._socket is not None:
            self._socket.abort()

    # Inside

    def _take_head(self, data: bytes) -> bytes:
        """The answer to the request; gives back what follows it."""
        head, found, rest = data.partition(_HEAD_END)
        if len(head) > websocket.HEAD_BYTES_MAX:
            raise WebSocketError("upgrade: too long an answer")
        if not found:
            self._head = data
            return b""
        websocket.check_answer(head, self._key)
        self._head = None
        self.write(self._make_hello())
        return rest

    def _take(self, piece: websocket.Piece) -> None:
        if piece.opcode == Opcode.BINARY:
            if self._link is not None:
                if self._link.carries(self):
                    self._link.receive(piece.payload)
            else:
                self._take_hello(piece.payload)
        elif piece.opcode == Opcode.PING:
            self._pong(piece.payload)
        elif piece.opcode == Opcode.CLOSE:
            self.close()

    def _take_hello(self, data: bytes) -> None:
        if self._answered.done():
            return  # refused: what follows does not matter
        first = self._frames.first(data)
        if first is None:
            return
        answered = answered_of(first)
        # At once: what came behind the answer is the link's already.
        self._link = self._take_answer(answered, self, self._frames)
        if self._link is not None:
            self._link.start()
        self._answered.set_result(answered)

    def _pong(self, payload: bytes) -> None:
        assert self._socket is not None
        if self._socket.get_write_buffer_size() > PONG_BACKLOG_BYTES_MAX:
            raise WebSocketError("pings without end")
        mask = self._random_bytes(websocket.MASK_BYTES)
        self._socket.write(websocket.frame(Opcode.PONG, payload, mask))

    def _fail(self, error: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(DialFailed(_explanation(error)))
        if self.link is not None:
            self.link.lost("link_broken")
        self.abort()


def _tune(connected: socket.socket | None) -> None:
    """Small frames at once, and no more in the kernel than the path needs."""
    if connected is None:
        return
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on every system that a laptop runs
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)


def _explanation(error: Exception) -> str:
    if isinstance(error, websocket.NotUpgraded):
        if error.status in (404, 421):
            return f"it does not serve this session's name (answer {error.status})"
        return f"it answered {error.status} instead of a WebSocket; is a proxy in between?"
    return str(error)


def _cure(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _WRONG_NAME:
        return "It has to be for every name in the relay's domain."
    return "Name the CA's file with --ca."


async def dial(
    relay: Relay,
    make_hello: MakeHello,
    take_answer: TakeAnswer,
    *,
    context: ssl.SSLContext | None,
    random_bytes: Callable[[int], bytes],
) -> Answered:
    """Tries the relay's hosts in turn; the first answer counts.

    Raises `DialFailed`, and `NotNeeded` where `make_hello` does.
    """
    failures: list[DialFailed] = []
    for host in relay.hosts:
        try:
            return await _dial_host(host, relay, make_hello, take_answer, context, random_bytes)
        except DialFailed as error:
            failures.append(error)
    for failure in failures:
        if isinstance(failure, CertificateWrong):
            raise failure
    raise failures[-1] if failures else DialFailed("the gateway named no host of the relay")


async def _dial_host(
    host: str,
    relay: Relay,
    make_hello: MakeHello,
    take_answer: TakeAnswer,
    context: ssl.SSLContext | None,
    random_bytes: Callable[[int], bytes],
) -> Answered:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Answered] = loop.create_future()
    usual = 443 if relay.tls else 80
    named = relay.name if relay.port == usual else f"{relay.name}:{relay.port}"
    connection = Connection(named, make_hello, take_answer, answered, random_bytes)
    where = f"relay {host}:{relay.port}"
    done = False
    try:
        async with asyncio.timeout(DIAL_S_MAX):
            await loop.create_connection(
                lambda: connection,
                host,
                relay.port,
                ssl=context if relay.tls else None,
                server_hostname=relay.name if relay.tls else None,
            )
            result = await answered
            done = connection.link is not None
            return result
    except ssl.SSLCertVerificationError as error:
        raise CertificateWrong(
            f"{where}: its certificate was not accepted for {relay.name} "
            f"({words.clean(error.verify_message)}). {_cure(error)}"
        ) from error
    except TimeoutError as error:
        raise DialFailed(f"{where}: no answer within {DIAL_S_MAX:.0f} s") from error
    except OSError as error:
        raise DialFailed(f"{where}: {words.of_os_error(error)}") from error
    except DialFailed as error:
        raise DialFailed(f"{where}: {error}") from error
    finally:
        if not done:
            connection.abort()
            if not answered.cancel() and not answered.cancelled():
                answered.exception()  # seen; nobody waits for it any more
