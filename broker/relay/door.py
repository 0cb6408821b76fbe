"""The relay's one port: tells TLS from HTTP and links from browsers; bounds who is half-open."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from broker.relay.arrivals import Arrivals
from wire.hello import LINK_NAME

log = logging.getLogger(__name__)

FIRST_BYTE_S_MAX = 5.0
HANDSHAKE_S_MAX = 10.0
# For the hello, or the first request head. A little later than the protocols themselves give up,
# so that they can say why.
HEAD_S_MAX = 10.5
BACKLOG = 1_024
ACCEPTS_AT_ONCE = 64  # then others get their turn
PAUSE_S = 0.5  # when no more sockets can be had
NOTSENT_BYTES = 128 * 1024
_TLS_FIRST_BYTE = 0x16

# Makes the protocol of a connection. `admitted` is to be called when the ticket, or the first
# request head, is there, and when the connection is lost: until then it counts as half-open, and
# in the end the door closes it. `address` is the peer's, without the port.
Factory = Callable[[str, Callable[[], None]], asyncio.BaseProtocol]
LinkFactory = Factory
WebFactory = Factory


class Door:
    """Accepts on sockets that listen already; runs until cancelled.

    `link_context` is for the name `link.fleetgate`, `visitors_context` for all others, which are
    refused in the handshake without it. `plain` admits HTTP without TLS.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        *,
        link_context: ssl.SSLContext,
        visitors_context: ssl.SSLContext | None,
        plain: bool,
        link_factory: LinkFactory,
        web_factory: WebFactory,
        arrivals: Arrivals,
    ) -> None:
        self._listeners = listeners
        self._link_context = link_context
        self._context = _front_context(link_context, visitors_context)
        self._plain = plain
        self._link_factory = link_factory
        self._web_factory = web_factory
        self._arrivals = arrivals
        self._open: set[Arrival] = set()
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Accepts until cancelled; then closes the listeners and whoever is half-open."""
        loop = asyncio.get_running_loop()
        try:
            async with self._group:
                for listener in self._listeners:
                    listener.setblocking(False)
                    loop.add_reader(listener, self._accept, listener)
                try:
                    await loop.create_future()  # until cancelled
                finally:
                    self._close()
        finally:
            for arrival in list(self._open):
                arrival.drop()

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        for arrival in list(self._open):
            arrival.drop()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listener, error)
                return
            sock.setblocking(False)
            _tune(sock)
            arrival = Arrival(self, sock, str(peer[0]).removeprefix("::ffff:"))
            self._open.add(arrival)
            self._arrivals.add(arrival, arrival.address, arrival.drop)
            arrival.start()

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Out of sockets: without a pause the loop would do nothing but fail."""
        log.error("cannot accept error=%s", error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def again() -> None:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

        loop.call_later(PAUSE_S, again)

    # For arrivals

    def hand_over(self, arrival: "Arrival", sock: socket.socket, *, tls: bool) -> None:
        """The first byte has come."""
        if not tls and not self._plain:
            sock.close()
            arrival.done()
            return
        self._group.create_task(self._connect(arrival, sock, tls=tls))

    async def _connect(self, arrival: "Arrival", sock: socket.socket, *, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: Doorman(self, arrival),
                sock,
                ssl=self._context if tls else None,
                ssl_handshake_timeout=HANDSHAKE_S_MAX if tls else None,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            # The transport has closed the socket.
            log.debug("no handshake address=%s error=%s", arrival.address, error)
            arrival.done()
        except Exception:  # one connection must not end the relay
            log.exception("a connection failed address=%s", arrival.address)
            arrival.drop()
            if not arrival.has_transport:
                sock.close()

    def protocol(
        self, transport: asyncio.Transport, address: str, admitted: Callable[[], None]
    ) -> asyncio.BaseProtocol:
        """What takes the connection over, by the name that was asked for."""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.context is self._link_context:
            return self._link_factory(address, admitted)
        return self._web_factory(address, admitted)

    def forget(self, arrival: "Arrival") -> None:
        """It is no longer half-open."""
        self._arrivals.remove(arrival)
        self._open.discard(arrival)


class Arrival:
    """One connection from its acceptance until it has shown whom it is for."""

    def __init__(self, door: Door, sock: socket.socket, address: str) -> None:
        self._door = door
        self._sock = sock
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._over = False
        self.address = address

    @property
    def has_transport(self) -> bool:
        """Whether the handshake was done."""
        return self._transport is not None

    def start(self) -> None:
        """Waits for the first byte."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock, self._peek)
        self._reading = True
        self._timer = loop.call_later(FIRST_BYTE_S_MAX, self.drop)

    def _peek(self) -> None:
        try:
            first = self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self.drop()
            return
        self._stop_waiting()
        self._door.hand_over(self, self._sock, tls=first[0] == _TLS_FIRST_BYTE)

    def connected(self, transport: asyncio.Transport) -> None:
        """The handshake is done."""
        self._transport = transport
        if self._over:
            transport.abort()  # its place was needed meanwhile
            return
        self._timer = asyncio.get_running_loop().call_later(HEAD_S_MAX, self.drop)

    def done(self) -> None:
        """It is admitted, or gone. May be called again."""
        self._over = True
        self._stop_waiting()
        self._door.forget(self)

    def drop(self) -> None:
        """Ends it."""
        if self._over:
            return
        if self._transport is not None:
            self._transport.abort()
        elif self._reading:
            self.done()
            self._sock.close()
        else:
            # In the handshake: nobody but its task may close the socket.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self.done()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._sock)


class Doorman(asyncio.Protocol):
    """Sees the end of the handshake, and lets the right protocol take over."""

    def __init__(self, door: Door, arrival: Arrival) -> None:
        self._door = door
        self._arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        self._arrival.connected(made)
        if made.is_closing():
            return
        protocol = self._door.protocol(made, self._arrival.address, self._arrival.done)
        made.set_protocol(protocol)
        protocol.connection_made(made)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrival.done()


def _tune(sock: socket.socket) -> None:
    with suppress(OSError):  # gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)


def _front_context(link: ssl.SSLContext, visitors: ssl.SSLContext | None) -> ssl.SSLContext:
    """The context that sees the name first and gives the connection to the right one."""
    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if visitors is None else visitors
    front.minimum_version = ssl.TLSVersion.TLSv1_2

    def chosen(
        tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        if name == LINK_NAME:
            tls.context = link
            return None
        if visitors is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        return None

    front.sni_callback = chosen
    return front


def server_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """A certificate of ours. Raises `OSError` or `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate_file, key_file)
    return context
