"""One session: its link to a relay, carried by one connection after the other until it is over."""

import asyncio
import logging
import secrets

from agent.errors import ConnectionFailed
from agent.links.relay_connection import HOST_S_MAX, RelayConnection, said_of
from agent.links.surroundings import Surroundings
from agent.links.target import TargetDialler
from agent.waiting import until_set
from wire.budget import AGENT_SESSION_BYTES, Budget
from wire.endings import Ended
from wire.frames import LinkError
from wire.hello import FORGOTTEN, SECRET_BYTES, Answered, Word
from wire.link import Link
from wire.resuming import Bearer
from wire.session_commands import LinkState, Open, Report

log = logging.getLogger(__name__)

BACKOFF_S_FIRST = 0.2
BACKOFF_S_MAX = 10.0
BACKOFF_S_KEPT = 0.8  # while the relay may still keep the channel, and a little longer
KEPT_S = 120.0
HANGS_S = 2.0
FORGET_S = 90.0  # longer than the relay, which may notice the loss later
LINGER_S = 2.0  # after a goodbye
SURVIVED_S_MIN = 5.0  # what ends a link after so long is a new problem
_LOOK_AT_CLOCK_S = 30.0  # the boot clock goes on while the loop's stands still in a sleep
# A relay's last word that says that nothing is to be dialled again.
_OVER = frozenset(Ended)
_SESSION_OVER = "session_over"  # said of a ticket whose session has ended
_TICKET_WRONG = "ticket_wrong"  # another one would not be better


class _StillThere(Exception):
    """The connection that was doubted lives."""


