"""People: invitations, second factor, scopes of tokens, settings, mail, sealed audit, events."""

import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from gateway.storage.migrations.append_only import append_only

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Applies this revision."""
    _persons()
    _invitations()
    _sign_ins_and_tokens()
    _settings_and_mail()
    _audit()
    _events()


def _persons() -> None:
    op.add_column("person", sa.Column("language", sa.Text(), server_default="", nullable=False))
    op.add_column("person", sa.Column("totp_secret", sa.LargeBinary(), nullable=True))
    op.add_column("person", sa.Column("totp_since", sa.BigInteger(), nullable=True))
    op.add_column("person", sa.Column("totp_step", sa.Integer(), nullable=True))
    op.add_column("person", sa.Column("totp_reset_at", sa.BigInteger(), nullable=True))
    op.add_column("person", sa.Column("erased_at", sa.BigInteger(), nullable=True))
    op.add_column("membership", sa.Column("until", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_membership_company_id"), "membership", ["company_id"])
    op.create_table(
        "password_reset",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.id"], name=op.f("fk_password_reset_person_id")
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_password_reset")),
    )
    op.create_index(op.f("ix_password_reset_person_id"), "password_reset", ["person_id"])
    op.create_table(
        "password_reset_asked",
        sa.Column("id", _ID, nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_password_reset_asked")),
    )
    op.create_table(
        "recovery_code",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.id"], name=op.f("fk_recovery_code_person_id")
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_recovery_code")),
    )
    op.create_index(op.f("ix_recovery_code_person_id"), "recovery_code", ["person_id"])


def _invitations() -> None:
    op.create_table(
        "invitation",
        sa.Column("id", _ID, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("company_id", _ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("inviter_id", _ID, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_because", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_invitation_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["inviter_id"], ["person.id"], name=op.f("fk_invitation_inviter_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitation")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitation_token_hash")),
    )
    op.create_index(op.f("ix_invitation_company_id_id"), "invitation", ["company_id", "id"])
    op.create_index(
        op.f("ix_invitation_inviter_id_sent_at"), "invitation", ["inviter_id", "sent_at"]
    )
    op.create_index(
        "uq_invitation_open",
        "invitation",
        ["company_id", "email_key"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "support_access",
        sa.Column("id", _ID, nullable=False),
        sa.Column("company_id", _ID, nullable=False),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("fk_support_access_company_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_access")),
    )
    op.create_index(
        op.f("ix_support_access_company_id_until"), "support_access", ["company_id", "until"]
    )


def _sign_ins_and_tokens() -> None:
    """Sign-ins end, since they are made otherwise now; tokens stay, and may do everything."""
    op.drop_table("sign_in")
    op.create_table(
        "sign_in",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("second_factor", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_sign_in_person_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sign_in")),
        sa.UniqueConstraint("id", name=op.f("uq_sign_in_id")),
    )
    op.create_index(op.f("ix_sign_in_person_id"), "sign_in", ["person_id"])
    kept = op.get_bind().execute(
        sa.text("SELECT token_hash, person_id, name, created_at, expires_at FROM api_token")
    )
    tokens = [{**row, "id": secrets.token_hex(8)} for row in kept.mappings()]
    op.drop_table("api_token")
    op.create_table(
        "api_token",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("companies", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_api_token_person_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_api_token")),
        sa.UniqueConstraint("id", name=op.f("uq_api_token_id")),
    )
    op.create_index(op.f("ix_api_token_person_id"), "api_token", ["person_id"])
    for token in tokens:
        op.get_bind().execute(
            sa.text(
                "INSERT INTO api_token (token_hash, id, person_id, name, scopes, companies,"
                " created_at, expires_at) VALUES (:token_hash, :id, :person_id, :name,"
                " '[\"all\"]', '[]', :created_at, :expires_at)"
            ),
            token,
        )


def _settings_and_mail() -> None:
    op.create_table(
        "setting",
        sa.Column("company_id", _ID, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "key", name=op.f("pk_setting")),
    )
    op.create_table(
        "mail",
        sa.Column("id", _ID, nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("person_id", _ID, nullable=True),
        sa.Column("company_id", _ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_mail_attempts")),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_mail_company_id")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_mail_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail")),
    )
    op.create_index(
        "ix_mail_waiting",
        "mail",
        ["next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index(
        "ix_mail_given_up",
        "mail",
        ["id"],
        sqlite_where=sa.text("next_at IS NULL AND sent_at IS NULL"),
        postgresql_where=sa.text("next_at IS NULL AND sent_at IS NULL"),
    )
    op.create_index("ix_mail_person_id", "mail", ["person_id"])
    op.create_table(
        "notice_due",
        sa.Column("person_id", _ID, autoincrement=False, nullable=False),
        sa.Column("notice_id", _ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("person_id", "notice_id", name=op.f("pk_notice_due")),
    )


def _audit() -> None:
    op.add_column("audit", sa.Column("digests", sa.Text(), server_default="{}", nullable=False))
    op.create_table(
        "audit_personal",
        sa.Column("audit_id", _ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("person_id", _ID, nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", "name", name=op.f("pk_audit_personal")),
    )
    op.create_index(op.f("ix_audit_personal_person_id"), "audit_personal", ["person_id"])
    op.create_table(
        "audit_seal",
        sa.Column("position", _ID, nullable=False),
        sa.Column("audit_id", _ID, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_seal")),
        sa.UniqueConstraint("audit_id", name=op.f("uq_audit_seal_audit_id")),
    )
    append_only(op, "audit_seal", "the chain of the audit is never changed")


def _events() -> None:
    op.create_table(
        "event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("company_id", _ID, nullable=False),
        sa.Column("serial", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("person_id", _ID, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("position", name=op.f("uq_event_position")),
    )
    op.create_index(
        "ix_event_unplaced",
        "event",
        ["id"],
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_index(op.f("ix_event_at"), "event", ["at"])
