"""Loads and saves what heartbeats change, with statements compiled once."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.domain.happenings import Happening
from gateway.domain.presence import Deadlines, Presence
from gateway.domain.runs import RunRow
from gateway.domain.signal import heard_signal
from gateway.operations.happening import Happened, all_happened, told_as
from gateway.storage import latest_values
from gateway.storage.search_rows import LATITUDE, RSRP, RSSI, WATCHED, note_told
from gateway.storage.transaction import Transaction
from wire.ranges import Settled

_ranges_decoder = msgspec.json.Decoder(tuple[tuple[int, int], ...])
encode = msgspec.json.Encoder().encode

# Counters and other columns that few heartbeats change are not read here.
_LOAD = """
SELECT d.id, d.serial, d.company_id, d.registered, d.first_heard_at, d.state, d.period_end,
       d.grace_until, d.owed_days, d.payer_id, d.taken_over_at,
       (SELECT c.plan FROM company AS c WHERE c.id = d.company_id),
       l.last_day, l.interval_s, l.presence, l.recent, l.signal,
       l.run_id, l.run, l.upto, l.ranges, l.state_seq, l.need_full, l.last_at, l.connection,
       l.nonce IS NOT NULL
FROM device AS d JOIN device_live AS l ON l.device_id = d.id
WHERE {}
"""
_DEVICE_COLUMNS = 17
_LATEST = "SELECT latest FROM device_latest WHERE device_id = ?"
_SAVE_LATEST = "UPDATE device_latest SET latest = ? WHERE device_id = ?"
QUARANTINE_ROWS_MAX = 1_000
_RUN = """
SELECT id, run, upto, ranges, state_seq, last_at FROM run WHERE device_id = ? AND run = ?
"""
_ADD_RUN = """
INSERT INTO run (device_id, run, upto, state_seq, superseded_at) VALUES (?, ?, 0, 0, ?)
RETURNING id
"""
# As `_live_values` gives them.
_LIVE = tuple(
    "node last_heard_at last_day interval_s presence late_at offline_at recent signal run_id run"
    " upto ranges state_seq need_full last_at device_id".split()
)
_CONNECTION = ("connection", "nonce", "device_id")
_SAVE_PAST_RUN = """
UPDATE run SET upto = ?, ranges = ?, state_seq = ?, last_at = ?,
       superseded_at = coalesce(superseded_at, ?)
WHERE id = ?
"""
_DEADLINES = "SELECT late_at, offline_at, node FROM device_live WHERE device_id = ?"
_SAVE_DEADLINES = "UPDATE device_live SET late_at = ?, offline_at = ? WHERE device_id = ?"
_HEARD = "UPDATE device_live SET last_heard_at = ? WHERE device_id = ?"
_COUNT = """
UPDATE device_live SET repeats = repeats + ?, lost = lost + ?,
       dropped = CASE WHEN dropped < ? THEN ? ELSE dropped END,
       ignored_fields = ignored_fields + ?, malformed = malformed + ?
WHERE device_id = ?
"""
_SUPERSEDED = """
UPDATE device_live SET
       supersessions = CASE WHEN supersessions_since < ? THEN 1 ELSE supersessions + 1 END,
       supersessions_since = CASE WHEN supersessions_since < ? THEN ? ELSE supersessions_since END
WHERE device_id = ?
RETURNING supersessions
"""
_TWO_PLACES = "UPDATE device_live SET two_places_at = ? WHERE device_id = ?"
_TELL_AGAIN = "UPDATE device_live SET commanded_at = ? WHERE device_id = ? AND commanded_at <= ?"
_SAVE_RUN = """
UPDATE run SET upto = ?, ranges = ?, state_seq = ?, need_full = ?, nonce = ?, connection = ?,
       superseded_at = coalesce(superseded_at, ?), last_at = ?
WHERE id = ?
"""
_HEARTBEAT = ("device_id", "run_id", "number", "at", "time_from", "fields")
_ADD_DAYS = (
    "INSERT INTO monitored_day (device_id, day, company_id, payer_id, transfer_id)"
    " VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_ADD_PRESENCE = (
    "INSERT INTO presence_change (device_id, company_id, presence, before, at)"
    " VALUES (?, ?, ?, ?, ?)"
)
_ADD_QUARANTINE = "INSERT INTO quarantine (topic, reason, payload, at) VALUES (?, ?, ?, ?)"
_BOUND_QUARANTINE = "DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?"
_ANSWER = """
UPDATE outbox SET answered_at = ?, outcome = ?, answer = ?
WHERE id = ? AND device_id = ? AND sent_at IS NOT NULL
      AND (answered_at IS NULL OR outcome = 'unknown')
