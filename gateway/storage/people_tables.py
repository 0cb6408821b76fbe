"""The tables of people: accounts, memberships, invitations, sign-ins, tokens, settings, mail."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.storage.columns import Id, id_column, instant, link, metadata

person = Table(
    "person",
    metadata,
    id_column(),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("operator", Boolean, nullable=False),
    instant("created_at"),
    Column("language", Text, nullable=False, server_default=""),  # empty: the company's
    # The second factor: its secret sealed by the master key, the newest step that was used.
    Column("totp_secret", LargeBinary),
    instant("totp_since", nullable=True),  # empty: set up, and not confirmed yet
    Column("totp_step", Integer),
    # A lost second factor is taken away at this instant, unless the person signs in before.
    instant("totp_reset_at", nullable=True),
    instant("erased_at", nullable=True),
)

membership = Table(
    "membership",
    metadata,
    id_column(),
    link("person_id", "person.id"),
    link("company_id", "company.id"),
    Column("role", Text, nullable=False),
    instant("created_at"),
    instant("until", nullable=True),  # the role ends by itself
    UniqueConstraint("person_id", "company_id"),
    Index(None, "company_id"),
)

# Good once, until `expires_at`; the role is checked again when it is accepted.
invitation = Table(
    "invitation",
    metadata,
    id_column(),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False),
    link("company_id", "company.id"),
    Column("role", Text, nullable=False),
    instant("until", nullable=True),  # of the membership
    link("inviter_id", "person.id"),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    instant("created_at"),
    instant("sent_at"),
    Column("sends", Integer, nullable=False),  # of late: what one person sends is limited
    instant("expires_at"),
    instant("ended_at", nullable=True),
    Column("ended_because", Text),  # accepted, withdrawn, closed (the company was)
    Index(None, "company_id", "id"),
    Index(None, "inviter_id", "sent_at"),
    Index(
        "uq_invitation_open",
        "company_id",
        "email_key",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

password_reset = Table(
    "password_reset",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    link("person_id", "person.id"),
    instant("created_at"),
    instant("expires_at"),
    Index(None, "person_id"),
)

# Addresses for which a new password was asked, whether they have an account or not.
password_reset_asked = Table(
    "password_reset_asked",
    metadata,
    id_column(),
    Column("email_key", Text, nullable=False),
    instant("asked_at"),
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("code_hash", LargeBinary, primary_key=True),
    link("person_id", "person.id"),
    Index(None, "person_id"),
)

sign_in = Table(
    "sign_in",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # its public name
    link("person_id", "person.id"),
    Column("csrf", Text, nullable=False),
    instant("created_at"),
    instant("used_at"),
    instant("expires_at"),
    Column("address", Text, nullable=False, server_default=""),
    Column("user_agent", Text, nullable=False, server_default=""),
    Column("second_factor", Boolean, nullable=False, server_default=text("false")),
    Index(None, "person_id"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # its public name
    link("person_id", "person.id"),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # JSON: names of scopes; "all" alone means everything
    Column("companies", Text, nullable=False),  # JSON: ids, each with all below; empty: any
    instant("created_at"),
    instant("expires_at"),
    instant("used_at", nullable=True),
    Index(None, "person_id"),
)

# A value that a company sets for itself and all below that set none.
setting = Table(
    "setting",
    metadata,
    Column("company_id", Id, nullable=False, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    instant("set_at"),
)

# Where people from above are asked to stay out: who may come in, and until when.
support_access = Table(
    "support_access",
    metadata,
    id_column(),
    link("company_id", "company.id"),
    Column("granted_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    instant("granted_at"),
    instant("until"),
    instant("ended_at", nullable=True),
    Column("ended_by", Text),
    Index(None, "company_id", "until"),
)

# What is still to be sent, and for a while what was. The values may hold links: they are sealed,
# and taken away when the mail is sent or given up.
mail = Table(
    "mail",
    metadata,
    id_column(),
    Column("recipient", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("sealed", LargeBinary),
    link("person_id", "person.id", nullable=True),
    link("company_id", "company.id", nullable=True),
    instant("created_at"),
    instant("next_at", nullable=True),  # empty: nothing more is tried
    Column("attempts", Integer, nullable=False),
    instant("sent_at", nullable=True),
    Column("error", Text, nullable=False),
    Index(
        "ix_mail_waiting",
        "next_at",
        sqlite_where=text("next_at IS NOT NULL"),
        postgresql_where=text("next_at IS NOT NULL"),
    ),
    Index(
        "ix_mail_given_up",
        "id",
        sqlite_where=text("next_at IS NULL AND sent_at IS NULL"),
        postgresql_where=text("next_at IS NULL AND sent_at IS NULL"),
    ),
    Index(None, "person_id"),
    CheckConstraint("attempts >= 0", "attempts"),
)

# Notices that a person is still to be mailed; those of an hour go into one mail.
notice_due = Table(
    "notice_due",
    metadata,
    Column("person_id", Id, primary_key=True, autoincrement=False),
    Column("notice_id", Id, primary_key=True, autoincrement=False),
)
