"""Whole tables as rows that belong to no engine: out of one database, and into a new one."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from sqlalchemy import Column, Connection, LargeBinary

from gateway.storage.address import Address, shown
from gateway.storage.locks import Tree
from gateway.storage.migrate import configuration
from gateway.storage.schema import metadata
from gateway.storage.store import new_operation_id
from gateway.storage.transaction import Plain, Transaction

ROWS_AT_ONCE = 2_000
BYTES, PLAIN = "bytes", "plain"

_TABLES_IN_POSTGRES = """
SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname <> 'information_schema'
"""

_INSERT = 'INSERT INTO "{}" ({}) VALUES ({})'
_NEWEST = "SELECT max({}) FROM {}"
_NUMBER_ON = """
SELECT setval(own.name, ?, ?) FROM (SELECT pg_get_serial_sequence(?, ?) AS name) AS own
WHERE own.name IS NOT NULL
"""


class NotEmpty(Exception):
    """Something is there already; it would be lost or mixed up."""


class Whole(NamedTuple):
    """A table as it lies in a backup: its name, and `(name, kind)` of each column."""

    name: str
    columns: tuple[tuple[str, str], ...]


def all_tables() -> list[Whole]:
    """Every table of the schema, each after those that its rows name."""
    return [
        Whole(table.name, tuple((column.name, _kind(column)) for column in table.columns))
        for table in metadata.sorted_tables
    ]


def _kind(column: Column[Any]) -> str:
    return BYTES if isinstance(column.type, LargeBinary) else PLAIN


def read_table(connection: Connection, table: Whole) -> Iterator[list[Plain]]:
    """All rows in parts, each row after those of its own table that it names."""
    names = ", ".join(f'"{name}"' for name, _ in table.columns)
    order = ""
    if table.name == "company":
        above = "SELECT count(*) FROM company_path WHERE descendant_id = company.id"
        order = f" ORDER BY ({above})"
    statement = f'SELECT {names} FROM "{table.name}"{order}'  # noqa: S608 - names of the schema
    for part in connection.exec_driver_sql(statement).partitions(ROWS_AT_ONCE):
        yield [tuple(row) for row in part]


def empty(tx: Transaction, names: Sequence[str]) -> None:
    """Takes out the few rows that making a schema puts in; `names` as `all_tables` orders them."""
    for name in reversed(names):
        tx.change(f'DELETE FROM "{name}"', ())  # noqa: S608 - checked names


def add_table(tx: Transaction, table: Whole, rows: Sequence[list[Any]]) -> None:
    """Adds rows; those of `bytes` columns come as base64."""
    binary = [place for place, (_, kind) in enumerate(table.columns) if kind == BYTES]
    for row in rows if binary else ():
        for place in binary:
            if row[place] is not None:
                row[place] = base64.b64decode(row[place])
    names = ", ".join(f'"{name}"' for name, _ in table.columns)
    driver = getattr(tx, "driver", None)
    if driver is None:
        marks = ", ".join("?" * len(table.columns))
        tx.change_many(_INSERT.format(table.name, names, marks), rows)
        return
    # As text, in which 1 is true as well: the rows may be of another engine.
    with driver.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


def number_on(tx: Transaction) -> None:
    """New rows get numbers after those that were added; SQLite does that by itself."""
    if tx.connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        newest = tx.fetch(_NEWEST.format(column.name, table.name))[0][0]
        tx.fetch(_NUMBER_ON, (newest or 1, newest is not None, table.name, column.name))


@contextmanager
def filling(
    address: Address, revision: str, *, wall_ms: int, moved_ms: int
) -> Iterator[Transaction]:
    """One transaction that makes a new database at this revision of the schema and fills it.

    Nothing is left of it unless its body comes to its end. Raises `NotEmpty`.
    """
    if isinstance(address, Path):
        with _filling_sqlite(address, wall_ms) as tx:
            command.upgrade(configuration(tx.connection), revision)
            yield tx
    else:
        with _filling_postgres(address, moved_ms) as tx:
            if tx.fetch(_TABLES_IN_POSTGRES)[0][0]:
                raise NotEmpty(
                    f"the database {shown(address)} is not empty: make a new one with createdb"
                )
            command.upgrade(configuration(tx.connection), revision)
            yield tx


def upgrade_to_newest(tx: Transaction) -> None:
    """Brings what was filled to the schema of this version."""
    command.upgrade(configuration(tx.connection), "head")


@contextmanager
def _filling_sqlite(path: Path, wall_ms: int) -> Iterator[Transaction]:
    from gateway.storage.sqlite import SqliteTransaction, sqlite_engine

    if path.exists():
        raise NotEmpty(f"{path} exists already")
    path.touch(mode=0o600)
    engine = sqlite_engine(path, writing=True)
    try:
        with engine.begin() as connection:
            yield SqliteTransaction(connection, wall_ms, new_operation_id(), tree=Tree.ALONE)
    finally:
        engine.dispose()


@contextmanager
def _filling_postgres(url: str, moved_ms: int) -> Iterator[Transaction]:
    from gateway.storage.postgres_session import PostgresSession, PostgresTransaction, engine_of

    engine = engine_of(url)
    session = PostgresSession(engine)
    try:
        connection, _, at_ms = session.begin(Tree.ALONE)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        tx = PostgresTransaction(connection, at_ms + moved_ms, new_operation_id(), tree=Tree.ALONE)
        _, raw = session.open()
        with raw.cursor() as tx.driver:
            yield tx
        session.commit()
    finally:
        session.drop()
        engine.dispose()
