"""The tables of the book of credits beside accounts and transfers: codes, requests, prices,
notices, replacements, and where each company stood when."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from gateway.storage.columns import Id, id_column, instant, link, metadata

# Days in an envelope: whoever has the code may redeem it, once. The code itself is not kept.
credit_code = Table(
    "credit_code",
    metadata,
    id_column(),
    Column("code_hash", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),  # its last four characters
    link("company_id", "company.id"),  # whose days it carries
    Column("days", BigInteger, nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    link("redeemed_company_id", "company.id", nullable=True),
    Column("redeemed_by", Text),
    instant("redeemed_at", nullable=True),
    instant("deleted_at", nullable=True),  # by its company, by its last lot's expiry, or voided
    Column("deleted_because", Text),
    Index(None, "company_id", "id"),
)

# A child asks the company above for credits; one answer ends it.
credit_request = Table(
    "credit_request",
    metadata,
    id_column(),
    link("company_id", "company.id"),  # who asks
    link("parent_id", "company.id"),  # who was asked
    Column("days", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, accepted, refused, withdrawn
    Column("asked_by", Text, nullable=False),
    instant("asked_at"),
    Column("answered_by", Text),
    instant("answered_at", nullable=True),
    Column("answer", Text),
    Index(None, "parent_id", "id"),
    Index(None, "company_id", "id"),
)

# A price belongs to an edge of the tree and holds from a day on; it is never changed.
price = Table(
    "price",
    metadata,
    id_column(),
    link("seller_id", "company.id"),
    link("buyer_id", "company.id"),
    Column("from_day", Integer, nullable=False),
    Column("per_credit", BigInteger, nullable=False),  # in ten-thousandths of the currency's unit
    Column("currency", Text, nullable=False),  # ISO 4217
    Column("set_by", Text, nullable=False),
    instant("at"),
    Index(None, "buyer_id", "seller_id", "from_day"),
)

# What a company's administrators are to be told; mails are made of it.
notice = Table(
    "notice",
    metadata,
    id_column(),
    link("company_id", "company.id"),  # whose administrators and billing read it
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),  # what it is about, as text: a serial, a company's id
    Column("detail", Text, nullable=False),  # JSON: what its sentence needs
    Column("key", Text, nullable=False, unique=True),  # the same thing is told once
    instant("at"),
    Index(None, "company_id", "id"),
)

# A broken router's place taken by another: what is needed to undo it.
replacement = Table(
    "replacement",
    metadata,
    id_column(),
    link("old_device_id", "device.id"),
    link("new_device_id", "device.id"),
    link("company_id", "company.id"),
    Column("actor", Text, nullable=False),
    instant("at"),
    instant("undone_at", nullable=True),
    Column("kept", Text, nullable=False),  # JSON: what undoing needs beside the rows
    Index(None, "old_device_id"),
    Index(None, "new_device_id"),
)

# Where each company stood from an instant on: statements of the past need the tree of the past.
company_place = Table(
    "company_place",
    metadata,
    id_column(),
    link("company_id", "company.id"),
    Column("path", Text, nullable=False),  # ids from the root down, "1/7/12"
    instant("at"),
    Index(None, "company_id", "at"),
)

# Heard days of a company's device in a UTC month that is over: made of `monitored_day`, once.
monitored_month = Table(
    "monitored_month",
    metadata,
    Column("company_id", Id, primary_key=True, autoincrement=False),
    Column("month", Integer, primary_key=True),
    Column("device_id", Id, primary_key=True, autoincrement=False),
    Column("days", Integer, nullable=False),
    # Of them, those that were charged one by one, from lots that were paid for and from free ones.
    Column("paid_days", Integer, nullable=False),
    Column("free_days", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Prepaid days that changed companies with their device: no transfer says so.
device_move = Table(
    "device_move",
    metadata,
    id_column(),
    link("device_id", "device.id"),
    link("from_company_id", "company.id"),
    link("to_company_id", "company.id"),
    Column("free_days", BigInteger, nullable=False),
    Column("paid_days", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the newest transfer then
    instant("at"),
    Index(None, "from_company_id", "at"),
    Index(None, "to_company_id", "at"),
)

# Devices registered from a file: how far it is, and what became of it.
device_import = Table(
    "device_import",
    metadata,
    id_column(),
    link("company_id", "company.id"),
    Column("file_name", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("state", Text, nullable=False),  # checking, done, refused, undone
    Column("lines", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("bad", Integer, nullable=False),
    instant("at"),
    instant("seen_at"),  # the last sign of life of whoever checks it
    instant("done_at", nullable=True),
    instant("undone_at", nullable=True),
    Index(None, "company_id", "id"),
)

OPEN_REQUEST = Index(
    "uq_credit_request_open",
    credit_request.c.company_id,
    unique=True,
    sqlite_where=text("state = 'open'"),
    postgresql_where=text("state = 'open'"),
)
