"""One connection to PostgreSQL, made again when it is lost, and transactions on it."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, cast
from zlib import crc32

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from sqlalchemy import Column, Connection, Engine, Select, bindparam, create_engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from gateway.storage.locks import Level, Tree
from gateway.storage.postgres_arrays import (
    CHANGE_BALANCES,
    array,
    arrays,
    book_one_statement,
    type_names,
    update_statement,
)
from gateway.storage.schema import device_live, person, relay
from gateway.storage.statements import insert_one, update_one
from gateway.storage.transaction import OneRow, Plain, Transaction

CONNECT_S_MAX = 5
STATEMENT_S_MAX = 30
LOCK_S_MAX = 10
# A gateway that is stopped in the middle of a transaction must not stop all others.
IDLE_IN_TRANSACTION_S_MAX = 30
_OPTIONS = {
    "statement_timeout": f"{STATEMENT_S_MAX}s",
    "lock_timeout": f"{LOCK_S_MAX}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S_MAX}s",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "jit": "off",
}
SENT_TOGETHER_MIN = 4  # statements; to begin and end a pipeline costs as much as three
COPIED_MIN = 8  # fewer rows are inserted: `COPY` asks the server three times
# Advisory locks have two numbers: ours, and which.
LOCK_SPACE = int.from_bytes(b"flee", "big")
_TREE_LOCK = 1
_NAMED = 1 << 30

_NOW = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
# The instant after the lock: whoever waited for it must not work with an older one.
_BEGIN = {
    tree: f"BEGIN; SELECT pg_current_xact_id()::text, {_NOW} {lock}"
    for tree, lock in {
        Tree.SHARED: f"FROM pg_advisory_xact_lock_shared({LOCK_SPACE}, {_TREE_LOCK})",
        Tree.ALONE: f"FROM pg_advisory_xact_lock({LOCK_SPACE}, {_TREE_LOCK})",
        Tree.UNTOUCHED: "",
    }.items()
}
_LOCK_SERIALS = """
SELECT l.device_id FROM device_live AS l JOIN device AS d ON d.id = l.device_id
WHERE d.ended_at IS NULL AND d.serial {}
ORDER BY l.device_id FOR NO KEY UPDATE OF l
"""
_ONE_OF_IDS = "d.id = ANY(?::bigint[])"
_BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_NOW}"


def engine_of(url: str) -> Engine:
    """An engine without a pool, whose connections begin no transaction by themselves."""
    options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
    conninfo = make_conninfo(
        url,
        connect_timeout=CONNECT_S_MAX,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=20_000,
        application_name=f"fleetgate {os.getpid()}",
        options=options,
    )

    def connect() -> "psycopg.Connection[Any]":
        return psycopg.connect(conninfo, autocommit=True)

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )


def driver_error(error: BaseException) -> psycopg.Error | None:
    """The driver's error in what was raised, or in one that led to it."""
    cause: BaseException | None = error
    while cause is not None:
        found = cause.orig if isinstance(cause, DBAPIError) else cause
        if isinstance(found, psycopg.Error):
            return found
        cause = cause.__cause__ or cause.__context__
    return None


