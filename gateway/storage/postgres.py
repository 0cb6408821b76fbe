"""PostgreSQL: transactions side by side, repeated where the database asks for it."""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError

from gateway.clock_guard import ClockGuard
from gateway.domain.clock_trust import TRUSTED, Trust
from gateway.storage.locks import Raced, Tree
from gateway.storage.postgres_notices import CHANNEL, Notices
from gateway.storage.postgres_session import (
    PostgresSession,
    PostgresTransaction,
    driver_error,
    engine_of,
)
from gateway.storage.store import (
    QUEUE_MAX,
    READERS,
    STUCK_S_MAX,
    Lane,
    Store,
    StoreBusy,
    StoreClosed,
    StoreUnable,
    StoreUnsure,
    Work,
    new_operation_id,
)
from gateway.storage.transaction import Signal, Transaction

T = TypeVar("T")
log = logging.getLogger(__name__)

JOBS_WAIT_S_MAX = 0.2  # for heartbeats, each time: where these are too many, jobs go on slowly
# More of them only take the interpreter from each other: measured, 4 cost a fifth more than 2.
THREADS = {Lane.PEOPLE: 2, Lane.INGEST: 2, Lane.JOBS: 1}
REPEATS_MAX = 3
REPEAT_S_MAX = 0.1
UNSURE_LOOK_S = 0.25
UNSURE_S_MAX = 20.0  # how long an unknown outcome is asked for

_DEADLOCK = frozenset({"40001", "40P01"})
_LOCKED = "55P03"
_TOO_LONG = "57014"
# Of the server itself: no resources, read-only, and all that ends a connection.
_ENDED = ("57P01", "57P02", "08", "25P03")  # the session, by an operator or a crash
_UNABLE_CLASSES = ("53", "08", "57P", "25006", "58", "XX")


class ErrorSwallowed(Exception):
    """A function caught an error of the database and went on: a bug, and nothing was kept."""


class _Repeat(Exception):
    """The database gave the transaction up; it may well succeed when run again."""


class _Lost(Exception):
    """The connection was lost before the commit was asked for, or the commit is known to have
    failed: nothing was kept."""


