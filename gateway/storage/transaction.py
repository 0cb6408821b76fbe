"""What a use case is handed: one open transaction with its instant."""

import sqlite3
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Executable, Row

from gateway.domain.instants import day_of

AnyRow: TypeAlias = Row[*tuple[Any, ...]]


class Signal(StrEnum):
    """What a committed transaction may have left for the gateway's own tasks; only a hint."""

    LOGINS = "logins"
    LOGIN_REMOVED = "login_removed"
    OUTBOX = "outbox"
    RECHECK = "recheck"
    RELAY = "relay"  # a lease has something new to say


class Transaction:
    """One transaction. A use case may be run twice, so it sends nothing and reads no clock."""

    __slots__ = ("_cursor", "connection", "now_ms", "operation_id", "signals")

    def __init__(self, connection: Connection, now_ms: int, operation_id: str) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.operation_id = operation_id
        self.signals: set[Signal] = set()  # given once this transaction is committed
        self._cursor: sqlite3.Cursor | None = None

    @property
    def today(self) -> int:
        """The UTC day of this transaction, by the database host's clock."""
        return day_of(self.now_ms)

    def all(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[AnyRow]:
        """Every row of the answer."""
        return self.connection.execute(statement, parameters).fetchall()

    def one(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> AnyRow | None:
        """The first row, if there is one."""
        return self.connection.execute(statement, parameters).first()

    def scalar(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Any:
        """The first value of the first row, or None."""
        return self.connection.execute(statement, parameters).scalar()

    def run(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Executes and returns how many rows it touched."""
        return int(self.connection.execute(statement, parameters).rowcount)

    def insert(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Executes an insert and returns the new row's id."""
        result = self.connection.execute(statement, parameters)
        key = result.inserted_primary_key
        assert key is not None
        return int(key[0])

    @property
    def cursor(self) -> sqlite3.Cursor:
        """The driver's own cursor, for the hot statements of ingest."""
        if self._cursor is None:
            # SQLite is the one driver, which the pool's own type does not say.
            self._cursor = cast("sqlite3.Cursor", self.connection.connection.cursor())
        return self._cursor
