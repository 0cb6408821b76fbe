"""A device's connection: its hello, by ticket or resume secret, and then its link."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from broker.relay.errors import TicketRefused
from broker.relay.session import Session
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from wire.frames import HELLO_BYTES_MAX, FrameReader, LinkError
from wire.heartbeat import WireError
from wire.hello import FORGOTTEN, Answered, Hello, Resume, Word, answer_bytes, greeting_of
from wire.link import Link
from wire.resuming import Keeper
from wire.tickets import Party, Way

log = logging.getLogger(__name__)

HELLO_S_MAX = 10.0
LINGER_S = 2.0  # after a goodbye
WRITE_BYTES_HIGH = 128 * 1024
READ_BYTES = 256 * 1024


class DeviceLink(asyncio.BufferedProtocol):
    """Made by the door when a TLS handshake has asked for `link.fleetgate`.

    What is read goes through `buffer`, which is lent to all of them: without one, TLS would make
    a large buffer for each record.
    """

    def __init__(
        self,
        sessions: Sessions,
        desk: TicketDesk,
        address: str,
        admitted: Callable[[], None],
        buffer: memoryview,
    ) -> None:
        self._buffer = buffer
        self._sessions = sessions
        self._desk = desk
        self._address = address
        self._admitted = admitted
        self._reader = FrameReader()
        self._early_bytes = 0
        self._link: Link | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        self._timer = asyncio.get_running_loop().call_later(HELLO_S_MAX, self._transport.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._buffer[:nbytes]
        if self._link is not None:
            if self._link.carries(self._transport):
                self._link.receive(data)
        elif self._transport is not None and not self._transport.is_closing():
            self._take_hello(bytes(data))

    def pause_writing(self) -> None:
        if self._link is not None and self._link.carries(self._transport):
            self._link.pause()

    def resume_writing(self) -> None:
        if self._link is not None and self._link.carries(self._transport):
            self._link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._known()
        if self._link is not None:
            self._sessions.connected -= 1
            if self._link.carries(self._transport):
                self._link.lost()
        self._transport = None

    # The hello

    def _take_hello(self, data: bytes) -> None:
        assert self._transport is not None
        try:
            frame = self._reader.first(data)
            self._early_bytes += len(data)
            if frame is None:
                if self._early_bytes > HELLO_BYTES_MAX:
                    self._transport.abort()
                return
            greeting = greeting_of(frame)
        except WireError as error:
            log.info("hello not understood address=%s error=%s", self._address, error)
            self._transport.abort()
            return
        refused = self._greet(greeting) if isinstance(greeting, Hello) else self._resume(greeting)
        if refused is not None:
            self._turn_away(refused)

    def _greet(self, hello: Hello) -> Answered | None:
        try:
            claims = self._desk.admit(hello.ticket, party=Party.DEVICE, way=Way.LINK)
        except TicketRefused as error:
            if error.code == "session_over":
                return Answered(Word.OVER, reason=error.detail)
            return Answered(Word.REFUSED, reason=error.code)
        session = self._sessions.enter(claims)
        session.keeper = Keeper(hello.secret)
        self._begin(session, Word.WELCOME)
        return None

    def _resume(self, resume: Resume) -> Answered | None:
        session = self._sessions.by_id(resume.session)
        if session is None:
            reason = self._sessions.over(resume.session)
            return Answered(Word.OVER if reason else Word.UNKNOWN, reason=reason)
        # Whoever does not hold the secret learns nothing that a stranger would not.
        keeper = session.keeper
        refused = Answered(Word.UNKNOWN) if keeper is None else keeper.fence(resume)
        if refused is None and not self._go_on(session, resume.received):
            self._begin(session, Word.FRESH)
        return refused

    def _turn_away(self, answered: Answered) -> None:
        assert self._transport is not None
        log.info(
            "device turned away address=%s answer=%s reason=%s",
            self._address,
            answered.word.value,
            answered.reason,
        )
        # It keeps counting as half-open until it is gone.
        self._transport.write(answer_bytes(answered))
        self._transport.close()

    def _begin(self, session: Session, word: Word) -> None:
        """A new channel; of one before it nothing is left."""
        assert self._transport is not None
        old = session.channel
        if old is not None:
            # Unread: what it still has to say, a goodbye too, is of a connection given up.
            old.end("link_replaced")
            session.link_down(old, "link_replaced")
        self._start(session, _new_link(session, self._transport, self._reader), Answered(word))

    def _go_on(self, session: Session, count: int) -> bool:
        """The channel goes on over this connection, if it can; the old one is closed first."""
        link = session.channel
        if link is None or count == FORGOTTEN:
            return False
        assert self._transport is not None
        taken = link.detach()
        try:
            link.attach(self._transport, self._reader, count)
        except LinkError as error:
            log.warning("a link cannot go on session=%s error=%s", session.id, error)
            return False
        self._start(session, link, Answered(Word.RESUMED, taken))
        return True

    def _start(self, session: Session, link: Link, answered: Answered) -> None:
        assert self._transport is not None
        self._known()
        self._link = link
        self._sessions.connected += 1
        self._transport.write(answer_bytes(answered))
        log.info(
            "link up session=%s address=%s answer=%s",
            session.id,
            self._address,
            answered.word.value,
        )
        session.link_up(link)
        link.start()

    def _known(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._admitted()


def _new_link(session: Session, transport: asyncio.Transport, reader: FrameReader) -> Link:
    """It outlives the connection on which it begins."""

    def lost(reason: str) -> None:
        log.info("link away session=%s reason=%s", session.id, reason)
        session.link_away(link, reason)

    def ended(reason: str) -> None:
        log.info("link down session=%s reason=%s", session.id, reason)
        session.link_down(link, reason)

    loop = asyncio.get_running_loop()
    link = Link(
        transport,
        budget=session.budget,
        clock=loop.time,
        later=loop.call_later,
        on_end=ended,
        on_loss=lost,
        reader=reader,
        linger_s=LINGER_S,
        rates=session.rates,
    )
    return link
