"""A device's connection: its hello, by ticket or resume secret, and then its link."""

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import cast

from broker.relay.errors import TicketRefused
from broker.relay.session import Session
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from wire.frames import HELLO_BYTES_MAX, FrameReader
from wire.heartbeat import WireError
from wire.hello import Answered, Hello, Resume, Word, answer_bytes, greeting_of, proof
from wire.link import Link
from wire.tickets import Party, Way

log = logging.getLogger(__name__)

HELLO_S_MAX = 10.0
LINGER_S = 2.0  # after a goodbye
WRITE_BYTES_HIGH = 128 * 1024


class DeviceLink(asyncio.Protocol):
    """Made by the door when a TLS handshake has asked for `link.fleetgate`."""

    def __init__(
        self, sessions: Sessions, desk: TicketDesk, address: str, admitted: Callable[[], None]
    ) -> None:
        self._sessions = sessions
        self._desk = desk
        self._address = address
        self._admitted = admitted
        self._reader = FrameReader()
        self._early_bytes = 0
        self._session: Session | None = None
        self._link: Link | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        self._timer = asyncio.get_running_loop().call_later(HELLO_S_MAX, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._link is not None:
            self._link.receive(data)
        elif self._transport is not None and not self._transport.is_closing():
            self._take_hello(data)

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._known()
        if self._link is not None:
            self._sessions.connected -= 1
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
        answered, session = (
            self._greet(greeting) if isinstance(greeting, Hello) else self._resume(greeting)
        )
        if session is None:
            self._turn_away(answered)
        else:
            self._begin(session, answered)

    def _greet(self, hello: Hello) -> tuple[Answered, Session | None]:
        try:
            claims = self._desk.admit(hello.ticket, party=Party.DEVICE, way=Way.LINK)
        except TicketRefused as error:
            if error.code == "session_over":
                return Answered(Word.OVER, reason=error.detail), None
            return Answered(Word.REFUSED, reason=error.code), None
        session = self._sessions.enter(claims)
        session.secret, session.generation = hello.secret, 0
        return Answered(Word.WELCOME), session

    def _resume(self, resume: Resume) -> tuple[Answered, Session | None]:
        """The channel is never kept in this version: the session goes on, its streams do not."""
        session = self._sessions.by_id(resume.session)
        if session is None:
            reason = self._sessions.over(resume.session)
            word = Word.OVER if reason else Word.UNKNOWN
            return Answered(word, reason=reason), None
        # Whoever does not hold the secret learns nothing that a stranger would not.
        wanted = proof(session.secret, resume.session, resume.generation, resume.received)
        if not session.secret or not hmac.compare_digest(wanted, resume.proof):
            return Answered(Word.UNKNOWN), None
        if resume.generation <= session.generation:
            return Answered(Word.REFUSED, reason="generation_old"), None
        session.generation = resume.generation
        return Answered(Word.FRESH), session

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

    def _begin(self, session: Session, answered: Answered) -> None:
        assert self._transport is not None
        old = session.link
        if old is not None:
            # Unread: what it still has to say, a goodbye too, is of a connection given up.
            old.lost("link_replaced")
            session.link_down(old, "link_replaced")
        self._known()
        self._transport.write(answer_bytes(answered))
        loop = asyncio.get_running_loop()
        self._session = session
        self._link = Link(
            self._transport,
            budget=session.budget,
            clock=loop.time,
            later=loop.call_later,
            on_end=self._ended,
            reader=self._reader,
            linger_s=LINGER_S,
        )
        self._sessions.connected += 1
        log.info(
            "link up session=%s address=%s answer=%s",
            session.id,
            self._address,
            answered.word.value,
        )
        session.link_up(self._link)
        self._link.start()

    def _known(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._admitted()

    def _ended(self, reason: str) -> None:
        if self._session is not None and self._link is not None:
            log.info("link down session=%s reason=%s", self._session.id, reason)
            self._session.link_down(self._link, reason)
