"""SQLite: one writer thread, whose commits people's transactions share, and a few readers."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Select, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from gateway.clock_guard import ClockGuard
from gateway.domain.clock_trust import TRUSTED, Trust
from gateway.storage.locks import Level, Tree
from gateway.storage.sqlite_driver import BUSY_TIMEOUT_S, apart, emptied, in_transaction
from gateway.storage.statements import insert_one, update_one
from gateway.storage.store import (
    QUEUE_MAX,
    READERS,
    STUCK_S_MAX,
    Lane,
    Store,
    StoreBusy,
    StoreClosed,
    StoreUnable,
    Work,
    new_operation_id,
)
from gateway.storage.transaction import OneRow, Plain, Signal, Transaction

T = TypeVar("T")
log = logging.getLogger(__name__)

_CHANGE_BALANCE = "UPDATE account SET balance = balance + ? WHERE id = ? AND balance >= ?"
_MARKS_MAX = 500  # of one statement, which is compiled once for each length
SHARED_COMMITS_MAX = 64  # people's transactions that one commit may carry
SHARED_BATCHES_MAX = 4  # and batches of heartbeats, so that nobody waits for many of them

# The file or the disk under it, and nothing that a transaction did.
_UNABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_PRIMARY_CODE = 0xFF  # the extended codes carry more bits


def _unable(error: BaseException) -> StoreUnable | None:
    """What the error, or one that led to it, says of the database itself, if it does."""
    cause: BaseException | None = error
    while cause is not None:
        found = cause.orig if isinstance(cause, DBAPIError) else cause
        code = getattr(found, "sqlite_errorcode", None)
        if code is not None and code & _PRIMARY_CODE in _UNABLE:
            return StoreUnable(str(found))
        cause = cause.__context__
    return None


def sqlite_engine(path: Path, *, writing: bool) -> Engine:
    """An engine on one file: WAL, every commit on disk, explicit transactions only."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            timeout=BUSY_TIMEOUT_S,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            # 16 MB: rows that every heartbeat changes are copied back once, not each second.
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            # What was deleted is not left to be read in the file: it may have been somebody's name.
            connection.execute("PRAGMA secure_delete = ON")
        else:
            connection.execute("PRAGMA query_only = ON")
        return connection

    if writing:
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    else:
        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=READERS, max_overflow=0
        )

    # The driver's own transaction handling lets two writers read before either writes.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


