"""Selects with many columns on hot paths: compiled once for each engine, rows as named tuples.

SQLAlchemy looks at each column of each answer anew, which costs more than the statement itself.
"""

from collections import namedtuple
from typing import Any, cast

from sqlalchemy import Boolean, Select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from gateway.storage.transaction import AnyRow, Plain, Transaction

_DIALECTS = {
    "sqlite": SQLiteDialect(paramstyle="qmark"),
    "postgresql": PGDialect(paramstyle="qmark"),  # type: ignore[no-untyped-call]  # not ours
}


class CompiledSelect:
    """One statement, whose rows have the columns' names as SQLAlchemy's have."""

    def __init__(self, statement: Select[Any]) -> None:
        columns = list(statement.selected_columns)
        keys = [str(column.key) for column in columns]
        self._row = namedtuple("Found", keys)  # type: ignore[misc]  # known only now
        # SQLite has no truth values, PostgreSQL's driver makes them itself.
        self._truths = [i for i, column in enumerate(columns) if isinstance(column.type, Boolean)]
        self._texts: dict[str, tuple[str, list[str], dict[str, Any]]] = {}
        for name, dialect in _DIALECTS.items():
            compiled = statement.compile(dialect=dialect)
            self._texts[name] = str(compiled), list(compiled.positiontup or ()), compiled.params

    def first(
        self, tx: Transaction, wanted: dict[str, Any], *, locked: bool = False
    ) -> AnyRow | None:
        """The first row, if there is one; `wanted` are the statement's parameters.

        `locked`: as `Transaction.fetch_locked`.
        """
        text, order, constants = self._texts[tx.connection.dialect.name]
        values = constants | wanted
        fetch = tx.fetch_locked if locked else tx.fetch
        found = fetch(text, [values[name] for name in order])
        return self._named(found[0]) if found else None

    def _named(self, row: Plain) -> AnyRow:
        values = list(row)
        for place in self._truths:
            if values[place] is not None:
                values[place] = bool(values[place])
        return cast("AnyRow", self._row(*values))
