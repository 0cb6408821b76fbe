"""One session: its link to a relay, made again after each loss, until the session is over."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from agent.clock import Clock
from agent.errors import ConnectionFailed
from agent.links.allow import AllowList
from agent.links.relay_connection import HOST_S_MAX, RelayConnection
from agent.links.resolver import Resolve
from agent.links.target import DialTarget, TargetDialler
from agent.waiting import until_set
from wire.budget import AGENT_SESSION_BYTES, Budget
from wire.endings import Ended
from wire.hello import SECRET_BYTES, Answered, Hello, Word, hello_bytes, resume_bytes
from wire.link import Link
from wire.session_commands import LinkState, Open, Report

log = logging.getLogger(__name__)

BACKOFF_S_FIRST = 0.2
BACKOFF_S_MAX = 10.0
LINGER_S = 2.0  # after a goodbye
SURVIVED_S_MIN = 5.0  # what ends a link after so long is a new problem
_LOOK_AT_CLOCK_S = 30.0  # the boot clock goes on while the loop's stands still in a sleep
# A relay's last word that says that nothing is to be dialled again.
_OVER = frozenset(Ended)
_SESSION_OVER = "session_over"  # said of a ticket whose session has ended
_TICKET_WRONG = "ticket_wrong"  # another one would not be better


class Surroundings(NamedTuple):
    """What all sessions of an agent share."""

    allow: AllowList
    dial_target: DialTarget
    resolve: Resolve
    tls: Callable[[], ssl.SSLContext]
    clock: Clock
    rng: Random
    buffer: memoryview
    opens_per_s: float
    report: Callable[[Report], None]


class SessionLink:
    """Lives from the command `open` to the session's end; `run` is its one task."""

    def __init__(self, order: Open, around: Surroundings) -> None:
        self.id = order.session
        self.target = order.target
        self.reason = ""  # why it is over
        self.state: LinkState | None = None  # as reported last
        self.link: Link | None = None
        self._around = around
        self._order = order
        self._ticket = order.ticket  # empty once it was shown to a relay
        # Made before the first dial, so that a session whose answer is lost can be resumed.
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._generation = 0
        self._deadline_ms = around.clock.boot_ms() + order.left_s * 1_000
        self._told = asyncio.Event()  # there is a ticket that was not shown yet
        self._over = asyncio.Event()
        self._lost = asyncio.Event()
        self._loss = ""
        self._connection: RelayConnection | None = None
        self._attempt: asyncio.Timeout | None = None
        self._targets: TargetDialler | None = None
        self._ceiling_s = BACKOFF_S_FIRST
        self._reported: Report | None = None  # since the last order

    @property
    def up(self) -> bool:
        """Whether the link stands."""
        return self.link is not None and not self.link.ended

    @property
    def until_ms(self) -> int:
        """When it ends by itself, by the clock on the wall."""
        clock = self._around.clock
        return self._deadline_ms - clock.boot_ms() + clock.wall_ms()

    def tell(self, order: Open) -> bool:
        """The session is told again, with a new ticket; whether its link is up already."""
        self._deadline_ms = self._around.clock.boot_ms() + order.left_s * 1_000
        same_relay = order.epoch == self._order.epoch
        self._order = order
        self._reported = None
        if same_relay and self.up:
            # Told again because the device signed in anew: its way out may have changed.
            assert self.link is not None
            self.link.probe()
            return True
        self._ticket = order.ticket
        self._told.set()
        if not same_relay:
            # Whatever is under way leads to a relay that is no more.
            self._secret = secrets.token_bytes(SECRET_BYTES)
            if self._attempt is not None:
                self._attempt.reschedule(asyncio.get_running_loop().time())
            if self.link is not None:
                self.link.bye("other_relay")
        return False

    def abandon(self) -> None:
        """Ends the connection without a word, as a power cut does; it will dial again."""
        if self._connection is not None:
            self._connection.abort()

    def end(self, reason: str) -> None:
        """It is over, for good."""
        if not self._over.is_set():
            self.reason = reason
            self._over.set()

    async def run(self) -> None:
        """Until `end`, or until its time is over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._targets = TargetDialler(
                    self.target,
                    allow=self._around.allow,
                    dial=self._around.dial_target,
                    resolve=self._around.resolve,
                    buffer=self._around.buffer,
                    tasks=tasks,
                )
                linked = tasks.create_task(self._stay_linked(), name=f"session {self.id}")
                await self._until_over()
                if self.link is not None:
                    self.link.bye(self.reason)
                linked.cancel()
            if self._connection is not None:
                await self._connection.closed()
        finally:
            log.info("session ended session=%s reason=%s", self.id, self.reason)
            if self.link is not None:
                self.link.lost()
            if self._connection is not None:
                self._connection.abort()
            if self._targets is not None:
                self._targets.close()

    async def _until_over(self) -> None:
        while not self._over.is_set():
            left_s = (self._deadline_ms - self._around.clock.boot_ms()) / 1_000
            if left_s <= 0:
                self._report(LinkState.OVER, "expired")
                self.end("expired")
            await until_set(self._over, min(max(left_s, 0.0), _LOOK_AT_CLOCK_S))

    async def _stay_linked(self) -> None:
        while not self._over.is_set():
            answered = await self._dial()
            if answered is None:
                pass  # reported where it happened
            elif answered.word in (Word.WELCOME, Word.FRESH):
                await self._live()
            elif answered.word is Word.OVER or answered.reason == _SESSION_OVER:
                self._report(LinkState.OVER, answered.reason or "over")
                self.end(answered.reason or "over")
            elif answered.word is Word.UNKNOWN:
                await self._ask_for_ticket("")
            else:
                self._report(LinkState.FAILED, answered.reason or "refused")
                await self._refused(answered.reason)
            await self._pause()

    async def _live(self) -> None:
        """With a link, until it is lost."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._report(LinkState.UP)
        await self._lost.wait()
        if loop.time() - began_s >= SURVIVED_S_MIN:
            self._ceiling_s = BACKOFF_S_FIRST
        if self._over.is_set():
            return
        if self._loss in _OVER:
            self._report(LinkState.OVER, self._loss)
            self.end(self._loss)
            return
        log.info("link lost session=%s reason=%s", self.id, self._loss)
        self._report(LinkState.LOST, self._loss)

    async def _refused(self, reason: str) -> None:
        """Another ticket may be accepted, but it is not asked for without a breath between."""
        if reason == _TICKET_WRONG:
            await self._told.wait()
        else:
            await self._pause()
            await self._ask_for_ticket(reason)

    async def _ask_for_ticket(self, error: str) -> None:
        if not self._told.is_set():
            self._report(LinkState.UNKNOWN, error)
            await self._told.wait()

    async def _pause(self) -> None:
        """Before the next attempt, unless a new ticket came."""
        wait_s = self._around.rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._ceiling_s * 2, BACKOFF_S_MAX)
        if not self._over.is_set():
            await until_set(self._told, wait_s)

    # Dialling

    async def _dial(self) -> Answered | None:
        """Tries each host once; what the relay said, or None if nobody did."""
        self._told.clear()
        order = self._order
        error: Exception | None = None
        for host in order.hosts:
            if self._connection is not None:
                self._connection.abort()
            try:
                async with asyncio.timeout(HOST_S_MAX) as self._attempt:
                    return await self._dial_host(host, order.port)
            except (ConnectionFailed, OSError, ValueError) as failure:  # some host names are none
                error = failure
            finally:
                self._attempt = None
            if self._told.is_set():
                return None  # another relay was named meanwhile
            log.info("relay not reached session=%s host=%s error=%s", self.id, host, _said(error))
        self._report(LinkState.FAILED, _said(error))
        return None

    async def _dial_host(self, host: str, port: int) -> Answered:
        """Raises `ConnectionFailed`, `OSError`."""
        answers: list[Answered] = []
        epoch = self._order.epoch

        def hello() -> bytes:
            if self._order.epoch != epoch:
                raise ConnectionFailed("another relay was named")
            return self._hello()

        def take(connection: RelayConnection, answered: Answered) -> None:
            answers.append(answered)
            if self._order.epoch != epoch:
                connection.abort()
            elif answered.word in (Word.WELCOME, Word.FRESH):
                self._begin(connection)
            else:
                connection.transport.close()

        connection = self._connection = RelayConnection(self._around.buffer, take)
        try:
            await connection.greet(host, port, tls=self._around.tls(), hello=hello)
            if self._order.epoch != epoch:
                raise ConnectionFailed("another relay was named")
        except BaseException:
            connection.abort()
            raise
        return answers[0]

    def _hello(self) -> bytes:
        """A ticket is shown once; if its answer is lost the secret does as well."""
        ticket, self._ticket = self._ticket, ""
        if ticket:
            return hello_bytes(Hello(ticket, self._secret))
        self._generation += 1
        # Nothing is kept of an earlier channel, so nothing of it was received.
        return resume_bytes(self._secret, self.id, self._generation, 0)

    def _begin(self, connection: RelayConnection) -> None:
        """The relay admitted us: a new channel, in which it opens the streams."""
        assert self._targets is not None
        loop = asyncio.get_running_loop()
        self._lost.clear()
        link = Link(
            connection.transport,
            budget=Budget(AGENT_SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=self._link_ended,
            on_open=self._targets.accept,
            opens_per_s=self._around.opens_per_s,
            reader=connection.reader,
            linger_s=LINGER_S,
        )
        self.link = connection.link = link
        # A ticket that came meanwhile is not needed, and would be too old at the next dial.
        self._ticket = ""
        self._told.clear()
        link.start()

    def _link_ended(self, reason: str) -> None:
        self.link = None
        self._loss = reason
        self._lost.set()

    def _report(self, state: LinkState, error: str = "") -> None:
        report = Report(self.id, state, error)
        if not self._over.is_set() and report != self._reported:
            self.state, self._reported = state, report
            self._around.report(report)


def _said(error: Exception | None) -> str:
    """The error as people are told it; of certificates the reason is what matters."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
