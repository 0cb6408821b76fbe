"""Local ports: each connection to one becomes a stream of its session."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable

from broker.connect.session import Session
from wire.frames import LinkError
from wire.link import Link
from wire.splice import READ_BYTES, SocketTransport, Splice
from wire.stream import Stream

LINK_WAIT_S_MAX = 15.0  # so long a new connection waits for the link
WAITING_MAX = 256
UNSENT_BYTES_MAX = 64 * 1024
_LINGER_NONE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
_ORDINARY = frozenset({"reset"})  # the target's own doing

Refusal = Callable[[str], None]


class NotYet:
    """Takes the place of a stream's user until the stream is there to make the real one."""

    def stream_data(self, data: bytes) -> None:
        """Cannot come: nothing was sent on the stream yet."""

    def stream_finished(self) -> None:
        """Cannot come either."""

    def stream_ended(self, reason: str) -> None:
        """The same."""

    def stream_room(self) -> None:
        """The same."""


class LocalSocket(Splice, asyncio.BufferedProtocol):
    """An accepted connection, joined with a stream."""

    def __init__(self, stream: Stream, buffer: memoryview, on_refusal: Refusal) -> None:
        super().__init__(stream, buffer)
        self._on_refusal = on_refusal

    def attach(self, transport: SocketTransport) -> None:
        """The accepted socket."""
        assert isinstance(transport, asyncio.Transport)
        accepted = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Who stops reading shall hold a window, not megabytes of the kernel's memory.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        super().attach(transport)

    def cut(self, transport: SocketTransport) -> None:
        """It must not seem to end well when the stream did not."""
        assert isinstance(transport, asyncio.Transport)
        _resetting(transport)
        super().cut(transport)

    def stream_ended(self, reason: str) -> None:
        """The stream is gone; unusual reasons are told to the person."""
        super().stream_ended(reason)
        if reason not in _ORDINARY:
            self._on_refusal(reason)


class Caller(asyncio.Protocol):
    """An accepted connection that has no stream yet; nothing is read from it."""

    def __init__(self, port: "LocalPort") -> None:
        self._port = port
        self.transport: asyncio.Transport | None = None
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        self._port.take(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """He has left again."""
        self.gone = True


class LocalPort:
    """Listens for one session."""

    def __init__(
        self, session: Session, tasks: asyncio.TaskGroup, buffer: memoryview, on_refusal: Refusal
    ) -> None:
        self.session = session
        self._tasks: asyncio.TaskGroup = tasks
        self._buffer = buffer
        self._on_refusal = on_refusal
        self._server: asyncio.Server | None = None
        self._waiting: dict[Caller, asyncio.Task[None]] = {}

    async def listen(self, address: str, port: int) -> tuple[str, int]:
        """Where it listens. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Caller(self), address, port)
        where = self._server.sockets[0].getsockname()
        return str(where[0]), int(where[1])

    def close(self) -> None:
        """Listens no more; those who wait are turned away."""
        if self._server is not None:
            self._server.close()
        waiting, self._waiting = self._waiting, {}
        for caller, task in waiting.items():
            task.cancel()
            _turn_away(caller)

    def take(self, caller: Caller) -> None:
        """A connection came."""
        link = self.session.link
        if link is not None:
            self._join(caller, link)
        elif len(self._waiting) >= WAITING_MAX or self.session.over is not None:
            _turn_away(caller)
        else:
            self._waiting[caller] = self._tasks.create_task(self._wait(caller))

    async def _wait(self, caller: Caller) -> None:
        link = await self.session.linked(LINK_WAIT_S_MAX)
        self._waiting.pop(caller, None)
        if link is not None:
            self._join(caller, link)
            return
        _turn_away(caller)
        self._on_refusal("link_lost" if self.session.over is None else "session_over")

    def _join(self, caller: Caller, link: Link) -> None:
        transport = caller.transport
        if transport is None or caller.gone or transport.is_closing():
            return
        try:
            stream = link.open(NotYet())
        except LinkError:
            _turn_away(caller)
            self._on_refusal("busy")
            return
        joined = LocalSocket(stream, self._buffer, self._on_refusal)
        stream.user = joined
        transport.set_protocol(joined)
        # Reading first: the stream may have no room, and then pauses it again.
        transport.resume_reading()
        joined.attach(transport)


def _turn_away(caller: Caller) -> None:
    if caller.transport is not None:
        _resetting(caller.transport)
        caller.transport.abort()


def _resetting(transport: asyncio.Transport) -> None:
    """Its end will be a reset: after a mere end, half a file would pass for a whole one."""
    accepted = transport.get_extra_info("socket")
    if accepted is not None and not transport.is_closing():
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)


def read_buffer() -> memoryview:
    """One for all sockets: what is read is taken out of it at once."""
    return memoryview(bytearray(READ_BYTES))
