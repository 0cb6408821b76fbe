"""Many values at once for PostgreSQL: columns as arrays, written as its text form of arrays.

The driver writes arrays value by value, which costs four times as much as all the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Text
from sqlalchemy.types import TypeEngine

from gateway.storage.columns import metadata
from gateway.storage.statements import update_one

Values = Sequence[Any]


def _numbers(values: Values) -> str:
    return ",".join(["NULL" if value is None else str(value) for value in values])


def _texts(values: Values) -> str:
    return ",".join(["NULL" if value is None else _quoted(value) for value in values])


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary(values: Values) -> str:
    return ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values])


def _truths(values: Values) -> str:
    return ",".join(["NULL" if value is None else "t" if value else "f" for value in values])


_FORMS: Mapping[str, Callable[[Values], str]] = {
    "bigint": _numbers,
    "integer": _numbers,
    "text": _texts,
    "bytea": _binary,
    "boolean": _truths,
}
# The narrower first: a column of many bits is one of few to SQLAlchemy.
_NAMES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Boolean, "boolean"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


def array(type_name: str, values: Values) -> str:
    """The values as the text of an array, to be cast to `type_name[]`."""
    return f"{{{_FORMS[type_name](values)}}}"


@lru_cache(maxsize=64)
def type_names(table: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """PostgreSQL's names of the types of these columns."""
    found = metadata.tables[table].c
    return tuple(_type_name(found[name].type) for name in columns)


def _type_name(of: TypeEngine[Any]) -> str:
    return next(name for kind, name in _NAMES if isinstance(of, kind))


def arrays(table: str, columns: tuple[str, ...], rows: Sequence[Values]) -> list[str]:
    """The rows' values as one array for each column."""
    types = type_names(table, columns)
    by_column = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return [array(*pair) for pair in zip(types, by_column, strict=True)]


_CHANGE_BALANCES = """
UPDATE account SET balance = balance + given.days
FROM {} AS given(id, days) WHERE account.id = given.id AND balance + given.days >= 0
"""
CHANGE_BALANCES = _CHANGE_BALANCES.format("unnest(?::bigint[], ?::bigint[])")


@lru_cache(maxsize=16)
def book_one_statement(columns: tuple[str, ...], changes: int, device: tuple[str, ...]) -> str:
    """Changes some balances, adds one transfer, and changes a device if columns of it are given.

    Without arrays: a statement with an array is planned anew each time, which takes as long as all
    the rest of it.
    """
    marks = ", ".join(f"?::{name}" for name in type_names("transfer", columns))
    given = ", ".join(["(?::bigint, ?::bigint)"] * changes)
    changed = _CHANGE_BALANCES.format(f"(VALUES {given})")
    saved = f", saved AS ({update_one('device', device)})" if device else ""
    return (
        f"WITH changed AS ({changed} RETURNING 1),"  # noqa: S608 - names of our own
        f" booked AS (INSERT INTO transfer ({', '.join(columns)}) VALUES ({marks}))"
        f"{saved} SELECT count(*) FROM changed"
    )


@lru_cache(maxsize=64)
def update_statement(table: str, columns: tuple[str, ...]) -> str:
    """Sets all but the last column, the key that finds the rows, from an array for each."""
    *changed, key = columns
    marks = ", ".join(f"?::{name}[]" for name in type_names(table, columns))
    pairs = ", ".join(f"{name} = new.{name}" for name in changed)
    return (
        f"UPDATE {table} AS old SET {pairs}"  # noqa: S608 - names of our own tables
        f" FROM unnest({marks}) AS new({', '.join(columns)}) WHERE old.{key} = new.{key}"
    )
