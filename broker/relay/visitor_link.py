"""A visitor's link over WebSockets: each of its streams is joined with one of the device's."""

import asyncio
import logging

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from broker.relay import web_pages
from broker.relay.errors import StreamRefused, TicketRefused
from broker.relay.joint import Joint
from broker.relay.session import Session
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from broker.relay.visitor_output import CLOSE_S, Output
from broker.relay.web_front import VisitorProtocol
from broker.relay.web_isolation import Host
from wire.frames import HELLO_BYTES_MAX, FrameReader, LinkError
from wire.heartbeat import WireError
from wire.hello import FORGOTTEN, Answered, Hello, Resume, Word, answer_bytes, greeting_of
from wire.link import Link
from wire.resuming import Keeper
from wire.stream import Stream
from wire.tickets import Party, Way

HELLO_S = 10.0
MESSAGE_BYTES_MAX = 512 * 1024
SLICE_BYTES = 64 * 1024  # taken at once; then others get their turn
_WEBSOCKET_BYTES = 64  # headers of a few messages
log = logging.getLogger("relay.visitor")


class VisitorLinks:
    """Accepts visitors' links. What they wait for lives in `tasks`, as the links themselves do."""

    def __init__(self, desk: TicketDesk, sessions: Sessions, tasks: asyncio.TaskGroup) -> None:
        self._desk = desk
        self._sessions = sessions
        self._tasks: asyncio.TaskGroup = tasks

    async def serve(self, request: web.BaseRequest, host: Host) -> web.StreamResponse:
        """From the handshake to the end of the connection, which the link may outlive."""
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
        output = Output(socket, front)
        try:
            async with asyncio.timeout(HELLO_S):
                greeting = await _greeting(socket, reader)
            if isinstance(greeting, Hello):
                visitor, answered = self._admit(greeting, host, front.address, output, reader)
            else:
                visitor, answered = self._resume(greeting, host, output, reader)
        except _TurnedAway as error:
            await _say(socket, error.answered)
            return socket
        except TicketRefused as error:
            await _say(socket, _refused(error))
            return socket
        except StreamRefused as error:
            await _say(socket, _refused(TicketRefused(error.reason, error.detail)))
            return socket
        except (WireError, TimeoutError, ConnectionError):
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return socket
        front.allowance_bytes = None
        await visitor.carried(socket, output, answered)
        return socket

    def _admit(
        self, hello: Hello, host: Host, address: str, output: Output, reader: FrameReader
    ) -> "tuple[VisitorLink, Answered]":
        """Raises `TicketRefused`, `StreamRefused`."""
        claims = self._desk.admit(
            hello.ticket, party=Party.VISITOR, way=Way.CONNECT, host=host.label
        )
        session = self._sessions.enter(claims)
        visitor = VisitorLink(session, Keeper(hello.secret), address, self._tasks)
        session.admit_link(visitor)
        visitor.begin(output, reader)
        return visitor, Answered(Word.WELCOME)

    def _resume(
        self, resume: Resume, host: Host, output: Output, reader: FrameReader
    ) -> "tuple[VisitorLink, Answered]":
        """Raises `_TurnedAway`. A link that is not kept any more needs a new ticket."""
        session = self._sessions.by_host(host.label)
        if session is None or session.id != resume.session:
            reason = self._sessions.over(resume.session)
            raise _TurnedAway(Answered(Word.OVER if reason else Word.UNKNOWN, reason=reason))
        for visitor in session.callers():
            if isinstance(visitor, VisitorLink) and visitor.keeper.knows(resume):
                refused = visitor.keeper.fence(resume)
                if refused is not None:
                    raise _TurnedAway(refused)
                return visitor, visitor.go_on(output, reader, resume.received)
        raise _TurnedAway(Answered(Word.UNKNOWN))


class _TurnedAway(Exception):
    def __init__(self, answered: Answered) -> None:
        super().__init__(answered.word)
        self.answered = answered


async def _greeting(socket: web.WebSocketResponse, reader: FrameReader) -> Hello | Resume:
    """Raises `WireError`."""
    while True:
        message = await socket.receive()
        if message.type is not WSMsgType.BINARY:
            raise WireError("hello: not a binary message")
        frame = reader.first(message.data)
        if frame is not None:
            return greeting_of(frame)


def _refused(error: TicketRefused) -> Answered:
    over = error.code == "session_over"
    reason = error.detail or error.code if over else error.code
    return Answered(Word.OVER if over else Word.REFUSED, reason=reason)


