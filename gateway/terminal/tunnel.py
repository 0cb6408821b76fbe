"""A visitor's side of a session's link: a socket here that ends at the session's target."""

import asyncio
import logging
import secrets
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from gateway.operations.session_access import RelayShown, Ticket
from wire.budget import SESSION_BYTES, Budget
from wire.frames import PAYLOAD_BYTES_MAX, FrameReader, LinkError
from wire.heartbeat import WireError
from wire.hello import SECRET_BYTES, Hello, Word, answered_of, hello_bytes
from wire.link import Link
from wire.splice import Splice

log = logging.getLogger(__name__)

LINK_PATH = "/.fleetgate/link"
DIAL_S_MAX = 15.0
BYE_S_MAX = 2.0  # for a relay to take the goodbye
UPGRADED = 101
MESSAGE_BYTES_MAX = 512 * 1024
WAITING_BYTES_HIGH = 128 * 1024
WAITING_BYTES_LOW = 32 * 1024


class TunnelFailed(Exception):
    """The target was not reached; the text is a reason of the link's, or what went wrong."""


class _Relay(AbstractResolver):
    """Leads the session's own name to the hosts that the ticket names."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts
        self._others = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of all hosts, in their order; one that is not known does not matter."""
        found: list[ResolveResult] = []
        failed = OSError("the relay has no host")
        for one in self._hosts:
            try:
                found += await self._others.resolve(one, port, family)
            except OSError as error:
                failed = error
        if not found:
            raise failed
        return [ResolveResult(**{**one, "hostname": host}) for one in found]

    async def close(self) -> None:
        """Nothing is kept."""
        await self._others.close()


