"""Which rule of the schema a refused row broke, told alike by both engines."""

import sqlite3
from functools import cache

import psycopg
from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.exc import IntegrityError

from gateway.storage.schema import metadata

# As the drivers tell it of rows that were added in bulk.
RULE_BROKEN = (sqlite3.IntegrityError, psycopg.IntegrityError)


def broke(error: Exception, unique: str) -> bool:
    """Whether the row would have been the second of its kind in this unique index or constraint.

    `error` may be the driver's own, of rows that were added in bulk.
    On PostgreSQL a transaction can do nothing more after any such error.
    """
    found = error.orig if isinstance(error, IntegrityError) else error
    told = getattr(getattr(found, "diag", None), "constraint_name", None)
    if told is not None:
        return bool(told == unique)
    return str(found) == f"UNIQUE constraint failed: {_columns(unique)}"


@cache
def _columns(unique: str) -> str:
    """What SQLite calls it by."""
    for table in metadata.tables.values():
        constraints = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
        kinds: list[Index | UniqueConstraint] = [*table.indexes, *constraints]
        for one in kinds:
            if one.name == unique:
                return ", ".join(f"{table.name}.{column.name}" for column in one.columns)
    raise AssertionError(unique)