RETURNING verb
"""
_FIRST_HEARD = "UPDATE device SET first_heard_at = ? WHERE id = ? AND first_heard_at IS NULL"
_HOLDER = """
SELECT id FROM device WHERE serial = ? AND ended_at > ? ORDER BY ended_at LIMIT 1
"""
_LAST_BEFORE = "SELECT max(last_at) FROM run WHERE device_id = ? AND id < ?"


class Live:
    """A device as one transaction holds it."""

    __slots__ = (
        "company_id",
        "first_heard_at",
        "grace_until",
        "id",
        "interval_s",
        "last_day",
        "last_heard_at",
        "late_at",
        "node",
        "offline_at",
        "owed_days",
        "payer_id",
        "period_end",
        "plan",
        "presence",
        "recent",
        "registered",
        "run",
        "serial",
        "signal",
        "since",
        "state",
    )

    run: RunRow | None
    # Not read: a heartbeat sets all four.
    node: str
    last_heard_at: int
    late_at: int
    offline_at: int

    def __init__(self, row: Sequence[Any]) -> None:
        (
            self.id,
            self.serial,
            self.company_id,
            self.registered,
            self.first_heard_at,
            self.state,
            self.period_end,
            self.grace_until,
            self.owed_days,
            self.payer_id,
            since,
            self.plan,
            self.last_day,
            self.interval_s,
            self.presence,
            self.recent,
            self.signal,
        ) = row[:_DEVICE_COLUMNS]
        self.since = since or 0
        self.run = _current_run(row[_DEVICE_COLUMNS:]) if row[_DEVICE_COLUMNS] is not None else None


def _current_run(row: Sequence[Any]) -> RunRow:
    id_, run, upto, ranges, state_seq, need_full, last_at, connection, introduced = row
    settled = _settled(upto, ranges)
    return RunRow(
        id_, run, settled, state_seq, need_full == 1, last_at, connection, introduced == 1, False
    )


def _settled(upto: int, ranges: str | None) -> Settled:
    return Settled(upto, () if ranges is None else _ranges_decoder.decode(ranges))


def holder_at(tx: Transaction, live: Live, at: int) -> int:
    """The tenure to which an older sample belongs: what a sold device had kept is its seller's."""
    found = tx.fetch(_HOLDER, (live.serial, at))
    return int(found[0][0]) if found else int(live.id)


def load(tx: Transaction, serials: Iterable[str]) -> dict[str, Live]:
    """The present tenure of each serial that is known, locked."""
    return {row[1]: Live(row) for row in tx.fetch_devices(_LOAD, sorted(serials))}


def find_run(tx: Transaction, device_id: int, run: str) -> RunRow | None:
    """A run that is not the current one."""
    found = tx.fetch(_RUN, (device_id, run))
    if not found:
        return None
    id_, run, upto, ranges, state_seq, last_at = found[0]
    return RunRow(id_, run, _settled(upto, ranges), state_seq, False, last_at, 0, False, True)


def add_run(tx: Transaction, device_id: int, run: str, superseded_at: int | None) -> RunRow:
    """A run seen for the first time; with an instant, one that never was the current one."""
    ((id_,),) = tx.fetch(_ADD_RUN, (device_id, run, superseded_at))
    superseded = superseded_at is not None
    return RunRow(id_, run, Settled(), 0, not superseded, None, 0, False, superseded)


def deadlines_of(tx: Transaction, device_id: int) -> tuple[Deadlines, str]:
    """When the device becomes late and offline, as stored, and on which node's clock."""
    late_at, offline_at, node = tx.fetch(_DEADLINES, (device_id,))[0]
    return Deadlines(late_at, offline_at), node


def save_deadlines(tx: Transaction, device_id: int, late_at: int, offline_at: int) -> None:
    """Changes when the device becomes late and offline, and nothing else."""
    tx.change(_SAVE_DEADLINES, (late_at, offline_at, device_id))


def save_heard(tx: Transaction, device_id: int, at: int) -> None:
    """The device was heard, by a run that is not its current one."""
    tx.change(_HEARD, (at, device_id))


def last_instant_before(tx: Transaction, device_id: int, run_id: int) -> int | None:
    """The newest sample known of earlier runs."""
    found: int | None = tx.fetch(_LAST_BEFORE, (device_id, run_id))[0][0]
    return found


def keep_latest(tx: Transaction, live: Live, changes: latest_values.Values) -> bool:
    """The device's newest values with some replaced; whether it may be found by others now."""
    live.recent, full, found_otherwise = latest_values.changed(
        live.recent, changes, WATCHED, LATITUDE
    )
    if RSRP in changes:
        live.signal = changes[RSRP][0]
    elif RSSI in changes:
        live.signal = heard_signal(live.signal, None, changes[RSSI][0])
    if full:
        ((packed,),) = tx.fetch(_LATEST, (live.id,))
        merged = latest_values.merged(packed, live.recent)
        tx.change(_SAVE_LATEST, (merged, live.id))
        live.recent = latest_values.NOTHING
    return found_otherwise


def set_first_heard(tx: Transaction, device_id: int) -> None:
    """The first heartbeat of a registration."""
    tx.change(_FIRST_HEARD, (tx.now_ms, device_id))