async def _say(socket: web.WebSocketResponse, answered: Answered) -> None:
    try:
        await socket.send_bytes(answer_bytes(answered))
        await socket.close()
    except ConnectionError:
        pass  # whoever asked has gone


class VisitorLink:
    """One admitted link; a guest of its session. It waits where it has no connection."""

    def __init__(
        self, session: Session, keeper: Keeper, address: str, tasks: asyncio.TaskGroup
    ) -> None:
        self.keeper = keeper
        self._session = session
        self._address = address
        self._tasks: asyncio.TaskGroup = tasks
        self._joining: set[asyncio.Task[None]] = set()  # wait for the device's link
        self._budget = session.visitor_budget()
        self._link: Link
        self._output: Output

    def begin(self, output: Output, reader: FrameReader) -> None:
        """A new channel."""
        loop = asyncio.get_running_loop()

        def lost(reason: str) -> None:
            log.info("a visitor's link is away session=%s reason=%s", self._session.id, reason)
            self._session.keep(link, lambda: link.held_bytes + self._budget.used)

        def ended(reason: str) -> None:
            log.info("a visitor's link ended session=%s reason=%s", self._session.id, reason)
            self._session.keep_no_more(link)
            if self._link is link:
                for task in self._joining:
                    task.cancel()
                self._session.dismiss_link(self)

        link = Link(
            output,
            budget=self._budget,
            clock=loop.time,
            later=loop.call_later,
            on_end=ended,
            on_open=self._opened,
            on_loss=lost,
            opens_per_s=self._session.opens_per_s,
            reader=reader,
        )
        self._link, self._output = link, output
        output.link = link

    def go_on(self, output: Output, reader: FrameReader, count: int) -> Answered:
        """Over another connection; the old one is closed first, unread."""
        link = self._link
        taken = link.detach()
        if count != FORGOTTEN:
            try:
                link.attach(output, reader, count)
            except LinkError as error:
                log.warning("a link cannot go on session=%s error=%s", self._session.id, error)
            else:
                self._session.keep_no_more(link)
                self._output, output.link = output, link
                return Answered(Word.RESUMED, taken)
        self.begin(output, reader)
        link.end("link_replaced")
        return Answered(Word.FRESH)

    async def carried(
        self, socket: web.WebSocketResponse, output: Output, answered: Answered
    ) -> None:
        """By this connection, until it is lost."""
        link = output.link
        try:
            async with asyncio.TaskGroup() as tasks:
                output.write(answer_bytes(answered))
                receiving = tasks.create_task(_receive(socket, output), name="receive")
                link.start()
                try:
                    await output.run()
                except ConnectionError:
                    pass  # told below
                receiving.cancel()
        finally:
            if link.carries(output):
                link.lost()

    @property
    def away(self) -> bool:
        """Whether it has no connection at present."""
        return not self._link.attached

    def session_ended(self, reason: str) -> None:
        """The visitor's program is told why."""
        self._link.bye(reason)

    def _opened(self, stream: Stream) -> None:
        joint = Joint()
        joint.accept(stream)
        joining = self._tasks.create_task(self._join(joint), name="join")
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)
        joint.visitor.abandon = joining.cancel

    async def _join(self, joint: Joint) -> None:
        # The session paces what all its visitors open; the stream's own wait would be a second one.
        try:
            joint.join(await self._session.stream(joint.device, address=self._address))
        except StreamRefused as error:
            joint.refuse(error.reason)
        except Exception:  # one visitor's mistake must not cost the others
            log.exception("a stream failed session=%s", self._session.id)
            joint.refuse("busy")


async def _receive(socket: web.WebSocketResponse, output: Output) -> None:
    link = output.link
    while link.carries(output):
        message = await socket.receive()
        if message.type is WSMsgType.BINARY:
            data = memoryview(message.data)
            for start in range(0, len(data), SLICE_BYTES):
                if start:
                    await asyncio.sleep(0)
                if link.carries(output):
                    link.receive(data[start : start + SLICE_BYTES])
        elif link.carries(output):
            _hung_up(link, message)


def _hung_up(link: Link, message: WSMessage) -> None:
    """A program that leaves says so; what is no break of rules is a connection that broke."""
    if message.type is WSMsgType.CLOSE and message.data == WSCloseCode.OK:
        link.bye("visitor_left")
    elif message.type is WSMsgType.TEXT or isinstance(message.data, WebSocketError):
        link.bye("protocol_error")
    else:
        link.lost()