class SessionLink:
    """Lives from the command `open` to the session's end; `run` is its one task."""

    def __init__(self, order: Open, around: Surroundings) -> None:
        self.id = order.session
        self.target = order.target
        self.reason = ""  # why it is over
        self.state: LinkState | None = None  # as reported last
        self.link: Link | None = None  # it waits for another connection where it has none
        self._around = around
        self._order = order
        self._ticket = order.ticket  # empty once it was shown to a relay
        self._bearer = Bearer(secrets.token_bytes(SECRET_BYTES))
        self._began = False  # there was a link under this secret
        self._deadline_ms = around.clock.boot_ms() + order.left_s * 1_000
        self._told = asyncio.Event()  # there is a ticket that was not shown yet
        self._over = asyncio.Event()
        self._lost = asyncio.Event()
        self._loss = ""
        self._connection: RelayConnection | None = None  # that carries the link, or did
        self._dialled: RelayConnection | None = None  # the newest, which may not have begun
        self._attempt: asyncio.Timeout | None = None
        self._targets: TargetDialler | None = None
        self._ceiling_s = BACKOFF_S_FIRST
        self._linked_s: float | None = None  # when there was a connection last
        self._forget: asyncio.TimerHandle | None = None
        self._reported: Report | None = None  # since the last order

    @property
    def up(self) -> bool:
        """Whether the link has a connection."""
        return self.link is not None and self.link.attached

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
        if same_relay and self._attempt is not None:
            self._hurry(self._attempt)
        if same_relay and self.up:
            # Told again because the device signed in anew: its way out may have changed.
            assert self.link is not None
            self.link.probe()
            return True
        self._ticket = order.ticket
        self._told.set()
        if not same_relay:
            # Whatever is under way leads to a relay that is no more.
            self._new_secret()
            if self._attempt is not None:
                self._attempt.reschedule(asyncio.get_running_loop().time())
            if self.link is not None:
                self.link.bye("other_relay")
        return False

    def _hurry(self, attempt: asyncio.Timeout) -> None:
        """The device has just signed in: what hangs from before may hang in another network."""
        now_s, until_s = asyncio.get_running_loop().time(), attempt.when()
        began_s = now_s if until_s is None or attempt.expired() else until_s - HOST_S_MAX
        if now_s - began_s > HANGS_S:
            attempt.reschedule(now_s)

    def abandon(self) -> None:
        """Ends the connection without a word, as a power cut does; it will dial again."""
        for connection in (self._connection, self._dialled):
            if connection is not None:
                connection.abort()

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
                self.link.end("link_lost")
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
            if self.link is not None and not self.link.doubted:
                # It was doubted, and lives.
                self._lost.clear()
                await self._live()
            else:
                answered = await self._dial()
                if answered is not None:
                    await self._heed(answered)
            await self._pause()

    async def _heed(self, answered: Answered) -> None:
        """What the relay said to the hello."""
        if answered.word in (Word.WELCOME, Word.FRESH, Word.RESUMED):
            await self._live()
        elif answered.word is Word.OVER or answered.reason == _SESSION_OVER:
            self._report(LinkState.OVER, answered.reason or "over")
            self.end(answered.reason or "over")
        else:
            # What it does not know now, it will not know later either.
            self._new_secret()
            if self.link is not None:
                self.link.end("link_lost")
            if answered.word is not Word.UNKNOWN:
                self._report(LinkState.FAILED, answered.reason or "refused")
                await self._refused(answered.reason)
            elif not self._ticket:
                await self._ask_for_ticket("")

    async def _live(self) -> None:
        """With a connection, until it is lost or doubted."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._report(LinkState.UP)
        await self._lost.wait()
        self._linked_s = loop.time()
        if self._linked_s - began_s >= SURVIVED_S_MIN:
            self._ceiling_s = BACKOFF_S_FIRST
        if self._over.is_set():
            return
        if self._loss in _OVER:
            self._report(LinkState.OVER, self._loss)
            self.end(self._loss)
            return
        if self.up:
            log.info("link doubted session=%s", self.id)
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
        linked_s = self._linked_s
        kept = linked_s is not None and asyncio.get_running_loop().time() - linked_s < KEPT_S
        most_s = BACKOFF_S_KEPT if kept else BACKOFF_S_MAX
        self._ceiling_s = min(self._ceiling_s * 2, most_s)
        if not self._over.is_set():
            await until_set(self._told, wait_s)

    # Dialling

    async def _dial(self) -> Answered | None:
        """Tries each host once; what the relay said, or None if nobody did."""
        self._told.clear()
        order = self._order
        error: Exception | None = None
        for host in order.hosts:
            if self._connection is not None and not self.up:
                self._connection.abort()
            try:
                async with asyncio.timeout(HOST_S_MAX) as self._attempt:
                    return await self._dial_host(host, order.port)
            except _StillThere:
                return None
            except (ConnectionFailed, OSError, ValueError) as failure:  # some host names are none
                error = failure
            finally:
                self._attempt = None
            if self._told.is_set():
                return None  # another relay was named meanwhile
            log.info("relay not reached session=%s host=%s error=%s", self.id, host, said_of(error))
        self._report(LinkState.FAILED, said_of(error))
        return None

    async def _dial_host(self, host: str, port: int) -> Answered:
        """Raises `ConnectionFailed`, `OSError`, `_StillThere`."""
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
            else:
                self._take(connection, answered)

        connection = self._dialled = RelayConnection(self._around.buffer, take)
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
        if not self._bearer.shown:
            ticket, self._ticket = self._ticket, ""
            return self._bearer.hello(ticket)
        link = self.link
        if link is None:
            return self._bearer.resume(self.id, FORGOTTEN if self._began else 0)
        if not link.doubted:
            raise _StillThere
        # Unread from here on: what it still brings is of a connection given up.
        taken = link.detach()
        self._wait_for_another()
        return self._bearer.resume(self.id, taken)

    def _new_secret(self) -> None:
        """For the next ticket. Made before it is shown, so that a lost answer can be resumed."""
        self._bearer = Bearer(secrets.token_bytes(SECRET_BYTES))
        self._began = False

    def _take(self, connection: RelayConnection, answered: Answered) -> None:
        """The relay's answer, to be heeded before anything that comes behind it."""
        # An answer that was lost may have been a welcome: then the channel stands at its beginning.
        first = answered.word is Word.RESUMED and not self._began and not answered.received
        if first or answered.word in (Word.WELCOME, Word.FRESH):
            self._begin(connection)
        elif answered.word is not Word.RESUMED:
            connection.transport.close()
        elif not self._go_on(connection, answered.received):
            connection.abort()
            self._lost.set()

    def _go_on(self, connection: RelayConnection, count: int) -> bool:
        """The same channel over another connection, if it can."""
        link = self.link
        if link is None:
            return False
        try:
            link.attach(connection.transport, connection.reader, count)
        except LinkError as error:
            log.warning("a link cannot go on session=%s error=%s", self.id, error)
            link.end("link_lost")
            return False
        self._start(link, connection)
        return True

    def _begin(self, connection: RelayConnection) -> None:
        """A new channel, in which the relay opens the streams; those of the last are over."""
        assert self._targets is not None
        if self.link is not None:
            self.link.end("link_lost")
        loop = asyncio.get_running_loop()
        link = Link(
            connection.transport,
            budget=Budget(AGENT_SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=self._link_ended,
            on_open=self._targets.accept,
            on_loss=self._connection_lost,
            on_doubt=self._lost.set,
            opens_per_s=self._around.opens_per_s,
            reader=connection.reader,
            linger_s=LINGER_S,
        )
        self.link, self._began = link, True
        self._start(link, connection)

    def _start(self, link: Link, connection: RelayConnection) -> None:
        self._connection = connection
        connection.link = link
        self._stop_waiting()
        self._lost.clear()
        # A ticket that came meanwhile is not needed, and would be too old at the next dial.
        self._ticket = ""
        self._told.clear()
        link.start()

    def _connection_lost(self, reason: str) -> None:
        self._loss = reason
        self._wait_for_another()
        self._lost.set()

    def _wait_for_another(self) -> None:
        """Streams wait with the link, but not for ever: the relay does not either."""
        if self._forget is None:
            loop = asyncio.get_running_loop()
            self._forget = loop.call_later(FORGET_S, self._forget_link)

    def _stop_waiting(self) -> None:
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None

    def _forget_link(self) -> None:
        self._forget = None
        if self.link is not None and not self.link.attached:
            self.link.end("link_lost")

    def _link_ended(self, reason: str) -> None:
        self._stop_waiting()
        self.link = None
        self._loss = reason
        self._lost.set()

    def _report(self, state: LinkState, error: str = "") -> None:
        report = Report(self.id, state, error)
        if not self._over.is_set() and report != self._reported:
            self.state, self._reported = state, report
            self._around.report(report)
