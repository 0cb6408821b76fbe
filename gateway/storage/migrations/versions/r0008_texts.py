"""Texts of devices are found by trigrams, without reading through all of them."""

import logging
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# https://www.sqlite.org/fts5.html#external_content_tables: an index whose texts lie in the table.
_SQLITE = (
    "CREATE VIRTUAL TABLE device_text USING fts5(names, told, content = 'device_search',"
    " content_rowid = 'device_id', columnsize = 0, tokenize = 'trigram case_sensitive 1')",
    "INSERT INTO device_text (device_text) VALUES ('rebuild')",
    "CREATE TRIGGER device_text_added AFTER INSERT ON device_search BEGIN"
    " INSERT INTO device_text (rowid, names, told)"
    " VALUES (new.device_id, new.names, new.told); END",
    "CREATE TRIGGER device_text_gone AFTER DELETE ON device_search BEGIN"
    " INSERT INTO device_text (device_text, rowid, names, told)"
    " VALUES ('delete', old.device_id, old.names, old.told); END",
    "CREATE TRIGGER device_text_changed AFTER UPDATE OF names, told ON device_search"
    " WHEN old.names <> new.names OR old.told <> new.told BEGIN"
    " INSERT INTO device_text (device_text, rowid, names, told)"
    " VALUES ('delete', old.device_id, old.names, old.told);"
    " INSERT INTO device_text (rowid, names, told)"
    " VALUES (new.device_id, new.names, new.told); END",
)
# https://www.postgresql.org/docs/current/pgtrgm.html#PGTRGM-INDEX
_POSTGRESQL = (
    "CREATE INDEX ix_device_search_texts ON device_search"
    " USING gin (names gin_trgm_ops, told gin_trgm_ops) WITH (fastupdate = off)"
)
log = logging.getLogger(__name__)


def upgrade() -> None:
    """Applies this revision."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        for statement in _SQLITE:
            bind.exec_driver_sql(statement)
    elif _has_trigrams(bind):
        bind.exec_driver_sql(_POSTGRESQL)


def _has_trigrams(bind: sa.Connection) -> bool:
    """Adds PostgreSQL's own extension, which an owner of the database may; nothing but the time
    that it takes to find a device hangs on it."""
    try:
        with bind.begin_nested():
            bind.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except (sa.exc.ProgrammingError, sa.exc.NotSupportedError, sa.exc.OperationalError) as error:
        log.warning("finding devices stays slow: no pg_trgm error=%s", error.orig)
        return False
    return True
