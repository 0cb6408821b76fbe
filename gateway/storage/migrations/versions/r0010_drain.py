"""Relays that are being taken out of service."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Applies this revision."""
    op.add_column("relay", sa.Column("drained_epoch", sa.Text(), nullable=True))
