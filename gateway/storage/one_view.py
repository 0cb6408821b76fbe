"""One consistent view of a database for as long as a program reads: nobody is kept waiting."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from gateway.storage.address import Address, shown

BUSY_S_MAX = 30.0
ROWS_AT_ONCE = 2_000

# A program that reads everything takes longer than any transaction of a gateway may.
_UNHURRIED = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"


class UnreadableDatabase(Exception):
    """It is not there, or it cannot be read."""


@contextmanager
def one_view(address: Address) -> Iterator[Connection]:
    """A connection that sees one state of a working system, and cannot change it.

    Rows come as they are asked for, so a large table takes little memory. Raises
    `UnreadableDatabase`, for errors of the database in the body too.
    """
    if isinstance(address, Path) and not address.is_file():
        raise UnreadableDatabase(f"{address}: there is no such file")
    engine = _engine(address)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.exec_driver_sql(_UNHURRIED)
            yield connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE)
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise UnreadableDatabase(f"{shown(address)}: {str(cause).strip()}") from error
    finally:
        engine.dispose()


def _engine(address: Address) -> Engine:
    if not isinstance(address, Path):
        from gateway.storage.postgres_session import engine_of

        return engine_of(address)
    uri = f"{address.absolute().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S_MAX)
        connection.execute("PRAGMA query_only = ON")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
