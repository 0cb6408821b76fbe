"""Whether a database still refuses to change rows that are never changed."""

from collections.abc import Iterator

from sqlalchemy import Connection

APPEND_ONLY = ("transfer", "audit", "audit_seal")

# What a trigger of PostgreSQL does when it fires, as bits: BEFORE, and for each row or once.
_POSTGRES_KINDS = {"update": 1 | 2 | 16, "delete": 1 | 2 | 8, "truncate": 2 | 32}
_POSTGRES = """
SELECT t.tgrelid::regclass::text, t.tgtype::integer, p.prosrc,
       t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr::text = ''
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal
"""
_SQLITE = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"


def append_only_findings(connection: Connection) -> Iterator[str | None]:
    """One finding for each trigger that is missing, switched off, or not what was made."""
    if connection.dialect.name == "postgresql":
        return _in_postgres(connection)
    return _in_sqlite(connection)


def _in_sqlite(connection: Connection) -> Iterator[str | None]:
    made = map(tuple, connection.exec_driver_sql(_SQLITE))
    found: dict[str, str] = dict(made)
    for table in APPEND_ONLY:
        for event in ("update", "delete"):
            sql = found.get(f"{table}_no_{event}", "")
            whole = f"BEFORE {event.upper()} ON {table} " in sql and "RAISE(ABORT" in sql
            yield None if whole and "WHEN" not in sql else f"{table}_no_{event} is missing"


def _in_postgres(connection: Connection) -> Iterator[str | None]:
    found = {
        (table, kind)
        for table, kind, source, always in connection.exec_driver_sql(_POSTGRES)
        if always and source.strip().startswith("BEGIN RAISE EXCEPTION ")
    }
    for table in APPEND_ONLY:
        for event, kind in _POSTGRES_KINDS.items():
            yield None if (table, kind) in found else f"{table}_no_{event} is missing"
