"""On PostgreSQL parts of MAC addresses are found by trigrams, too."""

from collections.abc import Sequence

from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# pg_trgm's trigrams are of words: six pairs of digits are six words that half of the fleet has,
# twelve digits are one. https://www.postgresql.org/docs/current/pgtrgm.html#PGTRGM-INDEX
_POSTGRESQL = (
    "DROP INDEX IF EXISTS ix_device_search_texts",
    "CREATE INDEX ix_device_search_texts ON device_search USING gin"
    " (replace(names, ':', '') gin_trgm_ops, replace(told, ':', '') gin_trgm_ops)"
    " WITH (fastupdate = off)",
)
_HAS_TRIGRAMS = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"


def upgrade() -> None:
    """Applies this revision."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql" and bind.exec_driver_sql(_HAS_TRIGRAMS).scalar():
        for statement in _POSTGRESQL:
            bind.exec_driver_sql(statement)
