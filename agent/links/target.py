"""From an accepted stream to its target: the veto, the dialling, and the socket."""

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from agent.links.allow import Address, AllowList
from agent.links.resolver import Resolve
from wire.splice import SocketTransport, Splice
from wire.stream import Stream
from wire.streams import STREAMS_MAX
from wire.targets import Target

log = logging.getLogger(__name__)

REACH_S_MAX = 10.0  # for the name and all its addresses
DIALS_MAX = 64  # at once in one session; the others wait for their turn

# Like the loop's `create_connection` with a literal address. Raises `OSError`.
DialTarget = Callable[
    [Callable[[], asyncio.BaseProtocol], str, int],
    Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]],
]

_BUSY = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EADDRNOTAVAIL,
    }
)
_UNSENT_BYTES_MAX = 64 * 1024
# So that a target sees that a stream was cut, and not that it ended as it should.
_AT_ONCE = struct.pack("ii", 1, 0)


class NotAllowed(Exception):
    """The agent's list does not have the target."""


class TargetSocket(Splice, asyncio.BufferedProtocol):
    """A stream's connection to the target: being dialled, open, or flushing its last bytes."""

    def __init__(
        self, stream: Stream, buffer: memoryview, on_gone: "Callable[[TargetSocket], None]"
    ) -> None:
        super().__init__(stream, buffer)
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self.dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The target answered."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.attach(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self._on_gone(self)

    def stream_ended(self, reason: str) -> None:
        """Nobody wants the connection any more, whether it is there or only being dialled."""
        if self.dialling is not None:
            self.dialling.cancel()
        if self._transport is None:
            self._on_gone(self)
        super().stream_ended(reason)

    def abort(self) -> None:
        """Ends it with what it has not written yet."""
        self.over = True
        if self._transport is not None:
            self.cut(self._transport)

    def cut(self, transport: SocketTransport) -> None:
        """The target sees a reset."""
        assert isinstance(transport, asyncio.Transport)
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.fileno() >= 0:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        super().cut(transport)


class TargetDialler:
    """Joins each stream that a session accepts with a connection to the session's target."""

    def __init__(
        self,
        target: Target,
        *,
        allow: AllowList,
        dial: DialTarget,
        resolve: Resolve,
        buffer: memoryview,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._target = target
        self._allow = allow
        self._dial = dial
        self._resolve = resolve
        self._buffer = buffer
        self._tasks: asyncio.TaskGroup = tasks
        self._turns = asyncio.Semaphore(DIALS_MAX)
        self._sockets: dict[TargetSocket, None] = {}  # the oldest first

    def accept(self, stream: Stream) -> None:
        """The link's `on_open`: bytes that come before the target answers wait in the window."""
        if len(self._sockets) >= STREAMS_MAX and not self._end_lingering():
            stream.refuse("busy")
            return
        target = TargetSocket(stream, self._buffer, self._gone)
        stream.user = target
        self._sockets[target] = None
        name = f"target {self._target} stream {stream.number}"
        target.dialling = self._tasks.create_task(self._join(stream, target), name=name)

    def close(self) -> None:
        """Ends what is left of connections whose streams have ended already."""
        for target in list(self._sockets):
            target.abort()

    def _end_lingering(self) -> bool:
        """Streams are limited by the link, but a slow target keeps a socket beyond its stream."""
        for target in self._sockets:
            if target.stream.ended:
                target.abort()
                del self._sockets[target]
                return True
        return False

    def _gone(self, target: TargetSocket) -> None:
        self._sockets.pop(target, None)

    async def _join(self, stream: Stream, target: TargetSocket) -> None:
        try:
            if stream.wait_s > 0:
                await asyncio.sleep(stream.wait_s)
            async with self._turns:
                await self._reach(target)
        except (NotAllowed, OSError) as error:
            reason = refusal_of(error)
            log.info("target not reached target=%s reason=%s", self._target, reason)
            stream.refuse(reason)
            self._gone(target)
        finally:
            target.dialling = None

    async def _reach(self, target: TargetSocket) -> None:
        """Dials the addresses in turn. Raises `NotAllowed` or `OSError`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + REACH_S_MAX
        async with asyncio.timeout_at(end_s):
            addresses = self._checked(await self._addresses())
        for position, address in enumerate(addresses):
            # Each has its share of what is left, so that a silent one does not hide the next.
            share_s = (end_s - loop.time()) / (len(addresses) - position)
            try:
                async with asyncio.timeout(share_s):
                    await self._dial(lambda: target, str(address), self._target.port)
                return
            except OSError:
                if position == len(addresses) - 1:
                    raise

    async def _addresses(self) -> list[Address]:
        literal = self._target.address
        if literal is not None:
            return [literal]
        found = await self._resolve(self._target.host)
        # An address that needs an interface beside it cannot be told apart from its namesakes.
        return [ip_address(text) for text in found if "%" not in text]

    def _checked(self, addresses: Sequence[Address]) -> list[Address]:
        """Those of the list: what is dialled is what was checked, and no name is asked again."""
        allowed = [one for one in addresses if self._allow.allowed(one, self._target.port)]
        if addresses and not allowed:
            raise NotAllowed
        if not allowed:
            raise OSError(errno.EHOSTUNREACH, "the name has no address")
        return allowed


def refusal_of(error: NotAllowed | OSError) -> str:
    """The word for it that the link knows."""
    if isinstance(error, NotAllowed):
        return "not_allowed"
    if isinstance(error, TimeoutError):
        return "timed_out"
    if isinstance(error, ConnectionError):
        return "refused"
    # A resolver's errors have numbers of their own.
    if not isinstance(error, socket.gaierror) and error.errno in _BUSY:
        return "busy"
    return "unreachable"


async def dial_target(
    protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    """Dials a literal address. Raises `OSError`, or `NotAllowed` if another one answered."""
    loop = asyncio.get_running_loop()
    address = ip_address(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A target that stops reading shall hold its window, not megabytes of the kernel's memory.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
        await loop.sock_connect(plain, (host, port))
        peer = plain.getpeername()
        if ip_address(peer[0]) != address or peer[1] != port:
            raise NotAllowed
        if plain.getsockname() == peer:
            # A port of this device's own that nobody listens at was joined with itself.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        return await loop.create_connection(protocol_factory, sock=plain)
    except BaseException:
        plain.close()
        raise
