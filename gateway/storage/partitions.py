"""Raw history on PostgreSQL: a partition for each UTC day, and one for all other instants.

A partition is attached and dropped under locks that stop ingest, so each is waited for so short a
time that no heartbeat notices; who does not get it tries again later.
"""

import re

from gateway.domain.instants import DAY_MS, HOUR_MS, day_of, day_text, parse_day
from gateway.storage.transaction import Transaction

AHEAD_DAYS = 3
# Samples that arrived before their day had a partition are moved into it, unless that takes long:
# a day that has more is left where it is, and deleted from there by rows.
MOVED_MAX = 10_000
LOCK_MS_MAX = 300

_NAME = re.compile(r"heartbeat_(\d{4})(\d\d)(\d\d)")
_PRESENT = (
    "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'heartbeat'::regclass"
)
_IN_OTHER = (
    "SELECT count(*) FROM (SELECT 1 FROM heartbeat_other WHERE at >= ? AND at < ? LIMIT ?) AS found"
)
_MOVE = (
    "WITH gone AS (DELETE FROM heartbeat_other WHERE at >= ? AND at < ? RETURNING *)"
    " INSERT INTO {} SELECT * FROM gone"
)


def partitioned(tx: Transaction) -> bool:
    """Whether this engine keeps raw history in partitions."""
    return tx.connection.dialect.name == "postgresql"


def name_of(day: int) -> str:
    """The partition of a day."""
    return f"heartbeat_{day_text(day).replace('-', '')}"


def present(tx: Transaction) -> set[int]:
    """The days that have a partition."""
    found = (_NAME.fullmatch(row[0]) for row in tx.fetch(_PRESENT))
    return {parse_day("-".join(match.groups())) for match in found if match}


def wanted(tx: Transaction, kept_days: int) -> list[int]:
    """The days that should have a partition and have none, those of the future first.

    Also days of the past: devices that were away for a while send them later.
    """
    days = range(tx.today + AHEAD_DAYS, tx.today - kept_days - 1, -1)
    there = present(tx)
    return [day for day in days if day not in there]


def make(tx: Transaction, day: int) -> bool:
    """Makes a day's partition; false where it would have to take too many samples over."""
    begin_ms, end_ms = day * DAY_MS, (day + 1) * DAY_MS
    held: int = tx.fetch(_IN_OTHER, (begin_ms, end_ms, MOVED_MAX + 1))[0][0]
    if held > MOVED_MAX:
        return False
    name = name_of(day)
    _wait_shortly(tx)
    # Made apart, since one that is made in its place stops all who write until it is there.
    tx.change(f"CREATE TABLE {name} (LIKE heartbeat)", ())
    tx.change("LOCK TABLE heartbeat_other IN ACCESS EXCLUSIVE MODE", ())
    if held:
        tx.change(_MOVE.format(name), (begin_ms, end_ms))
    # It looks through what is left in `heartbeat_other`, which is next to nothing.
    tx.change(
        f"ALTER TABLE heartbeat ATTACH PARTITION {name} FOR VALUES FROM ({begin_ms}) TO ({end_ms})",
        (),
    )
    return True


def drop(tx: Transaction, day: int) -> bool:
    """Drops a day's partition with its samples, unless one of them is still to be rolled up."""
    _wait_shortly(tx)
    # With this nobody adds a sample of that day any more, so what follows stays true.
    tx.change("LOCK TABLE ONLY heartbeat IN ACCESS EXCLUSIVE MODE", ())
    if tx.fetch("SELECT 1 FROM late_hour WHERE hour < ? LIMIT 1", ((day + 1) * DAY_MS // HOUR_MS,)):
        return False
    tx.change(f"DROP TABLE {name_of(day)}", ())
    return True


def _wait_shortly(tx: Transaction) -> None:
    tx.change(f"SET LOCAL lock_timeout = '{LOCK_MS_MAX}ms'", ())


def fill_from(tx: Transaction, first_ms: int, last_ms: int) -> None:
    """Makes the partitions for samples of this range before they are added, as a restore does."""
    there = present(tx)
    for day in range(day_of(first_ms), day_of(last_ms) + 1):
        if day not in there:
            make(tx, day)
