"""Statements on one row of a table, as both engines take them; made once for the same columns."""

from functools import lru_cache


@lru_cache(maxsize=64)
def insert_one(table: str, columns: tuple[str, ...]) -> str:
    """Adds a row."""
    marks = ",".join("?" * len(columns))
    names = ",".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours


@lru_cache(maxsize=64)
def update_one(table: str, columns: tuple[str, ...]) -> str:
    """Sets all but the last column, which is the key that finds the row."""
    *changed, key = columns
    pairs = ", ".join(f"{name} = ?" for name in changed)
    return f"UPDATE {table} SET {pairs} WHERE {key} = ?"  # noqa: S608 - names of ours
