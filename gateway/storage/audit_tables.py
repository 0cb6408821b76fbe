"""The tables of what was done: the audit with its chain, and events for those who watch."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, text

from gateway.storage.columns import Id, id_column, instant, metadata

# Append-only: the database refuses to change a row.
audit = Table(
    "audit",
    metadata,
    id_column(),
    instant("at"),
    Column("actor", Text, nullable=False),  # who did it
    Column("owner_id", Id),  # whose session it was
    Column("verb", Text, nullable=False),
    Column("company_id", Id),
    Column("device_id", Id),
    Column("serial", Text),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON; nothing personal
    # JSON: of each personal value the SHA-256 of salt and value, so that the chain covers it.
    Column("digests", Text, nullable=False, server_default="{}"),
    Index(None, "company_id", "id"),
    Index(None, "serial", "id"),
    Index(None, "subject", "id"),
)

# Names, addresses and the like, which may be erased; without its salt a digest says nothing.
audit_personal = Table(
    "audit_personal",
    metadata,
    Column("audit_id", Id, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("person_id", Id),  # whose value it is
    Column("value", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Index(None, "person_id"),
)

# The one chain: each hash covers the one before and the whole row. Append-only, too.
audit_seal = Table(
    "audit_seal",
    metadata,
    Column("position", Id, primary_key=True),
    Column("audit_id", Id, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False),
)

# What happened, for those who watch; a position is given in the order of commits.
event = Table(
    "event",
    metadata,
    id_column(),
    Column("position", BigInteger, unique=True),
    instant("at"),
    Column("kind", Text, nullable=False),
    Column("company_id", Id, nullable=False),
    Column("serial", Text),
    Column("subject", Text, nullable=False),
    Column("person_id", Id),  # whose it is; who else hears of it is said by its kind
    Column("detail", Text, nullable=False),  # JSON
    Index(
        "ix_event_unplaced",
        "id",
        sqlite_where=text("position IS NULL"),
        postgresql_where=text("position IS NULL"),
    ),
    Index(None, "at"),
)
