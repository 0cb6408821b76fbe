"""What is said to SQLite's own driver: savepoints, and emptying the log of changes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import Connection

BUSY_TIMEOUT_S = 10  # of a statement that finds the file locked


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's connection, which the pool's own type does not say."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


@contextmanager
def apart(connection: Connection) -> Iterator[None]:
    """A savepoint, said to the driver itself: the library's own costs as much as a statement."""
    cursor = connection.connection.cursor()
    cursor.execute("SAVEPOINT work")
    try:
        yield
    except BaseException:
        if in_transaction(connection):
            cursor.execute("ROLLBACK TO work")
            cursor.execute("RELEASE work")
        raise
    cursor.execute("RELEASE work")


def in_transaction(connection: Connection) -> bool:
    """Whether SQLite itself has not given the transaction up."""
    return driver_of(connection).in_transaction


def emptied(connection: Connection) -> bool:
    """Empties the log of changes, in which pages lie as they were before.

    Whether it could: it cannot while somebody reads, and does not wait. The pages themselves hold
    nothing of what was deleted (`secure_delete`).
    """
    driver = driver_of(connection)
    try:
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    except sqlite3.Error:
        return False  # the disk, perhaps; what was committed stays committed
    return not busy
