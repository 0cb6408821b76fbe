"""A visitor's link over a WebSocket: each of its streams is joined with one of the device's."""

import asyncio
import logging

from aiohttp import WSCloseCode, WSMsgType, web

from broker.relay import web_pages
from broker.relay.errors import StreamRefused, TicketRefused
from broker.relay.joint import Joint
from broker.relay.session import Session
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from broker.relay.web_front import VisitorProtocol
from broker.relay.web_isolation import Host
from wire.frames import HELLO_BYTES_MAX, FrameReader
from wire.heartbeat import WireError
from wire.hello import Answered, Hello, Word, answer_bytes, greeting_of
from wire.link import Link
from wire.stream import Stream
from wire.tickets import Party, Way

HELLO_S = 10.0
MESSAGE_BYTES_MAX = 512 * 1024
SLICE_BYTES = 64 * 1024  # taken at once; then others get their turn
QUEUE_BYTES_HIGH = 128 * 1024
QUEUE_BYTES_LOW = 32 * 1024
CLOSE_S = 5.0
_WEBSOCKET_BYTES = 64  # headers of a few messages
log = logging.getLogger("relay.visitor")


class VisitorLinks:
    """Accepts visitors' links."""

    def __init__(self, desk: TicketDesk, sessions: Sessions) -> None:
        self._desk = desk
        self._sessions = sessions

    async def serve(self, request: web.BaseRequest, host: Host) -> web.StreamResponse:
        """From the handshake to the end of the link."""
        front = request.protocol
        if not isinstance(front, VisitorProtocol):
            raise StreamRefused("busy")
        # Small until a ticket was shown; what is compressed could grow.
        socket = web.WebSocketResponse(
            max_msg_size=MESSAGE_BYTES_MAX, compress=False, autoclose=True, timeout=CLOSE_S
        )
        front.allowance_bytes = HELLO_BYTES_MAX + _WEBSOCKET_BYTES
        try:
            await socket.prepare(request)
        except web.HTTPException:
            front.allowance_bytes = None
            return web_pages.bad_request()
        reader = FrameReader()
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await _hello(socket, reader)
            session = self._admit(hello, host)
        except TicketRefused as error:
            await _refuse(socket, error)
            return socket
        except (WireError, TimeoutError, ConnectionError):
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return socket
        front.allowance_bytes = None
        await VisitorLink(session, socket, reader, front).run()
        return socket

    def _admit(self, hello: Hello, host: Host) -> Session:
        claims = self._desk.admit(
            hello.ticket, party=Party.VISITOR, way=Way.CONNECT, host=host.label
        )
        return self._sessions.enter(claims)


async def _hello(socket: web.WebSocketResponse, reader: FrameReader) -> Hello:
    """Raises `WireError` for anything but a hello with a ticket."""
    while True:
        message = await socket.receive()
        if message.type is not WSMsgType.BINARY:
            raise WireError("hello: not a binary message")
        frame = reader.first(message.data)
        if frame is not None:
            greeting = greeting_of(frame)
            if not isinstance(greeting, Hello):
                raise TicketRefused("relay_restarted")  # a new link needs a new ticket
            return greeting


async def _refuse(socket: web.WebSocketResponse, error: TicketRefused) -> None:
    over = error.code == "session_over"
    reason = error.detail or error.code if over else error.code
    answered = Answered(Word.OVER if over else Word.REFUSED, reason=reason)
    try:
        await socket.send_bytes(answer_bytes(answered))
        await socket.close()
    except ConnectionError:
        pass  # whoever asked has gone


class _Output:
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
        self.link: Link | None = None
        self._paused = False

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._stirred.set()
        if self._size > QUEUE_BYTES_HIGH and not self._paused and self.link is not None:
            self._paused = True
            self.link.pause()

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
        await self._socket.send_bytes(b"".join(chunks))
        if self._paused and self._size <= QUEUE_BYTES_LOW and self.link is not None:
            self._paused = False
            self.link.resume()


class VisitorLink:
    """One admitted link; a guest of its session."""

    def __init__(
        self,
        session: Session,
        socket: web.WebSocketResponse,
        reader: FrameReader,
        front: VisitorProtocol,
    ) -> None:
        self._session = session
        self._socket = socket
        self._address = front.address
        self._tasks: asyncio.TaskGroup | None = None
        self._joining: set[asyncio.Task[None]] = set()  # wait for the device's link
        self._output = _Output(socket, front)
        loop = asyncio.get_running_loop()
        self._link = Link(
            self._output,
            budget=session.visitor_budget(),
            clock=loop.time,
            later=loop.call_later,
            on_end=self._ended,
            on_open=self._opened,
            opens_per_s=session.opens_per_s,
            reader=reader,
        )
        self._output.link = self._link
        self.reason = ""

    async def run(self) -> None:
        """Until the link or its session is over."""
        try:
            self._session.admit_link(self)
        except StreamRefused as error:
            await _refuse(self._socket, TicketRefused(error.reason, error.detail))
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._output.write(answer_bytes(Answered(Word.WELCOME)))
                receiving = tasks.create_task(self._receive(), name="receive")
                self._link.start()
                try:
                    await self._output.run()
                except ConnectionError:
                    self._link.lost()
                for task in (receiving, *self._joining):
                    task.cancel()
        finally:
            self._link.lost()
            self._session.dismiss_link(self)

    def session_ended(self, reason: str) -> None:
        """The visitor's program is told why."""
        self._link.bye(reason)

    async def _receive(self) -> None:
        while not self._link.ended:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                await self._take(message.data)
            elif message.type is WSMsgType.CLOSE:
                self._link.bye("visitor_left")
            else:
                self._link.lost()  # broken, or no link at all

    async def _take(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if start:
                await asyncio.sleep(0)
            self._link.receive(data[start : start + SLICE_BYTES])

    def _ended(self, reason: str) -> None:
        self.reason = reason
        log.info("a visitor's link ended session=%s reason=%s", self._session.id, reason)

    def _opened(self, stream: Stream) -> None:
        joint = Joint()
        joint.accept(stream)
        assert self._tasks is not None
        joining = self._tasks.create_task(self._join(joint, stream), name="join")
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)
        joint.visitor.abandon = joining.cancel

    async def _join(self, joint: Joint, stream: Stream) -> None:
        # The session paces what all its visitors open; the stream's own wait would be a second one.
        try:
            joint.join(await self._session.stream(joint.device, address=self._address))
        except StreamRefused as error:
            joint.refuse(error.reason)
