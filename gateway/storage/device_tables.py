"""The tables of devices: tenures, what heartbeats change, history, joining, commands."""

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
    UniqueConstraint,
    false,
    text,
)

from gateway.storage.columns import Id, id_column, instant, link, metadata

# One row is one tenure: the stretch in which one company holds one serial.
device = Table(
    "device",
    metadata,
    id_column(),
    Column("serial", Text, nullable=False),
    link("company_id", "company.id"),  # of a dormant device: the company that held it
    Column("registered", Boolean, nullable=False),
    instant("ended_at", nullable=True),  # the serial went to somebody else
    Column("alias", Text),
    Column("alias_key", Text),
    Column("name", Text, nullable=False),
    Column("mac", Text),
    Column("tags", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("reference", Text, nullable=False),
    instant("registered_at"),
    instant("joined_at", nullable=True),
    instant("first_heard_at", nullable=True),  # in this registration
    Column("heard_before", Boolean, nullable=False, server_default=false()),  # in an earlier one
    instant("dormant_at", nullable=True),
    # service and period
    Column("start", Text, nullable=False),
    Column("auto_extend", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    instant("period_start", nullable=True),
    instant("period_end", nullable=True),
    Column("period_seq", BigInteger),  # transfer.seq before the period's first payment
    Column("payer_id", Id),
    instant("last_start", nullable=True),
    instant("last_end", nullable=True),
    instant("grace_from", nullable=True),
    instant("grace_until", nullable=True),
    instant("attempted_at", nullable=True),
    Column("sending_s", Integer),  # the interval to return to when service is active again
    Column("switched_off", Boolean, nullable=False, server_default=false()),
    # Of the plan `daily`: UTC days served in grace, to be paid with the next, "20605,20606".
    Column("owed_days", Text, nullable=False, server_default=""),
    # The router came from another company, which may know its secret: it has to join anew.
    Column("rotate_secret", Boolean, nullable=False, server_default=false()),
    instant("taken_over_at", nullable=True),  # samples of before belong to the former tenure
    Column("import_id", Id),  # the import that registered it
    CheckConstraint("(period_start IS NULL) = (period_end IS NULL)", "period_whole"),
    Index(None, "company_id", "serial"),
    # All that lists and counts of a whole fleet look at, so that they read nothing else; SQLite
    # wants the columns of the condition, too.
    Index(
        "ix_device_listed",
        "serial",
        "company_id",
        "state",
        "reason",
        "period_end",
        "grace_until",
        "auto_extend",
        "payer_id",
        "registered",
        "ended_at",
        "id",
        sqlite_where=text("registered = 1 AND ended_at IS NULL"),
        postgresql_where=text("registered AND ended_at IS NULL"),
    ),
    Index(
        "ix_device_tagged",
        "company_id",
        "tags",
        "registered",
        "ended_at",
        sqlite_where=text("tags <> '[]'"),
        postgresql_where=text("tags <> '[]'"),
    ),
    Index(
        "ix_device_rotate_secret",
        "rotate_secret",
        sqlite_where=text("rotate_secret = 1"),
        postgresql_where=text("rotate_secret"),
    ),
    Index(
        "ix_device_import_id",
        "import_id",
        sqlite_where=text("import_id IS NOT NULL"),
        postgresql_where=text("import_id IS NOT NULL"),
    ),
    Index(
        "ix_device_period_end",
        "period_end",
        sqlite_where=text("period_end IS NOT NULL"),
        postgresql_where=text("period_end IS NOT NULL"),
    ),
    Index(
        "ix_device_grace_until",
        "grace_until",
        sqlite_where=text("grace_until IS NOT NULL"),
        postgresql_where=text("grace_until IS NOT NULL"),
    ),
    Index(
        "uq_device_serial",
        "serial",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_device_former",
        "serial",
        "ended_at",
        sqlite_where=text("ended_at IS NOT NULL"),
        postgresql_where=text("ended_at IS NOT NULL"),
    ),
    Index(
        "uq_device_alias",
        "company_id",
        "alias_key",
        unique=True,
        sqlite_where=text("alias_key IS NOT NULL AND registered"),
        postgresql_where=text("alias_key IS NOT NULL AND registered"),
    ),
)

# All that a heartbeat changes, in one narrow row: the device's presence, its current run (which
# is the receipt) and the values that change all the time.
device_live = Table(
    "device_live",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("node", Text, nullable=False),
    instant("last_heard_at", nullable=True),
    Column("last_day", Integer, nullable=False),
    Column("interval_s", Integer, nullable=False),
    Column("presence", Text, nullable=False),
    instant("late_at"),  # on the node's clock
    instant("offline_at"),
    # the current run
    Column("run_id", Id),
    Column("run", Text),
    Column("upto", BigInteger),
    Column("ranges", Text),
    Column("state_seq", BigInteger),
    Column("need_full", Boolean, nullable=False),
    instant("last_at", nullable=True),
    Column("connection", BigInteger),
    Column("nonce", Text),
    Column("command_n", Integer, nullable=False),
    # MessagePack {field id: [value, instant]}: what changed since device_latest
    Column("recent", LargeBinary, nullable=False),
    # seldom changed
    Column("supersessions", Integer, nullable=False),
    instant("supersessions_since"),
    instant("two_places_at", nullable=True),
    instant("commanded_at"),
    Column("repeats", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("ignored_fields", BigInteger, nullable=False),
    Column("malformed", BigInteger, nullable=False),
    Column("signal", Integer),  # as gateway.domain.signal keeps it
)
Index(
    "ix_device_live_two_places",
    device_live.c.two_places_at,
    sqlite_where=text("two_places_at IS NOT NULL"),
    postgresql_where=text("two_places_at IS NOT NULL"),
)
# Nobody is offline before being late, so one index serves both sweeps.
Index("ix_device_live_due", device_live.c.node, device_live.c.presence, device_live.c.late_at)

device_latest = Table(
    "device_latest",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("latest", LargeBinary, nullable=False),
)

# By what people find a device, in one narrow row: texts as gateway.domain.search_text makes them,
# and of its newest values those that hardly ever change.
device_search = Table(
    "device_search",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("names", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("told", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("firmware", Text, nullable=False),
    Column("located", Boolean, nullable=False),  # it has told a position
)
Index(
    "ix_device_search_located",
    device_search.c.device_id,
    sqlite_where=text("located = 1"),
    postgresql_where=text("located"),
)

# Every run that was seen. What was settled of it stands here once it is superseded; of the
# current run, in device_live.
run = Table(
    "run",
    metadata,
    id_column(),
    link("device_id", "device.id"),
    Column("run", Text, nullable=False),
    Column("upto", BigInteger, nullable=False),
    Column("ranges", Text),
    Column("state_seq", BigInteger, nullable=False),
    instant("last_at", nullable=True),
    instant("superseded_at", nullable=True),
    UniqueConstraint("device_id", "run"),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    id_column(),
    Column("device_id", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("number", BigInteger, nullable=False),
    instant("at"),
    Column("time_from", Integer, nullable=False),
    Column("fields", Text, nullable=False),  # JSON {field id: value}
    Index(None, "device_id", "at"),
)

# Both levels of roll-ups; `fields` is made by gateway.storage.rolled_up.
history_hour = Table(
    "history_hour",
    metadata,
    Column("device_id", Id, primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True),  # UTC hours since 1970
    Column("fields", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
history_day = Table(
    "history_day",
    metadata,
    Column("device_id", Id, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True),
    Column("fields", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
# Hours of which samples came that may have been rolled up already. A row for each batch, and no
# unique key: whoever rolls the hour up again deletes the rows that it saw and no others.
late_hour = Table(
    "late_hour",
    metadata,
    id_column(),
    Column("device_id", Id, nullable=False),
    Column("hour", Integer, nullable=False),
)

join_code = Table(
    "join_code",
    metadata,
    id_column(),
    Column("code_hash", LargeBinary, nullable=False, unique=True),
    link("company_id", "company.id"),
    Column("serial", Text),
    Column("uses_left", Integer, nullable=False),
    Column("register", Boolean, nullable=False),
    Column("credits_left", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("expires_at"),
)

# `joined` is the credential in force; `waiting` is a claimed serial that asks again.
enrolment = Table(
    "enrolment",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("state", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),  # Mosquitto's $7$ form
    Column("fingerprint", LargeBinary, nullable=False),  # SHA-256 of both derived values
    Column("command_key", LargeBinary, nullable=False),  # sealed with master.key
    Column("code_hash", LargeBinary, nullable=False),
    Column("lan_mac", Text, nullable=False),
    instant("at"),
    Index(
        "ix_enrolment_not_joined",
        "device_id",
        sqlite_where=text("state <> 'joined'"),
        postgresql_where=text("state <> 'joined'"),
    ),
)

mqtt_login = Table(
    "mqtt_login",
    metadata,
    Column("login", Text, primary_key=True),
    Column("hash", Text),  # empty: removed
    Column("version", BigInteger, nullable=False),
)

node = Table(
    "node",
    metadata,
    Column("name", Text, primary_key=True),
    instant("clock"),  # runs only while probes come back, to whichever of its gateways
    instant("probe_at", nullable=True),
    instant("still_until", nullable=True),  # the clock stands until then: devices may come back
    Column("login_version", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("node", Text, nullable=False),
    link("device_id", "device.id"),
    Column("serial", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("actor", Text, nullable=False),
    instant("created_at"),
    instant("expires_at"),
    instant("sent_at", nullable=True),
    instant("answered_at", nullable=True),
    Column("outcome", Text),
    Column("answer", Text),
    Index(
        "ix_outbox_unsent",
        "node",
        "created_at",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
    Index(
        "ix_outbox_unanswered",
        "expires_at",
        sqlite_where=text("answered_at IS NULL"),
        postgresql_where=text("answered_at IS NULL"),
    ),
    Index(None, "device_id", "created_at"),
)

presence_change = Table(
    "presence_change",
    metadata,
    id_column(),
    link("device_id", "device.id"),
    link("company_id", "company.id"),
    Column("presence", Text, nullable=False),
    Column("before", Text, nullable=False),
    instant("at"),
    Index(None, "device_id", "at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    id_column(),
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    instant("at"),
)