class PostgresStore(Store):
    """One database that any number of gateways share.

    `adjust` makes the instant of a transaction of the database host's clock, in ms.
    """

    def __init__(
        self, url: str, adjust: Callable[[int], int], guard: ClockGuard | None = None
    ) -> None:
        self.url = url
        self._adjust = adjust
        self._guard = guard
        self._engine = engine_of(url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._reading = threading.local()
        self._sessions: list[PostgresSession] = []  # of readers
        self._lanes: tuple[deque[Work], ...] = tuple(deque() for _ in Lane)
        self._queued = threading.Lock()
        # One for each lane: whoever serves another need not be woken.
        self._wakes = tuple(threading.Condition(self._queued) for _ in Lane)
        self._listeners: dict[Signal, list[Callable[[], None]]] = {}
        self._id = uuid.uuid4().hex
        self._closing = False
        self._began_s: dict[int, float] = {}  # of transactions under way, by thread
        self._unable = ""
        self._version = ""
        self.commits = 0
        self.repeated = 0  # transactions that were run again, because others were in the way
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"{lane.name} {n}", daemon=True)
            for lane, count in THREADS.items()
            for n in range(count)
        ]
        self._notices = Notices(
            self._engine, self._id, call=self._call, answered=self._answered, away=self._away
        )
        for thread in self._threads:
            thread.start()

    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        lane: Lane = Lane.PEOPLE,
        operation_id: str | None = None,
        tree: Tree = Tree.SHARED,
    ) -> T:
        done: Future[T] = Future()
        work = Work(function, operation_id or new_operation_id(), tree, done)
        with self._queued:
            if self._closing:
                raise StoreClosed("the store is closed")
            if len(self._lanes[lane]) >= QUEUE_MAX:
                raise StoreBusy("too many transactions are waiting")
            self._lanes[lane].append(work)
            self._wakes[lane].notify()
        return await asyncio.wrap_future(done)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        if self._closing:
            raise StoreClosed("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, lambda: self._read(function)
        )

    def listen(self, signal: Signal, listener: Callable[[], None]) -> None:
        self._listeners.setdefault(signal, []).append(listener)

    def close(self) -> None:
        with self._queued:
            self._closing = True
            for wake in self._wakes:
                wake.notify_all()
        self._notices.close()
        for thread in self._threads:
            thread.join()
        self._readers.shutdown()
        for session in self._sessions:
            session.drop()
        self._engine.dispose()

    def waiting(self) -> int:
        return sum(len(lane) for lane in self._lanes)

    def trouble(self) -> str:
        now_s = time.monotonic()
        if any(now_s - began_s > STUCK_S_MAX for began_s in list(self._began_s.values())):
            return f"a transaction has taken longer than {STUCK_S_MAX:.0f} s"
        return self._unable

    def version(self) -> str:
        return f"postgresql {self._version}".strip()

    # Writing

    def _serve(self, lane: Lane) -> None:
        session = PostgresSession(self._engine)
        mine = threading.get_ident()
        while (work := self._next(lane)) is not None:
            # A caller that gave up before its turn is left out; after this none can.
            if work.done.set_running_or_notify_cancel():
                self._began_s[mine] = time.monotonic()
                self._do(session, work)
                del self._began_s[mine]
        session.drop()

    def _next(self, lane: Lane) -> Work | None:
        queue = self._lanes[lane]
        with self._queued:
            while not queue:
                if self._closing:
                    return None
                self._wakes[lane].wait()
            if lane is Lane.JOBS:
                # Both may change the same accounts, and heartbeats must not wait for jobs.
                self._wakes[lane].wait_for(self._no_heartbeats_wait, JOBS_WAIT_S_MAX)
            work = queue.popleft()
            if self._no_heartbeats_wait():
                self._wakes[Lane.JOBS].notify()
            return work

    def _no_heartbeats_wait(self) -> bool:
        return self._closing or not self._lanes[Lane.INGEST]

    def _do(self, session: PostgresSession, work: Work) -> None:
        repeats = losses = 0
        while True:
            try:
                result, signals = self._attempt(session, work)
            except _Repeat as error:
                repeats += 1
                self.repeated += 1
                if repeats > REPEATS_MAX:
                    work.done.set_exception(StoreBusy(f"others are in the way: {error}"))
                    return
                # Each operation waits another while, so that the same two do not meet again.
                time.sleep(uuid.UUID(work.operation_id).int % 1_000 / 1_000 * REPEAT_S_MAX)
            except _Lost as error:
                # The first may be of a connection that died unnoticed; a new one tells.
                losses += 1
                if losses > 1:
                    self._away(str(error))
                    work.done.set_exception(StoreUnable(str(error)))
                    return
            except BaseException as error:  # noqa: BLE001  # belongs to whoever asked
                work.done.set_exception(error)
                return
            else:
                self._kept(work, result, signals)
                return

    def _kept(self, work: Work, result: Any, signals: set[Signal]) -> None:
        self.commits += 1
        self._unable = ""
        work.done.set_result(result)
        self._call(signals)

    def _attempt(self, session: PostgresSession, work: Work) -> tuple[Any, set[Signal]]:
        """The function's result, committed. Raises `_Repeat`, `_Lost`, `StoreBusy`, its own."""
        number = ""
        try:
            asked_ms = self._asked()
            connection, number, at_ms = session.begin(work.tree)
            tx = PostgresTransaction(
                connection,
                self._adjust(at_ms),
                work.operation_id,
                tree=work.tree,
                trust=self._trust(asked_ms, at_ms),
            )
            tx.driver = session.cursor()
            result = work.function(tx)
            if not tx.ends_with_few:
                tx.write_at_end()
            for signal in tx.signals:
                tx.driver.execute(
                    "SELECT pg_notify(%s, %s)", (CHANNEL, f"{signal.value} {self._id}")
                )
            if session.failed:
                # The server would answer the commit politely and keep nothing.
                raise ErrorSwallowed("a statement failed, and the function went on")
        except BaseException as error:
            told = self._understood(session, error)
            if not session.broken:
                session.rollback()
            else:
                session.drop()
            if told is None:
                raise
            raise told from error
        last = tx.last_statement() if tx.ends_with_few else None
        try:
            session.commit(last)
        except psycopg.Error as error:
            if not session.broken:
                told = self._understood(session, error)
                session.rollback()
                if told is None and last is not None:
                    raise  # the last statement was wrong, and would be again
                raise told or _Repeat(str(error)) from error
            session.drop()
            self._find_out(session, number, str(error).strip())
        return result, tx.signals

    def _asked(self) -> int:
        return 0 if self._guard is None else self._guard.asked()

    def _trust(self, asked_ms: int, host_ms: int) -> Trust:
        if self._guard is None:
            return TRUSTED
        self._guard.heard_host(asked_ms, host_ms)
        return self._guard.trust()

    def _understood(self, session: PostgresSession, error: BaseException) -> Exception | None:
        """What an error in a transaction means for its caller; None for the error itself."""
        if isinstance(error, Raced):
            return _Repeat(str(error))
        found = driver_error(error)
        if found is None:
            return None
        state, text = found.sqlstate or "", str(found).strip()
        if state in _DEADLOCK:
            return _Repeat(text)
        if state == _LOCKED:
            return _Repeat(text)
        if state == _TOO_LONG:
            return StoreBusy(f"a statement took too long: {text}")
        if session.broken or state.startswith(_ENDED):
            return _Lost(text)
        if state.startswith(_UNABLE_CLASSES):
            self._away(text)
            return StoreUnable(text)
        return None

    def _find_out(self, session: PostgresSession, number: str, lost: str) -> None:
        """After a connection was lost in a commit: returns when it is known to be kept.

        Raises `_Lost` when it was not, and `StoreUnsure` when nobody can tell in time.
        """
        log.warning("outcome of a commit unknown, asking transaction=%s error=%s", number, lost)
        until_s = time.monotonic() + UNSURE_S_MAX
        while time.monotonic() < until_s and not self._closing:
            try:
                _, raw = session.open()
                row = raw.execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
            except (psycopg.Error, DBAPIError) as error:
                self._away(str(error).strip())
                session.drop()
            else:
                status = None if row is None else row[0]
                log.info("outcome of a commit transaction=%s status=%s", number, status)
                if status == "committed":
                    return
                if status == "aborted":
                    raise _Lost(lost)
                if status is None:
                    break
            time.sleep(UNSURE_LOOK_S)
        raise StoreUnsure(
            f"the database went away in a commit and cannot say whether it was kept: {lost}"
        )

    def _away(self, text: str) -> None:
        self._unable = f"the database does not answer: {text}"

    # Reading

    def _read(self, function: Callable[[Transaction], T]) -> T:
        session: PostgresSession | None = getattr(self._reading, "session", None)
        if session is None:
            session = self._reading.session = PostgresSession(self._engine)
            self._sessions.append(session)
        try:
            return self._read_once(session, function)
        except (_Lost, _Repeat):
            pass  # the connection perhaps long ago, unnoticed
        try:
            return self._read_once(session, function)
        except _Lost as error:
            self._away(str(error))
            raise StoreUnable(str(error)) from error
        except _Repeat as error:
            raise StoreBusy(f"others are in the way: {error}") from error

    def _read_once(self, session: PostgresSession, function: Callable[[Transaction], T]) -> T:
        try:
            asked_ms = self._asked()
            connection, at_ms = session.begin_reading()
            trust = self._trust(asked_ms, at_ms)
            tx = PostgresTransaction(
                connection, self._adjust(at_ms), "", writing=False, trust=trust
            )
            tx.driver = session.cursor()
            result = function(tx)
            session.commit()
        except BaseException as error:
            told = self._understood(session, error)
            if session.broken:
                session.drop()
            else:
                session.rollback()
            if told is None:
                raise
            raise told from error
        return result

    # What other gateways commit

    def _answered(self, version: str) -> None:
        self._version, self._unable = version, ""

    def _call(self, signals: set[Signal]) -> None:
        for signal in signals:
            for listener in self._listeners.get(signal, ()):
                listener()
