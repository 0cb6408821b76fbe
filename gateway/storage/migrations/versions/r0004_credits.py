"""The book of credits: codes, requests, prices, notices, replacements, places."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_INTO_POOLS = (
    "kind NOT IN ('activate', 'extend', 'courtesy', 'day', 'serve', 'forfeit', 'carry', 'expire')"
)


def upgrade() -> None:
    """Applies this revision."""
    id_type = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "monitored_month",
        sa.Column("company_id", id_type, autoincrement=False, nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("device_id", id_type, autoincrement=False, nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("paid_days", sa.Integer(), nullable=False),
        sa.Column("free_days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "company_id", "month", "device_id", name=op.f("pk_monitored_month")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "company_place",
        sa.Column("id", id_type, nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_company_place_company_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company_place")),
    )
    op.create_index(
        op.f("ix_company_place_company_id_at"), "company_place", ["company_id", "at"], unique=False
    )

    op.create_table(
        "credit_code",
        sa.Column("id", id_type, nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("redeemed_company_id", id_type, nullable=True),
        sa.Column("redeemed_by", sa.Text(), nullable=True),
        sa.Column("redeemed_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_because", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_credit_code_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["redeemed_company_id"], ["company.id"], name=op.f("fk_credit_code_redeemed_company_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_code")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_credit_code_code_hash")),
    )
    op.create_index(
        op.f("ix_credit_code_company_id_id"), "credit_code", ["company_id", "id"], unique=False
    )

    op.create_table(
        "credit_request",
        sa.Column("id", id_type, nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("parent_id", id_type, nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_credit_request_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["company.id"], name=op.f("fk_credit_request_parent_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_request")),
    )
    op.create_index(
        op.f("ix_credit_request_company_id_id"),
        "credit_request",
        ["company_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_credit_request_parent_id_id"), "credit_request", ["parent_id", "id"], unique=False
    )
    op.create_index(
        "uq_credit_request_open",
        "credit_request",
        ["company_id"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )

    op.create_table(
        "device_import",
        sa.Column("id", id_type, nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("checked", sa.Integer(), nullable=False),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_device_import_company_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_import")),
    )
    op.create_index(
        op.f("ix_device_import_company_id_id"), "device_import", ["company_id", "id"], unique=False
    )

    op.create_table(
        "device_move",
        sa.Column("id", id_type, nullable=False),
        sa.Column("device_id", id_type, nullable=False),
        sa.Column("from_company_id", id_type, nullable=False),
        sa.Column("to_company_id", id_type, nullable=False),
        sa.Column("free_days", sa.BigInteger(), nullable=False),
        sa.Column("paid_days", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_device_move_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["from_company_id"], ["company.id"], name=op.f("fk_device_move_from_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["to_company_id"], ["company.id"], name=op.f("fk_device_move_to_company_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_move")),
    )
    for end in ("from_company_id", "to_company_id"):
        op.create_index(op.f(f"ix_device_move_{end}_at"), "device_move", [end, "at"], unique=False)

    op.create_table(
        "notice",
        sa.Column("id", id_type, nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_notice_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("key", name=op.f("uq_notice_key")),
    )
    op.create_index(op.f("ix_notice_company_id_id"), "notice", ["company_id", "id"], unique=False)

    op.create_table(
        "price",
        sa.Column("id", id_type, nullable=False),
        sa.Column("seller_id", id_type, nullable=False),
        sa.Column("buyer_id", id_type, nullable=False),
        sa.Column("from_day", sa.Integer(), nullable=False),
        sa.Column("per_credit", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["buyer_id"], ["company.id"], name=op.f("fk_price_buyer_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["company.id"], name=op.f("fk_price_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price")),
    )
    op.create_index(
        op.f("ix_price_buyer_id_seller_id_from_day"),
        "price",
        ["buyer_id", "seller_id", "from_day"],
        unique=False,
    )

    op.create_table(
        "replacement",
        sa.Column("id", id_type, nullable=False),
        sa.Column("old_device_id", id_type, nullable=False),
        sa.Column("new_device_id", id_type, nullable=False),
        sa.Column("company_id", id_type, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.Column("kept", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_replacement_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["new_device_id"], ["device.id"], name=op.f("fk_replacement_new_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["old_device_id"], ["device.id"], name=op.f("fk_replacement_old_device_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replacement")),
    )
    op.create_index(
        op.f("ix_replacement_new_device_id"), "replacement", ["new_device_id"], unique=False
    )
    op.create_index(
        op.f("ix_replacement_old_device_id"), "replacement", ["old_device_id"], unique=False
    )

    op.add_column("account", sa.Column("code_id", id_type, nullable=True))
    op.create_index(
        "ix_account_code_id",
        "account",
        ["code_id"],
        unique=False,
        sqlite_where=sa.text("code_id IS NOT NULL"),
        postgresql_where=sa.text("code_id IS NOT NULL"),
    )

    op.add_column(
        "company", sa.Column("refunds", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column(
        "company", sa.Column("show_prices", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column(
        "company", sa.Column("billing_email", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("company", sa.Column("closed_at", sa.BigInteger(), nullable=True))
    # The name of a closed company is free for others.
    for name, columns, at in (
        ("uq_company_sibling", ["parent_id", "name_key"], "parent_id IS NOT NULL"),
        ("uq_company_root", ["name_key"], "parent_id IS NULL"),
    ):
        op.drop_index(name, "company")
        open_ones = sa.text(f"{at} AND closed_at IS NULL")
        op.create_index(
            name,
            "company",
            columns,
            unique=True,
            sqlite_where=open_ones,
            postgresql_where=open_ones,
        )

    op.add_column(
        "device", sa.Column("switched_off", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("device", sa.Column("owed_days", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "device",
        sa.Column("heard_before", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "device",
        sa.Column("rotate_secret", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("device", sa.Column("taken_over_at", sa.BigInteger(), nullable=True))
    op.add_column("device", sa.Column("import_id", id_type, nullable=True))
    op.create_index(
        "ix_device_import_id",
        "device",
        ["import_id"],
        unique=False,
        sqlite_where=sa.text("import_id IS NOT NULL"),
        postgresql_where=sa.text("import_id IS NOT NULL"),
    )
    op.create_index(
        "ix_device_former",
        "device",
        ["serial", "ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )

    op.create_index(
        op.f("ix_monitored_day_company_id_day_transfer_id"),
        "monitored_day",
        ["company_id", "day", "transfer_id"],
        unique=False,
    )

    op.add_column("transfer", sa.Column("lot_account", id_type, nullable=True))
    op.add_column("transfer", sa.Column("reverses", sa.Text(), nullable=True))
    op.create_index(
        "ix_transfer_reverses",
        "transfer",
        ["reverses"],
        unique=False,
        sqlite_where=sa.text("reverses IS NOT NULL"),
        postgresql_where=sa.text("reverses IS NOT NULL"),
    )
    op.create_index(
        "ix_transfer_in",
        "transfer",
        ["to_account", "seq"],
        unique=False,
        sqlite_where=sa.text(_INTO_POOLS),
        postgresql_where=sa.text(_INTO_POOLS),
    )
    op.create_index(
        "ix_transfer_out",
        "transfer",
        ["from_account", "seq"],
        unique=False,
        sqlite_where=sa.text("kind NOT IN ('grant', 'trial', 'serve', 'forfeit', 'carry')"),
        postgresql_where=sa.text("kind NOT IN ('grant', 'trial', 'serve', 'forfeit', 'carry')"),
    )
    # Where each company stands now is all that is known of where it stood before.
    op.execute(
        "INSERT INTO company_place (company_id, path, at) "
        "WITH RECURSIVE place(id, path, created_at) AS ("
        " SELECT id, CAST(id AS TEXT), created_at FROM company WHERE parent_id IS NULL"
        " UNION ALL SELECT c.id, place.path || '/' || CAST(c.id AS TEXT), c.created_at"
        " FROM company AS c JOIN place ON c.parent_id = place.id)"
        " SELECT id, path, created_at FROM place ORDER BY id"
    )