class PostgresTransaction(Transaction):
    """A transaction on a connection of its own."""

    __slots__ = ("driver",)

    driver: "psycopg.Cursor[Plain]"

    FOR_UPDATE = " FOR NO KEY UPDATE"

    def lock_devices(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        self.locked.reach(Level.DEVICES)
        statement = _locking(device_live.c.device_id, which)
        self.locked.devices.update(self.connection.execute(statement, parameters).scalars())

    def fetch_locked(self, statement: str, values: Sequence[Any]) -> Sequence[Plain]:
        self.locked.reach(Level.DEVICES)
        # In this order: a row of `device` is changed by who holds that of `device_live`.
        found = self.fetch(f"{statement} FOR NO KEY UPDATE OF device_live, device", values)
        self.locked.devices.update([row[0] for row in found])
        return found

    def _lock_serials(self, serials: Sequence[str]) -> list[int]:
        self.locked.reach(Level.DEVICES)
        if len(serials) == 1:
            # Of its own: a statement with an array is planned anew each time.
            found = self.fetch(_LOCK_SERIALS.format("= ?"), serials)
        else:
            found = self.fetch(_LOCK_SERIALS.format("= ANY(?::text[])"), (array("text", serials),))
        ids = [row[0] for row in found]
        self.locked.devices.update(ids)
        return ids

    def claim_devices(
        self, which: Select[Any], parameters: Mapping[str, Any] | None = None
    ) -> Sequence[int]:
        self.locked.reach(Level.DEVICES)
        statement = _locking(device_live.c.device_id, which, wait=False)
        found = self.connection.execute(statement, parameters).scalars().all()
        self.locked.devices.update(found)
        return found

    def lock_person(self, person_id: int) -> None:
        self.locked.reach(Level.PERSON)
        self.connection.execute(_LOCK_PERSON, {"locked": person_id})

    def lock_relays(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        self.locked.reach(Level.RELAYS)
        self.connection.execute(_locking(relay.c.id, which), parameters)

    def claim(self, which: Select[Any]) -> Sequence[Any]:
        statement = which.with_for_update(skip_locked=True, key_share=True)
        return self.connection.execute(statement).scalars().all()

    def alone(self, name: str) -> bool:
        statement = "SELECT pg_try_advisory_xact_lock(%s, %s)"
        number = _NAMED + crc32(name.encode()) % _NAMED
        row = self.driver.execute(statement, (LOCK_SPACE, number)).fetchone()
        return row is not None and bool(row[0])

    def database_bytes(self) -> int:
        row = self.driver.execute("SELECT pg_database_size(current_database())").fetchone()
        return 0 if row is None else int(row[0])

    def fetch(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Plain]:
        return self.driver.execute(_for_driver(statement), values).fetchall()

    def change(self, statement: str, values: Sequence[Any]) -> int:
        return self.driver.execute(_for_driver(statement), values).rowcount

    def change_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        if len(rows) < SENT_TOGETHER_MIN:
            return sum(self.change(statement, values) for values in rows)
        self.driver.executemany(_for_driver(statement), rows)
        return self.driver.rowcount

    def book(
        self,
        changes: Sequence[tuple[int, int]],
        columns: Sequence[str],
        transfers: Sequence[Sequence[Any]],
        device: OneRow | None = None,
    ) -> int:
        if len(transfers) == 1 and changes:
            # As most are: all in one exchange with the server.
            names, values = device or ((), ())
            statement = book_one_statement(tuple(columns), len(changes), tuple(names))
            given = [*chain.from_iterable(changes), *transfers[0], *values]
            ((changed,),) = self.fetch(statement, given)
            return int(changed)
        if device is not None:
            self.change_rows("device", device[0], [device[1]])
        self.add_rows("transfer", columns, transfers)
        if not changes:
            return 0
        accounts, days = zip(*changes, strict=True)
        return self.change(CHANGE_BALANCES, [array("bigint", accounts), array("bigint", days)])

    def fetch_devices(self, statement: str, serials: Sequence[str]) -> Sequence[Plain]:
        ids = self._lock_serials(serials)
        # In a statement of its own: what was waited for has changed since the other began.
        return self.fetch(statement.format(_ONE_OF_IDS), (array("bigint", ids),))

    def change_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        names = tuple(columns)
        if len(rows) < SENT_TOGETHER_MIN:
            for row in rows:
                self.change(update_one(table, names), row)
        else:
            self.change(update_statement(table, names), arrays(table, names, rows))

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        names = tuple(columns)
        if len(rows) < COPIED_MIN:
            if rows:
                self.change_many(insert_one(table, names), rows)
            return
        statement = f"COPY {table} ({','.join(names)}) FROM STDIN (FORMAT BINARY)"
        with self.driver.copy(statement) as copy:
            copy.set_types(type_names(table, names))
            for row in rows:
                copy.write_row(row)

    def write_at_end(self) -> None:
        sizes = tuple((*where, len(rows)) for where, rows in self.at_end.items())
        if sum(size for _, _, size in sizes) >= COPIED_MIN:
            super().write_at_end()
        elif sizes:
            self.driver.execute(*self.last_statement())
            self.at_end.clear()

    def last_statement(self) -> tuple[bytes, list[Any]]:
        """What adds the rows at the end; there are some, and few."""
        sizes = tuple((*where, len(rows)) for where, rows in self.at_end.items())
        rows = chain.from_iterable(self.at_end.values())
        return _insert_all(sizes), list(chain.from_iterable(rows))

    @property
    def ends_with_few(self) -> bool:
        """Whether what is added at the end goes along with the commit."""
        return 0 < sum(map(len, self.at_end.values())) < COPIED_MIN


@lru_cache(maxsize=64)
def _insert_all(sizes: tuple[tuple[str, tuple[str, ...], int], ...]) -> bytes:
    """Adds so many rows to each of some tables, in one statement."""
    *first, last = (
        f"INSERT INTO {table} ({','.join(columns)}) VALUES "  # noqa: S608 - names of ours
        + ",".join([f"({','.join(['%s'] * len(columns))})"] * size)
        for table, columns, size in sizes
    )
    named = ",".join(f"part_{number} AS ({one})" for number, one in enumerate(first))
    return (f"WITH {named} {last}" if named else last).encode()


@lru_cache(maxsize=64)
def _locking(column: Column[Any], which: Select[Any], *, wait: bool = True) -> Select[Any]:
    """Locks the rows of a table whose ids are selected, in the order of their ids.

    Weak enough to let others add rows that refer to them. Most selections are made once, at an
    import, and putting such a statement together costs more than running it.
    """
    found = select(column).where(column.in_(which.scalar_subquery())).order_by(column)
    return found.with_for_update(key_share=True, skip_locked=not wait)


_LOCK_PERSON = (
    select(person.c.id).where(person.c.id == bindparam("locked")).with_for_update(key_share=True)
)


@lru_cache(maxsize=256)
def _for_driver(statement: str) -> bytes:
    return statement.replace("%", "%%").replace("?", "%s").encode()


class PostgresSession:
    """Belongs to one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._cursor: psycopg.Cursor[Plain] | None = None
        self._last: psycopg.ClientCursor[Plain] | None = None

    def open(self) -> "tuple[Connection, psycopg.Connection[Any]]":
        """The connection, made now if there is none. Raises the driver's error."""
        if self._connection is None:
            self._connection = self._engine.connect()
        raw = self._connection.connection.driver_connection
        return self._connection, cast("psycopg.Connection[Any]", raw)

    def cursor(self) -> "psycopg.Cursor[Plain]":
        """The connection's one cursor: to make another costs as much as a statement."""
        if self._cursor is None:
            _, raw = self.open()
            self._cursor = raw.cursor()
        return self._cursor

    def drop(self) -> None:
        """Forgets the connection, which may be broken."""
        self._cursor = self._last = None
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def begin(self, tree: Tree) -> tuple[Connection, str, int]:
        """Begins a writing transaction: connection, transaction id, and the database's instant."""
        connection, _ = self.open()
        number, at_ms = self._begun(_BEGIN[tree])
        return connection, number, at_ms

    def begin_reading(self) -> tuple[Connection, int]:
        """Begins a transaction with one view of the database: connection and instant."""
        connection, _ = self.open()
        (at_ms,) = self._begun(_BEGIN_READING)
        return connection, at_ms

    def _begun(self, statements: str) -> Plain:
        """What the second of two statements answers, the first being `BEGIN`."""
        cursor = self.cursor()
        cursor.execute(statements, prepare=False)
        cursor.nextset()
        row = cursor.fetchone()
        assert row is not None
        return row

    def commit(self, last: tuple[bytes, list[Any]] | None = None) -> None:
        """Ends the transaction, after a last statement if there is one: both in one exchange.

        Raises the driver's error; where the last statement fails nothing is committed.
        """
        connection, raw = self.open()
        if last is None:
            raw.commit()
        else:
            if self._last is None:
                self._last = psycopg.ClientCursor(raw)
            statement, values = last
            self._last.execute(statement + b"; COMMIT", values)
        connection.rollback()  # the library's own notion of it

    def rollback(self) -> None:
        """Gives up the transaction, and the connection where that does not work."""
        connection, raw = self.open()
        try:
            raw.rollback()
            connection.rollback()
        except psycopg.Error:
            self.drop()

    @property
    def failed(self) -> bool:
        """Whether a statement of the transaction failed, so that nothing of it can be kept."""
        if self.broken:
            return True  # a new connection would know nothing of it
        _, raw = self.open()
        return raw.info.transaction_status is TransactionStatus.INERROR

    @property
    def broken(self) -> bool:
        """Whether the connection is lost."""
        # The library lets go of a connection that broke in one of its own statements.
        if self._connection is None or self._connection.invalidated:
            return True
        _, raw = self.open()
        return bool(raw.closed)
