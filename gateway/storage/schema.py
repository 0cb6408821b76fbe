"""The tables. Instants are integers in ms; days are UTC days since 1970; text is UTF-8."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)

from gateway.storage.audit_tables import audit, audit_personal, audit_seal, event
from gateway.storage.columns import Id, id_column, instant, link, metadata
from gateway.storage.credit_tables import (
    company_place,
    credit_code,
    credit_request,
    device_import,
    device_move,
    monitored_month,
    notice,
    price,
    replacement,
)
from gateway.storage.device_tables import (
    device,
    device_latest,
    device_live,
    device_search,
    enrolment,
    heartbeat,
    history_day,
    history_hour,
    join_code,
    late_hour,
    mqtt_login,
    node,
    outbox,
    presence_change,
    quarantine,
    run,
)
from gateway.storage.people_tables import (
    api_token,
    invitation,
    mail,
    membership,
    notice_due,
    password_reset,
    password_reset_asked,
    person,
    recovery_code,
    setting,
    sign_in,
    support_access,
)
from gateway.storage.session_tables import (
    known_host,
    relay,
    revocation,
    session,
    session_usage,
    target,
)

__all__ = [
    "INTO_POOLS",
    "OUT_OF_POOLS",
    "account",
    "api_token",
    "audit",
    "audit_personal",
    "audit_seal",
    "company",
    "company_path",
    "company_place",
    "credit_code",
    "credit_request",
    "device",
    "device_import",
    "device_latest",
    "device_live",
    "device_move",
    "device_search",
    "enrolment",
    "event",
    "heartbeat",
    "history_day",
    "history_hour",
    "idempotency",
    "installation",
    "invitation",
    "join_code",
    "known_host",
    "late_hour",
    "mail",
    "membership",
    "metadata",
    "monitored_day",
    "monitored_month",
    "mqtt_login",
    "node",
    "notice",
    "notice_due",
    "outage",
    "outbox",
    "password_reset",
    "password_reset_asked",
    "person",
    "presence_change",
    "price",
    "quarantine",
    "recheck",
    "recovery_code",
    "relay",
    "replacement",
    "revocation",
    "run",
    "session",
    "session_usage",
    "setting",
    "sign_in",
    "support_access",
    "taken_from_above",
    "target",
    "transfer",
]

installation = Table(
    "installation",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

company = Table(
    "company",
    metadata,
    id_column(),
    link("parent_id", "company.id", nullable=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("use_parent_credits", Boolean, nullable=False),
    Column("parent_limit", Integer),  # credits a UTC month; empty: no limit
    Column("grace_days", Integer, nullable=False),
    Column("extend_unheard", Boolean, nullable=False),
    Column("suspended_reason", Text),
    instant("suspended_at", nullable=True),
    Column("reference", Text, nullable=False),
    instant("created_at"),
    # Of days left at an unregistration: given back, or forfeited as usual.
    Column("refunds", Boolean, nullable=False, server_default=false()),
    Column("show_prices", Boolean, nullable=False, server_default=false()),  # to its own people
    Column("billing_email", Text, nullable=False, server_default=""),
    instant("closed_at", nullable=True),
    CheckConstraint("parent_id <> id", "not_its_own_parent"),
    Index(
        "uq_company_sibling",
        "parent_id",
        "name_key",
        unique=True,
        sqlite_where=text("parent_id IS NOT NULL AND closed_at IS NULL"),
        postgresql_where=text("parent_id IS NOT NULL AND closed_at IS NULL"),
    ),
    Index(
        "uq_company_root",
        "name_key",
        unique=True,
        sqlite_where=text("parent_id IS NULL AND closed_at IS NULL"),
        postgresql_where=text("parent_id IS NULL AND closed_at IS NULL"),
    ),
)
company_path = Table(
    "company_path",
    metadata,
    Column("ancestor_id", Id, ForeignKey("company.id"), primary_key=True),
    Column("descendant_id", Id, ForeignKey("company.id"), primary_key=True),
    Column("depth", Integer, nullable=False),
    Index(None, "descendant_id", "depth"),
)

monitored_day = Table(
    "monitored_day",
    metadata,
    Column("device_id", Id, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("company_id", Id, nullable=False),
    Column("payer_id", Id, nullable=False),
    Column("transfer_id", Text),
    # With the last, a month of heard days is counted without a look at the rows.
    Index(None, "company_id", "day", "transfer_id"),
    sqlite_with_rowid=False,
)

account = Table(
    "account",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    link("company_id", "company.id", nullable=True),
    link("device_id", "device.id", nullable=True),
    Column("code_id", Id),
    Column("expires_day", Integer),
    Column("free", Boolean, nullable=False),
    Column("redeemed", Boolean, nullable=False),
    Column("balance", BigInteger),  # issuer and sinks have none: theirs are sums over rows
    CheckConstraint("balance >= 0", "not_negative"),
    Index(None, "company_id"),
    Index(
        "ix_account_code_id",
        "code_id",
        sqlite_where=text("code_id IS NOT NULL"),
        postgresql_where=text("code_id IS NOT NULL"),
    ),
)

OUT_OF_POOLS = "kind NOT IN ('grant', 'trial', 'serve', 'forfeit', 'carry')"
INTO_POOLS = (
    "kind NOT IN ('activate', 'extend', 'courtesy', 'day', 'serve', 'forfeit', 'carry', 'expire')"
)
transfer = Table(
    "transfer",
    metadata,
    Column("seq", Id, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("operation_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    link("from_account", "account.id"),
    link("to_account", "account.id"),
    Column("days", BigInteger, nullable=False),
    Column("free", Boolean, nullable=False),
    link("company_id", "company.id"),
    Column("company_path", Text, nullable=False),  # ids from the root down, "1/7/12"
    Column("device_id", Id),
    Column("serial", Text),
    Column("payer_company_id", Id),
    Column("payer_path", Text, nullable=False),  # ids as asked, from the company up
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("note", Text, nullable=False),
    instant("at"),
    Column("lot_account", Id),  # of days carried between devices
    Column("reverses", Text),  # the id of the transfer that is taken back
    CheckConstraint("days > 0", "positive"),
    Index(None, "company_id", "seq"),
    Index(None, "device_id", "seq"),
    # What left and what reached pools, for statements; most rows stand in neither.
    Index(
        "ix_transfer_out",
        "from_account",
        "seq",
        sqlite_where=text(OUT_OF_POOLS),
        postgresql_where=text(OUT_OF_POOLS),
    ),
    Index(
        "ix_transfer_in",
        "to_account",
        "seq",
        sqlite_where=text(INTO_POOLS),
        postgresql_where=text(INTO_POOLS),
    ),
    Index(
        "ix_transfer_reverses",
        "reverses",
        sqlite_where=text("reverses IS NOT NULL"),
        postgresql_where=text("reverses IS NOT NULL"),
    ),
)

# A cache of sums over transfer rows, checked by `verify`.
taken_from_above = Table(
    "taken_from_above",
    metadata,
    Column("company_id", Id, ForeignKey("company.id"), primary_key=True),
    Column("month", Integer, primary_key=True),
    Column("days", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    instant("at"),
    Index(None, "at"),
)

# Subtrees whose unpaid devices are looked at again because a payment may be possible now.
recheck = Table(
    "recheck",
    metadata,
    Column("company_id", Id, ForeignKey("company.id"), primary_key=True),
    instant("queued_at"),
)

# Stretches in which no gateway worked: nobody is charged for them.
outage = Table(
    "outage",
    metadata,
    id_column(),
    instant("started_at"),
    instant("ended_at"),
)