def count_supersession(tx: Transaction, device_id: int, window_ms: int) -> int:
    """Counts that a device's run was replaced; how often within the window."""
    since = tx.now_ms - window_ms
    found: int = tx.fetch(_SUPERSEDED, (since, since, tx.now_ms, device_id))[0][0]
    return found


def set_two_places(tx: Transaction, device_id: int) -> None:
    """Its runs supersede each other: the credential is used in two places."""
    tx.change(_TWO_PLACES, (tx.now_ms, device_id))


def may_tell_again(tx: Transaction, device_id: int, pause_ms: int) -> bool:
    """Whether the device was not told within the pause; it counts as told now."""
    values = (tx.now_ms, device_id, tx.now_ms - pause_ms)
    return tx.change(_TELL_AGAIN, values) == 1


def answer(tx: Transaction, device_id: int, id_: str, outcome: str, result: str) -> str:
    """The outcome of a command of this device; the first answer counts, and better late than never.

    Where the gateway had to say `unknown`, the device's own word is the truth. Returns the verb of
    the command that is answered by this, or nothing.
    """
    found = tx.fetch(_ANSWER, (tx.now_ms, outcome, result, id_, device_id))
    return str(found[0][0]) if found else ""


class Writes:
    """What a batch adds and changes, written in a few statements at its end."""

    def __init__(self) -> None:
        self.lives: dict[int, Live] = {}
        self.told: dict[int, Live] = {}  # of these what they are found by
        self.past_runs: dict[int, RunRow] = {}
        self.connections: dict[int, tuple[int, str | None]] = {}
        self.heartbeats: list[tuple[int, int, int, int, int, str]] = []
        self.days: list[tuple[int, int, int, int, str | None]] = []
        self.late_hours: set[tuple[int, int]] = set()
        self.presences: list[tuple[int, int, str, str, int]] = []
        self.happenings: list[Happened] = []
        self.quarantined: list[tuple[str, str, bytes, int]] = []
        self.counts: list[tuple[int, int, int, int, int, int, int]] = []

    def came(self, tx: Transaction, live: Live) -> None:
        """A device is there that was not, or was late."""
        after, before = Presence.ONLINE.value, live.presence
        self.presences.append((live.id, live.company_id, after, before, tx.now_ms))
        shown = {"presence": after, "before": before}
        kind, serial = Happening.DEVICE_PRESENCE, live.serial
        self.happenings.append(told_as(tx, kind, live.company_id, serial=serial, detail=shown))

    def count(
        self,
        device_id: int,
        *,
        repeats: int = 0,
        lost: int = 0,
        dropped: int = 0,
        ignored_fields: int = 0,
        malformed: int = 0,
    ) -> None:
        """Adds to a device's counters; `dropped` is its own sum, of which the greatest counts."""
        self.counts.append((repeats, lost, dropped, dropped, ignored_fields, malformed, device_id))

    def save(self, tx: Transaction) -> None:
        """Runs the statements, rows in the order of device ids."""
        lives = self.lives
        changed = [_live_values(lives[id_]) for id_ in sorted(lives)]
        tx.change_rows("device_live", _LIVE, changed)
        if self.told:
            note_told(tx, {id_: live.recent for id_, live in self.told.items()})
        tx.add_rows("heartbeat", _HEARTBEAT, self.heartbeats)
        if self.late_hours:
            tx.add_rows("late_hour", ("device_id", "hour"), sorted(self.late_hours))
        past = [_past_values(self.past_runs[id_], tx.now_ms) for id_ in sorted(self.past_runs)]
        if self.connections:
            signed_in = [(c, nonce, id_) for id_, (c, nonce) in sorted(self.connections.items())]
            tx.change_rows("device_live", _CONNECTION, signed_in)
        for statement, rows in (
            (_SAVE_PAST_RUN, past),
            (_ADD_DAYS, self.days),
            (_ADD_PRESENCE, self.presences),
            (_ADD_QUARANTINE, self.quarantined),
            (_COUNT, self.counts),
        ):
            if rows:
                tx.change_many(statement, rows)
        all_happened(tx, self.happenings)
        if self.quarantined:
            # Here and not by a job: a device can fill a disk between two of its rounds.
            tx.change(_BOUND_QUARANTINE, (QUARANTINE_ROWS_MAX,))


def _live_values(live: Live) -> tuple[Any, ...]:
    row = live.run
    assert row is not None
    upto, ranges = row.settled
    return (
        live.node,
        live.last_heard_at,
        live.last_day,
        live.interval_s,
        live.presence,
        live.late_at,
        live.offline_at,
        live.recent,
        live.signal,
        row.id,
        row.run,
        upto,
        encode(ranges).decode() if ranges else None,
        row.state_seq,
        row.need_full,
        row.last_at_ms,
        live.id,
    )


def _past_values(row: RunRow, now_ms: int) -> tuple[Any, ...]:
    upto, ranges = row.settled
    kept = encode(ranges).decode() if ranges else None
    return upto, kept, row.state_seq, row.last_at_ms, now_ms, row.id
