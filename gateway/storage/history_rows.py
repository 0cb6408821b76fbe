"""History as rows: samples, what they were rolled up to, and how far the jobs have come."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.domain.history import NOTHING, Bucket, Kept, Level, RolledUp, Sample, hour_of
from gateway.domain.instants import HOUR_MS
from gateway.storage.rolled_up import packed, unpacked
from gateway.storage.transaction import Transaction

DEVICES_AT_ONCE = 400

# The names of one table and its column of time for each level that is rolled up.
TABLES = {Level.HOUR: ("history_hour", "hour"), Level.DAY: ("history_day", "day")}

_decode = msgspec.json.Decoder(dict[int, Any]).decode
# One text for any number of devices, so that drivers prepare it once.
MARKS = ",".join("?" * DEVICES_AT_ONCE)
_SAMPLES = """
SELECT device_id, at, run_id, fields FROM heartbeat
WHERE device_id IN ({}) AND at >= ? AND at < ? ORDER BY device_id, at, id LIMIT ?
""".replace("{}", MARKS)
_SAMPLES_OF_ONE = """
SELECT at, run_id, fields FROM heartbeat WHERE device_id = ? AND at >= ? AND at < ?
ORDER BY at, id
"""
_BEFORE = """
SELECT l.device_id, (SELECT h.fields FROM history_hour AS h
                     WHERE h.device_id = l.device_id AND h.hour < ? ORDER BY h.hour DESC LIMIT 1)
FROM device_live AS l WHERE l.device_id IN ({})
""".replace("{}", MARKS)
_HEARD = """
SELECT device_id FROM device_live
WHERE device_id > ? AND (last_heard_at >= ? OR last_heard_at IS NULL) ORDER BY device_id LIMIT ?
"""
_FIRST_SAMPLE = """
SELECT min(first) FROM (
    SELECT (SELECT h.at FROM heartbeat AS h WHERE h.device_id = l.device_id
            ORDER BY h.at LIMIT 1) AS first
    FROM device_live AS l) AS firsts
"""
_READ_TABLE = """
SELECT {period}, fields FROM {table} WHERE device_id = ? AND {period} >= ? AND {period} < ?
ORDER BY {period}
"""
_READ = {
    level: _READ_TABLE.format(table=table, period=period)
    for level, (table, period) in TABLES.items()
}
_KEEP_IN_TABLE = """
INSERT INTO {table} (device_id, {period}, fields) VALUES (?, ?, ?)
ON CONFLICT (device_id, {period}) DO UPDATE SET fields = excluded.fields
"""
_KEEP = {
    level: _KEEP_IN_TABLE.format(table=table, period=period)
    for level, (table, period) in TABLES.items()
}
_MARK = "SELECT value FROM installation WHERE key = ?"
_MOVE_MARK = "UPDATE installation SET value = ? WHERE key = ? AND value = ?"
_FIRST_MARK = "INSERT INTO installation (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING"


class Progress(NamedTuple):
    """How far a job has come that goes through time, and in each stretch through all devices.

    All before `begin` is done; of `begin` to `end` the devices up to `device_id`. `turn` grows with
    every change, so that nothing is kept that was made of an older state.
    """

    begin: int
    end: int
    device_id: int = 0
    turn: int = 0

    @property
    def text(self) -> str:
        """As it stands in the database."""
        return " ".join(str(number) for number in self)


def padded(device_ids: Sequence[int]) -> list[int]:
    """As many values as `MARKS` has; naming a device twice changes nothing."""
    return [*device_ids, *[device_ids[-1]] * (DEVICES_AT_ONCE - len(device_ids))]


def first_hour(tx: Transaction, otherwise: int) -> int:
    """The hour of the oldest sample, at most `otherwise`: for jobs that begin."""
    ((first_ms,),) = tx.fetch(_FIRST_SAMPLE)
    return otherwise if first_ms is None else min(otherwise, hour_of(first_ms))


def heard_since(tx: Transaction, after_id: int, since_ms: int, limit: int) -> list[int]:
    """The next devices that may have samples since then."""
    return [row[0] for row in tx.fetch(_HEARD, (after_id, since_ms, limit))]


def samples_of_many(
    tx: Transaction, device_ids: Sequence[int], from_ms: int, to_ms: int, limit: int
) -> list[tuple[int, Sample]]:
    """Device by device, oldest first."""
    values = (*padded(device_ids), from_ms, to_ms, limit)
    return [
        (device_id, Sample(at, run_id, _decode(fields)))
        for device_id, at, run_id, fields in tx.fetch(_SAMPLES, values)
    ]


def samples_of(tx: Transaction, device_id: int, from_ms: int, to_ms: int) -> list[Sample]:
    """Oldest first."""
    return [
        Sample(at, run_id, _decode(fields))
        for at, run_id, fields in tx.fetch(_SAMPLES_OF_ONE, (device_id, from_ms, to_ms))
    ]


def rolled_up_before(tx: Transaction, device_ids: Sequence[int], hour: int) -> dict[int, RolledUp]:
    """Of each device the newest hour before this one."""
    return {
        device_id: NOTHING if fields is None else unpacked(fields)
        for device_id, fields in tx.fetch(_BEFORE, (hour, *padded(device_ids)))
    }


def rolled_up(tx: Transaction, level: Level, device_id: int, begin: int, end: int) -> list[Bucket]:
    """The hours or days of a device in a range, oldest first."""
    return [
        (period, unpacked(fields))
        for period, fields in tx.fetch(_READ[level], (device_id, begin, end))
    ]


def keep(tx: Transaction, level: Level, rows: Sequence[tuple[int, int, bytes]]) -> None:
    """Writes `(device, hour or day, packed)`, over what was there."""
    if rows:
        tx.change_many(_KEEP[level], rows)


def packed_rows(device_id: int, buckets: Iterable[Bucket]) -> list[tuple[int, int, bytes]]:
    """The rows of one device for `keep`."""
    return [(device_id, period, packed(rolled)) for period, rolled in buckets]


def progress(tx: Transaction, name: str) -> Progress | None:
    """How far the job of this name is, if it ever began."""
    found = tx.fetch(_MARK, (name,))
    return Progress(*map(int, found[0][0].split())) if found else None


def go_on(tx: Transaction, name: str, before: Progress | None, after: Progress) -> bool:
    """Moves the mark; false when another gateway did so meanwhile."""
    if before is None:
        return tx.change(_FIRST_MARK, (name, after.text)) == 1
    after = after._replace(turn=before.turn + 1)
    return tx.change(_MOVE_MARK, (after.text, name, before.text)) == 1


def rolled_up_name(level: Level) -> str:
    """Under which name a level's progress stands."""
    return f"rolled_up_{level.value}"


def deleted_name(level: Level) -> str:
    """Under which name stands how far a level's old rows are deleted."""
    return f"deleted_{level.value}"


def kept(tx: Transaction) -> Kept:
    """Since when each level is there; what is being deleted counts as gone."""
    raw, hours = (progress(tx, deleted_name(level)) for level in (Level.RAW, Level.HOUR))
    return Kept(
        0 if raw is None else raw.end * HOUR_MS, 0 if hours is None else hours.end * HOUR_MS
    )