class SqliteTransaction(Transaction):
    """A transaction of the one writer, which has nobody to lock out, or of a reader."""

    __slots__ = ("_cursor",)

    _cursor: sqlite3.Cursor

    FOR_UPDATE = ""

    def lock_devices(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        self.locked.reach(Level.DEVICES)

    def fetch_locked(self, statement: str, values: Sequence[Any]) -> Sequence[Plain]:
        self.locked.reach(Level.DEVICES)
        return self.fetch(statement, values)

    def claim_devices(
        self, which: Select[Any], parameters: Mapping[str, Any] | None = None
    ) -> Sequence[int]:
        self.locked.reach(Level.DEVICES)
        return sorted(set(self.connection.execute(which, parameters).scalars()))

    def lock_person(self, person_id: int) -> None:
        self.locked.reach(Level.PERSON)

    def lock_relays(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        self.locked.reach(Level.RELAYS)

    def claim(self, which: Select[Any]) -> Sequence[Any]:
        return self.connection.execute(which).scalars().all()

    def alone(self, name: str) -> bool:
        return True

    def database_bytes(self) -> int:
        statement = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return int(self._driver().execute(statement).fetchone()[0])

    def _driver(self) -> sqlite3.Cursor:
        try:
            return self._cursor
        except AttributeError:
            # SQLite is the one driver, which the pool's own type does not say.
            self._cursor = cast("sqlite3.Cursor", self.connection.connection.cursor())
            return self._cursor

    def fetch(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Plain]:
        return self._driver().execute(statement, values).fetchall()

    def change(self, statement: str, values: Sequence[Any]) -> int:
        return self._driver().execute(statement, values).rowcount

    def change_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        return self._driver().executemany(statement, rows).rowcount

    def book(
        self,
        changes: Sequence[tuple[int, int]],
        columns: Sequence[str],
        transfers: Sequence[Sequence[Any]],
        device: OneRow | None = None,
    ) -> int:
        changed = self.change_many(_CHANGE_BALANCE, [(days, id_, -days) for id_, days in changes])
        self.add_rows("transfer", columns, transfers)
        if device is not None:
            self.change_rows("device", device[0], [device[1]])
        return changed

    def fetch_devices(self, statement: str, serials: Sequence[str]) -> Sequence[Plain]:
        self.locked.reach(Level.DEVICES)
        found: list[Plain] = []
        for start in range(0, len(serials), _MARKS_MAX):
            part = serials[start : start + _MARKS_MAX]
            which = f"d.ended_at IS NULL AND d.serial IN ({','.join('?' * len(part))})"
            found += self.fetch(statement.format(which), part)
        return found

    def change_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        self._driver().executemany(update_one(table, tuple(columns)), rows)

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._driver().executemany(insert_one(table, tuple(columns)), rows)


class SqliteStore(Store):
    """SQLite with one writer thread: people's transactions share commits and go first."""

    def __init__(
        self, path: Path, now_ms: Callable[[], int], guard: ClockGuard | None = None
    ) -> None:
        self.path = path
        self._now_ms = now_ms
        self._guard = guard
        self._engine = sqlite_engine(path, writing=True)
        self._readers = sqlite_engine(path, writing=False)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._lanes: tuple[deque[Work], ...] = tuple(deque() for _ in Lane)
        self._wake = threading.Condition()
        self._listeners: dict[Signal, list[Callable[[], None]]] = {}
        self._closing = False
        self._passed_over = 0
        self._group: list[Work] = []  # under way
        self._since_s: float | None = None  # when it began
        self._unable = ""
        self._traces = False  # whether the log of changes holds what is to leave no trace
        self.commits = 0
        self._thread = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._thread.start()

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
        with self._wake:
            if self._closing:
                raise StoreClosed("the store is closed")
            if len(self._lanes[lane]) >= QUEUE_MAX:
                raise StoreBusy("too many transactions are waiting")
            self._lanes[lane].append(work)
            self._wake.notify()
        return await asyncio.wrap_future(done)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        if self._closing:
            raise StoreClosed("the store is closed")

        def work() -> T:
            try:
                with self._readers.begin() as connection:
                    now_ms = self._now_ms()
                    tx = SqliteTransaction(
                        connection, now_ms, "", writing=False, trust=self._trust()
                    )
                    return function(tx)
            except DBAPIError as error:
                unable = _unable(error)
                if unable is None:
                    raise
                raise unable from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def listen(self, signal: Signal, listener: Callable[[], None]) -> None:
        self._listeners.setdefault(signal, []).append(listener)

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._pool.shutdown()
        self._readers.dispose()
        self._engine.dispose()

    def waiting(self) -> int:
        return sum(len(lane) for lane in self._lanes)

    def trouble(self) -> str:
        since_s = self._since_s
        if since_s is not None and time.monotonic() - since_s > STUCK_S_MAX:
            return f"a transaction has taken longer than {STUCK_S_MAX:.0f} s"
        return self._unable

    def version(self) -> str:
        return f"sqlite {sqlite3.sqlite_version}"

    def _trust(self) -> Trust:
        return TRUSTED if self._guard is None else self._guard.trust()

    def _write_forever(self) -> None:
        try:
            with self._engine.connect() as connection:
                while group := self._next_group():
                    self._group, self._since_s = group, time.monotonic()
                    self._commit(connection, group)
                    self._group, self._since_s = [], None
        except BaseException:
            log.critical("the writer ended, nothing can be stored any more", exc_info=True)
            self._abandon()

    def _abandon(self) -> None:
        """Tells all who wait; whoever comes later is told by `write`."""
        with self._wake:
            self._closing, self._unable, self._since_s = True, "the writer ended", None
            left = [*self._group, *(work for lane in self._lanes for work in lane)]
            for lane in self._lanes:
                lane.clear()
        for work in left:
            if not work.done.done():
                work.done.set_exception(StoreClosed("the writer ended"))

    def _next_group(self) -> list[Work]:
        """People first, but ingest is served after each group and jobs are never starved."""
        people, ingest, jobs = self._lanes
        with self._wake:
            while not (people or ingest or jobs):
                if self._closing:
                    return []
                self._wake.wait()
            self._passed_over += 1
            if jobs and (self._passed_over >= 16 or not (people or ingest)):
                self._passed_over = 0
                return [jobs.popleft()]
            if people and (self._passed_over % 2 or not ingest):
                return [people.popleft() for _ in range(min(len(people), SHARED_COMMITS_MAX))]
            if ingest:
                return [ingest.popleft() for _ in range(min(len(ingest), SHARED_BATCHES_MAX))]
            return [(people or jobs).popleft()]

    def _commit(self, connection: Connection, group: list[Work]) -> None:
        # A caller that gave up before its turn is left out; after this none can.
        group = [work for work in group if work.done.set_running_or_notify_cancel()]
        if not group:
            return
        finished: list[tuple[Work, Any]] = []
        refused: list[tuple[Work, Exception]] = []
        signals: set[Signal] = set()
        # The clock is judged after it was read, so a step before that is noticed.
        now_ms, trust = self._now_ms(), self._trust()
        try:
            with connection.begin():
                for work in group:
                    tx = SqliteTransaction(
                        connection, now_ms, work.operation_id, tree=work.tree, trust=trust
                    )
                    try:
                        if len(group) == 1:
                            result = work.function(tx)
                            tx.write_at_end()
                        else:
                            with apart(connection):
                                result = work.function(tx)
                                tx.write_at_end()
                    except Exception as error:  # belongs to whoever asked
                        if len(group) == 1 or not in_transaction(connection):
                            # SQLite gives up a whole transaction at some errors, such as a full
                            # disk; then nothing of the others' work is left either.
                            raise
                        # Told once what it was refused for is there for everybody to see.
                        refused.append((work, _unable(error) or error))
                    else:
                        finished.append((work, result))
                        signals |= tx.signals
                        self._traces |= tx.traceless
        except Exception as error:  # noqa: BLE001  # nothing of the group was kept; all are told
            told = _unable(error) or error
            if isinstance(told, StoreUnable):
                self._unable = str(told)
                told.__cause__ = error
            for work in group:
                if not work.done.done():
                    work.done.set_exception(told)
            return
        self.commits += 1
        self._unable = ""
        if self._traces:  # before it is told; while somebody reads, it is left to a next commit
            self._traces = not emptied(connection)
        for work, why in refused:
            work.done.set_exception(why)
        for work, result in finished:
            work.done.set_result(result)
        for signal in signals:
            for listener in self._listeners.get(signal, ()):
                listener()
