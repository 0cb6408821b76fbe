"""
The store: a transaction is a synchronous function, run by one writer thread or a few readers.

StoreError
├── StoreClosed   the gateway is stopping
└── StoreBusy     a queue is full; try again in a moment
"""

import asyncio
import logging
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from gateway.storage.transaction import Signal, Transaction

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS = 4
SHARED_COMMITS_MAX = 64  # people's transactions that one commit may carry
QUEUE_MAX = 2_000


class StoreError(Exception):
    """Anything the store raises on purpose."""


class StoreClosed(StoreError):
    """The store is closed or closing."""


class StoreBusy(StoreError):
    """Too many transactions wait already."""


class Lane(IntEnum):
    """The order in which the writer serves."""

    PEOPLE = 0
    INGEST = 1
    JOBS = 2


@dataclass(slots=True)
class _Work:
    function: Callable[[Transaction], Any]
    operation_id: str
    done: Future[Any]


def sqlite_engine(path: Path, *, writing: bool) -> Engine:
    """An engine on one file: WAL, every commit on disk, explicit transactions only."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=10
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
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


class Store:
    """SQLite with one writer thread: people's transactions share commits and go first."""

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self.path = path
        self._now_ms = now_ms
        self._engine = sqlite_engine(path, writing=True)
        self._readers = sqlite_engine(path, writing=False)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._lanes: tuple[deque[_Work], ...] = tuple(deque() for _ in Lane)
        self._wake = threading.Condition()
        self._listeners: dict[Signal, list[Callable[[], None]]] = {}
        self._closing = False
        self._passed_over = 0
        self.commits = 0
        self._thread = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._thread.start()

    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        lane: Lane = Lane.PEOPLE,
        operation_id: str | None = None,
    ) -> T:
        """Runs the function in a writing transaction; returns when it is committed.

        `operation_id` names the ledger operation: given by whoever may ask again, else random.
        Raises what the function raises (nothing is kept then), `StoreBusy`, `StoreClosed`.
        """
        done: Future[T] = Future()
        work = _Work(function, operation_id or str(uuid.uuid4()), done)
        with self._wake:
            if self._closing:
                raise StoreClosed("the store is closed")
            if len(self._lanes[lane]) >= QUEUE_MAX:
                raise StoreBusy("too many transactions are waiting")
            self._lanes[lane].append(work)
            self._wake.notify()
        return await asyncio.wrap_future(done)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        """Runs the function on one consistent view of the database."""
        if self._closing:
            raise StoreClosed("the store is closed")

        def work() -> T:
            with self._readers.begin() as connection:
                return function(Transaction(connection, self._now_ms(), ""))

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def listen(self, signal: Signal, listener: Callable[[], None]) -> None:
        """Calls the listener, on the writer's thread, after commits that carry the signal."""
        self._listeners.setdefault(signal, []).append(listener)

    def close(self) -> None:
        """Finishes what is queued, then closes."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._pool.shutdown()
        self._readers.dispose()
        self._engine.dispose()

    def waiting(self) -> int:
        """Transactions that wait for the writer."""
        return sum(len(lane) for lane in self._lanes)

    def _write_forever(self) -> None:
        connection = self._engine.connect()
        try:
            while group := self._next_group():
                self._commit(connection, group)
        finally:
            connection.close()

    def _next_group(self) -> list[_Work]:
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
            return [(ingest or people or jobs).popleft()]

    def _commit(self, connection: Connection, group: list[_Work]) -> None:
        # A caller that gave up before its turn is left out; after this none can.
        group = [work for work in group if work.done.set_running_or_notify_cancel()]
        if not group:
            return
        finished: list[tuple[_Work, Any]] = []
        signals: set[Signal] = set()
        now_ms = self._now_ms()
        try:
            with connection.begin():
                for work in group:
                    tx = Transaction(connection, now_ms, work.operation_id)
                    try:
                        if len(group) == 1:
                            result = work.function(tx)
                        else:
                            with connection.begin_nested():
                                result = work.function(tx)
                    except Exception as error:  # belongs to whoever asked
                        if len(group) == 1:
                            raise
                        work.done.set_exception(error)
                    else:
                        finished.append((work, result))
                        signals |= tx.signals
        except Exception as error:  # noqa: BLE001  # nothing of the group was kept; all are told
            for work in group:
                if not work.done.done():
                    work.done.set_exception(error)
            return
        self.commits += 1
        for work, result in finished:
            work.done.set_result(result)
        for signal in signals:
            for listener in self._listeners.get(signal, ()):
                listener()