class _Wire:
    """What the link writes to: messages of the WebSocket, of which few wait."""

    def __init__(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self._opened = opened
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._work = asyncio.Event()
        self._closing = False
        self.link: Link | None = None

    def write(self, data: bytes) -> None:
        """Queues one message; the link pauses when too much waits."""
        self._waiting.append(data)
        self._bytes += len(data)
        self._work.set()
        if self._bytes > WAITING_BYTES_HIGH and self.link is not None:
            self.link.pause()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or self._opened.closed

    def close(self) -> None:
        """Ends it after what was written."""
        self._closing = True
        self._work.set()

    def abort(self) -> None:
        """Ends it at once."""
        self._waiting.clear()
        self.close()

    async def send_all(self) -> None:
        """Sends what is written until it is closed."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                try:
                    await self._opened.send_bytes(data)
                except (ConnectionError, aiohttp.ClientError):
                    return  # `_receive` tells the link
                self._bytes -= len(data)
                if self._bytes < WAITING_BYTES_LOW and self.link is not None:
                    self.link.resume()
            if self._closing:
                await self._opened.close()
                return
            self._work.clear()
            await self._work.wait()


class _Spliced(Splice, asyncio.BufferedProtocol):
    """The near end of a socket pair, joined with a stream."""

    reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        assert isinstance(transport, asyncio.Transport)
        self.attach(transport)

    def stream_ended(self, reason: str) -> None:
        """The stream is gone; why is for whoever asks."""
        self.reason = reason
        super().stream_ended(reason)


class _Nobody:
    """Takes the place of a stream's user until the stream is there to make the real one."""

    def stream_data(self, data: bytes) -> None:
        """Cannot come: nothing was sent on the stream yet."""

    def stream_finished(self) -> None:
        """Cannot come either."""

    def stream_ended(self, reason: str) -> None:
        """The same."""

    def stream_room(self) -> None:
        """The same."""


class Tunnel:
    """A link that is up; each `connect` is a connection to the session's target."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._buffer = memoryview(bytearray(PAYLOAD_BYTES_MAX))  # one for each terminal
        self._last: _Spliced | None = None

    async def connect(self) -> socket.socket:
        """A socket whose other end is the target. Raises `TunnelFailed`."""
        if self._link.ended:
            raise TunnelFailed("link_lost")
        try:
            near, far = socket.socketpair()
        except OSError as error:
            raise TunnelFailed("busy") from error
        try:
            stream = self._link.open(_Nobody())
            spliced = _Spliced(stream, self._buffer)
            stream.user = spliced
            self._last = spliced
            near.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: spliced, near)
        except LinkError as error:
            near.close()
            far.close()
            raise TunnelFailed("busy") from error
        except BaseException:
            near.close()
            far.close()
            raise
        return far

    @property
    def reason(self) -> str:
        """Why the last connection ended, if the link said."""
        return "" if self._last is None else self._last.reason


@asynccontextmanager
async def tunnel(
    ticket: Ticket, context: ssl.SSLContext, tasks: asyncio.TaskGroup
) -> AsyncIterator[Tunnel]:
    """The link of a session, for as long as the block lasts; `tasks` owns what carries its bytes.

    Raises `TunnelFailed`.
    """
    relay = ticket.relay
    assert relay is not None
    connector = aiohttp.TCPConnector(resolver=_Relay(relay.hosts), ssl=context, force_close=True)
    async with aiohttp.ClientSession(connector=connector, middlewares=(_straight,)) as client:
        opened = await _opened(client, relay)
        wire = _Wire(opened)
        try:
            link = await _greeted(opened, wire, ticket.ticket)
            sending = tasks.create_task(wire.send_all(), name="terminal-send")
            receiving = tasks.create_task(_receive(opened, link), name="terminal-receive")
            try:
                yield Tunnel(link)
            finally:
                link.bye("closed")
                # The relay hears of the end, and gives its place to somebody else.
                await asyncio.wait((sending,), timeout=BYE_S_MAX)
                sending.cancel()
                receiving.cancel()
        finally:
            await opened.close()


async def _straight(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A relay sends nobody elsewhere: that could be a machine beside this one."""
    response = await handler(request)
    if response.status != UPGRADED:
        response.close()
        raise aiohttp.ClientError(f"status {response.status}")
    return response


async def _opened(
    client: aiohttp.ClientSession, relay: RelayShown
) -> aiohttp.ClientWebSocketResponse:
    scheme = "wss" if relay.tls else "ws"
    try:
        async with asyncio.timeout(DIAL_S_MAX):
            return await client.ws_connect(
                f"{scheme}://{relay.name}:{relay.port}{LINK_PATH}",
                max_msg_size=MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=BYE_S_MAX),
            )
    except (TimeoutError, OSError, aiohttp.ClientError) as error:
        log.info("a terminal did not reach its relay: %s", error)
        raise TunnelFailed("relay_away") from error


async def _greeted(opened: aiohttp.ClientWebSocketResponse, wire: _Wire, ticket: str) -> Link:
    """Says the hello, and makes the link of what answers. Raises `TunnelFailed`."""
    hello = Hello(ticket, secrets.token_bytes(SECRET_BYTES))
    reader = FrameReader()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DIAL_S_MAX):
            await opened.send_bytes(hello_bytes(hello))
            first = None
            while first is None:
                first = reader.first(await opened.receive_bytes())
        answered = answered_of(first)
    except (TimeoutError, OSError, WireError, TypeError, aiohttp.ClientError) as error:
        log.info("a terminal's relay hung up error=%s", type(error).__name__)
        raise TunnelFailed("relay_away") from error
    if answered.word is not Word.WELCOME:
        raise TunnelFailed(answered.reason or answered.word.value)
    link = Link(
        wire,
        budget=Budget(SESSION_BYTES),
        clock=loop.time,
        later=loop.call_later,
        on_end=lambda _reason: wire.close(),
        reader=reader,
    )
    wire.link = link
    link.start()
    return link


async def _receive(opened: aiohttp.ClientWebSocketResponse, link: Link) -> None:
    """Hands what comes to the link; its windows say how much that can be."""
    try:
        async for message in opened:
            if message.type is aiohttp.WSMsgType.BINARY:
                link.receive(message.data)
    finally:
        link.lost()
