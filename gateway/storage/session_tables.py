"""The tables of sessions: wanted state, usage, relays, revocations, saved targets."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.storage.columns import Id, id_column, instant, link, metadata

# Where relays are reached is configured; the rest is what they said last.
relay = Table(
    "relay",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hosts", Text, nullable=False),  # JSON, in the order in which devices try them
    Column("port", Integer, nullable=False),
    Column("domain", Text, nullable=False),
    Column("public_port", Integer, nullable=False),  # at which visitors reach it
    Column("tls", Boolean, nullable=False),  # for visitors; devices always come with TLS
    Column("epoch", Text, nullable=False),  # empty: never heard
    Column("former_epoch", Text, nullable=False),  # a late message of that life is ignored
    Column("drained_epoch", Text),  # the life in which it is to take no new session
    instant("epoch_at", nullable=True),
    instant("seen_at", nullable=True),
    Column("newest", BigInteger, nullable=False),  # the newest revocation's number
    Column("applied", BigInteger, nullable=False),
    Column("happened", BigInteger, nullable=False),  # the newest stored, of this epoch
    Column("links", Integer, nullable=False),
    Column("streams", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
)

# One row is wanted state until `ended_at`: device and relay are told again as often as needed.
session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False, unique=True),  # first label of its own host name
    link("device_id", "device.id"),
    Column("serial", Text, nullable=False),
    link("company_id", "company.id"),
    link("person_id", "person.id"),
    Column("actor", Text, nullable=False),
    Column("relay_id", Text, ForeignKey("relay.id"), nullable=False),
    Column("target", Text, nullable=False),
    Column("target_name", Text, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("right", Text, nullable=False),  # what the person needs as long as it is open
    Column("reason", Text, nullable=False),
    instant("created_at"),
    instant("expires_at"),
    Column("idle_streams_s", Integer, nullable=False),
    Column("idle_bytes_s", Integer, nullable=False),
    instant("ended_at", nullable=True),
    Column("ended_because", Text),
    Column("ended_by", Text),
    Column("settled", Boolean, nullable=False),  # the audit has the final counts
    # what the device was told, and what its agent says of the link
    instant("told_at", nullable=True),  # empty: it has to be told
    Column("open_id", Text),  # the newest command `open` in the outbox
    Column("link_state", Text, nullable=False),
    Column("link_error", Text, nullable=False),
    instant("link_at", nullable=True),
    # what the relay says
    Column("linked", Boolean, nullable=False),
    instant("linked_at", nullable=True),  # when this began to be so
    Column("refused_reason", Text, nullable=False),
    instant("refused_at", nullable=True),
    Column("bytes_to_device", BigInteger, nullable=False),
    Column("bytes_from_device", BigInteger, nullable=False),
    instant("used_at", nullable=True),  # bytes came from the device
    Index(
        "ix_session_wanted_device",
        "device_id",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_session_wanted_person",
        "person_id",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_session_wanted_relay",
        "relay_id",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_session_wanted_until",
        "expires_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_session_unsettled",
        "ended_at",
        sqlite_where=text("settled = 0"),
        postgresql_where=text("NOT settled"),
    ),
    Index(None, "created_at", "id"),
    Index(None, "company_id", "created_at"),
    Index(None, "person_id", "created_at"),
    Index(None, "serial", "created_at"),
)

# Absolute counts of one life of a relay: a repeat changes nothing, totals are sums.
session_usage = Table(
    "session_usage",
    metadata,
    Column("session_id", Text, ForeignKey("session.id"), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("to_device", BigInteger, nullable=False),
    Column("from_device", BigInteger, nullable=False),
    instant("at"),
)

# Kept until the relay says that it has applied the number.
revocation = Table(
    "revocation",
    metadata,
    Column("relay_id", Text, ForeignKey("relay.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("session_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    instant("at"),
    Index(None, "session_id"),
)

target = Table(
    "target",
    metadata,
    id_column(),
    link("device_id", "device.id"),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("protocol", Text, nullable=False),
    instant("created_at"),
    UniqueConstraint("device_id", "name_key"),
)

# Which key the SSH server of a target showed when somebody accepted it.
known_host = Table(
    "known_host",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("target", Text, primary_key=True),
    Column("key", Text, nullable=False),  # as in an OpenSSH public key file
    Column("fingerprint", Text, nullable=False),
    link("person_id", "person.id"),
    instant("at"),
)
