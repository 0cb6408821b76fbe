"""One batch of messages in one transaction: runs, states, history, days, charges."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.domain.history import ROLLED_UP_AFTER_MS
from gateway.domain.instants import HOUR_MS, MINUTE_MS, SECOND_MS, day_of
from gateway.domain.presence import Deadlines, Presence, after_leaving, deadlines
from gateway.domain.runs import (
    SUPERSESSIONS_PER_HOUR_MAX,
    RunRow,
    Taken,
    instant_of,
    take,
    wants_receipt,
)
from gateway.domain.service import UNSERVED_INTERVAL_S, State
from gateway.ingest import answers, rows
from gateway.ingest.rows import Live, Writes
from gateway.ingest.standings import Standings, served_at_once
from gateway.operations.clock_state import trust_of
from gateway.operations.daily import DAILY
from gateway.operations.session_locks import lock_sessions_of
from gateway.operations.standing import tell_interval
from gateway.operations.telling import tell_device
from gateway.storage.transaction import Transaction
from wire import topics
from wire.commands import Answer
from wire.heartbeat import REFUSED_MAX, TOO_MANY_GAPS, Message, Receipt, Refused, encode_receipt
from wire.presence import Up

QUARANTINE_REASON_CHARS_MAX = 200
COMMITTED_WITHIN_MS = 5 * MINUTE_MS  # of its transaction's begin, or it is given up


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A payload that is not of its topic's form."""

    topic: str
    payload: bytes
    reason: str


class Incoming(NamedTuple):
    """One message of a device, decoded as it arrived."""

    serial: str
    body: Message | Up | Answer | Unreadable
    arrival_ms: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the whole batch."""

    node: str
    node_clock_ms: int
    every: int
    spread_s: int


@dataclass(slots=True)
class Outcome:
    """What a committed batch did, and the receipts to send now."""

    receipts: list[tuple[str, bytes]] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    lost: int = 0
    malformed: int = 0
    unknown: int = 0
    ignored_fields: int = 0
    unserved: int = 0


class Batch:
    """Applies messages to the rows of one transaction."""

    def __init__(self, tx: Transaction, terms: Terms) -> None:
        self._tx = tx
        self._terms = terms
        # Hours that end before this instant are rolled up, or may be before this is committed.
        rolled_up_ms = tx.now_ms - ROLLED_UP_AFTER_MS + COMMITTED_WITHIN_MS
        self._late_before_ms = rolled_up_ms - rolled_up_ms % HOUR_MS
        self._writes = Writes()
        self._runs: dict[tuple[int, str], RunRow] = {}
        self._due: dict[int, tuple[Live, RunRow]] = {}
        self._refused: dict[int, tuple[Refused, ...]] = {}
        self._standings = Standings(tx, terms.node)
        self._uncounted: set[int] = set()
        self._outcome = Outcome()

    def run(self, batch: list[Incoming]) -> Outcome:
        """Everything of the batch; the receipts may be sent once this is committed."""
        lives = rows.load(self._tx, {message.serial for message in batch})
        self._lock(batch, lives)
        for message in batch:
            body = message.body
            live = lives.get(message.serial)
            if live is None or not live.registered:
                # Its login is being taken away, or the MQTT server knows more than we do.
                self._outcome.unknown += 1
                continue
            if type(body) is Message:
                self._heartbeat(live, body, message.arrival_ms)
            elif type(body) is Up:
                self._up(live, body, message.arrival_ms)
            elif type(body) is Answer:
                self._answer(live, body)
            elif type(body) is Unreadable:
                self._unreadable(live, body)
        self._writes.days += self._standings.write()
        self._writes.save(self._tx)
        self._outcome.receipts = [self._receipt(live, row) for live, row in self._due.values()]
        return self._outcome

    def _lock(self, batch: list[Incoming], lives: dict[str, Live]) -> None:
        """Locks what this batch changes beside its devices, which are locked, for all at once."""
        speaking: set[int] = set()
        long_way: set[int] = set()
        for message in batch:
            live = lives.get(message.serial)
            if live is None or not live.registered:
                continue
            if type(message.body) is Message:
                if not served_at_once(self._tx, live):
                    long_way.add(live.id)
            elif type(message.body) is Answer or (type(message.body) is Up and message.body.up):
                speaking.add(live.id)
        if speaking:
            lock_sessions_of(self._tx, sorted(speaking))
        self._standings.prepare(long_way)

    def _answer(self, live: Live, body: Answer) -> None:
        wrong = answers.take(self._tx, live, body)
        if wrong:
            self._unreadable(live, Unreadable(topics.answer(live.serial), b"", wrong))

    def _unreadable(self, live: Live, body: Unreadable) -> None:
        self._writes.count(live.id, malformed=1)
        self._outcome.malformed += 1
        reason = body.reason[:QUARANTINE_REASON_CHARS_MAX]
        self._writes.quarantined.append((body.topic, reason, body.payload, self._tx.now_ms))

    def _heartbeat(self, live: Live, message: Message, arrival_ms: int) -> None:
        current = self._current_run(live, message.current_run)
        row = current if message.run == message.current_run else self._past_run(live, message.run)
        live.last_heard_at = arrival_ms
        if current is not live.run:
            rows.save_heard(self._tx, live.id, arrival_ms)
        elif message.connection < current.connection:
            self._overtaken(live)
        else:
            self._writes.lives[live.id] = live
            if message.connection > current.connection:
                # Its `up` has not come by yet: commands need this connection's nonce.
                self._connected(live, current, message.connection, None)
            live.node = self._terms.node
            live.interval_s = message.interval_s
            live.late_at, live.offline_at = deadlines(self._terms.node_clock_ms, message.interval_s)
            self._seen(live)
        served = self._served(live)
        taken = take(row, message)
        if row.superseded:
            self._writes.past_runs[row.id] = row
        self._count(live, message, taken)
        if served:
            self._store(live, row, message, taken, arrival_ms)
        else:
            self._outcome.unserved += 1
        if current is live.run:
            self._check_interval(live)
        if taken.given_up:
            # Settled without being stored: said at once, before a receipt says that it is settled.
            refused = tuple(Refused(a, b, TOO_MANY_GAPS) for a, b in taken.given_up)
            self._refused[row.id] = (*self._refused.get(row.id, ()), *refused)[-REFUSED_MAX:]
            self._due[row.id] = (live, row)
        elif wants_receipt(message, self._terms.every):
            self._due[row.id] = (live, row)

    def _overtaken(self, live: Live) -> None:
        """A message of an older connection says nothing of the present: its samples alone count."""
        if live.id not in self._writes.lives:
            (live.late_at, live.offline_at), live.node = rows.deadlines_of(self._tx, live.id)
            self._writes.lives[live.id] = live

    def _count(self, live: Live, message: Message, taken: Taken) -> None:
        if taken.repeats or taken.lost or message.dropped or message.ignored_fields:
            self._writes.count(
                live.id,
                repeats=taken.repeats,
                lost=taken.lost,
                dropped=message.dropped,
                ignored_fields=message.ignored_fields,
            )
            self._outcome.repeated += taken.repeats
            self._outcome.lost += taken.lost
            self._outcome.ignored_fields += message.ignored_fields

    def _current_run(self, live: Live, run: str) -> RunRow:
        """The row of the run that the device says is its current one."""
        if live.run is not None and live.run.run == run:
            return live.run
        row = self._find(live, run)
        if row is None:
            row = rows.add_run(self._tx, live.id, run, None)
            self._supersede(live)
            live.run = row
        return row

    def _past_run(self, live: Live, run: str) -> RunRow:
        """The row of a run that is known from its samples alone, or was superseded."""
        if live.run is not None and live.run.run == run:
            return live.run
        row = self._find(live, run)
        if row is None:
            row = rows.add_run(self._tx, live.id, run, self._tx.now_ms)
            self._runs[live.id, run] = row
        return row

    def _find(self, live: Live, run: str) -> RunRow | None:
        key = (live.id, run)
        row = self._runs.get(key)
        if row is None:
            row = rows.find_run(self._tx, live.id, run)
            if row is not None:
                self._runs[key] = row
        return row

    def _supersede(self, live: Live) -> None:
        former = live.run
        if former is None:
            return
        former.superseded = True
        self._runs[live.id, former.run] = former
        self._writes.past_runs[former.id] = former
        self._count_supersession(live)

    def _count_supersession(self, live: Live) -> None:
        times = rows.count_supersession(self._tx, live.id, HOUR_MS)
        if times > SUPERSESSIONS_PER_HOUR_MAX:
            rows.set_two_places(self._tx, live.id)

    def _seen(self, live: Live) -> None:
        if live.presence != Presence.ONLINE:
            self._writes.came(self._tx, live)
            live.presence = Presence.ONLINE.value

    def _served(self, live: Live) -> bool:
        """Whether samples are kept; what falls due is charged here and now."""
        if served_at_once(self._tx, live):
            return True
        was_active = live.state == State.ACTIVE
        held = self._standings.heard(live)
        if live.first_heard_at is None:
            rows.set_first_heard(self._tx, live.id)
            live.first_heard_at = self._tx.now_ms
        live.state, live.period_end, live.payer_id = held.state, held.period_end, held.payer_id
        live.grace_until, live.owed_days = held.grace_until, held.owed_days
        if held.period_start is not None:
            # The heartbeat that begins a period is heard in it, though it arrived before.
            live.last_heard_at = max(live.last_heard_at, held.period_start)
            if self._tx.today < day_of(held.period_start):
                # While the device was waited for, another transaction began it, after midnight.
                self._uncounted.add(live.id)
        if held.active and not was_active:
            # In the row of the current run, whichever run this message bears.
            assert live.run is not None
            live.run.need_full = True
        return held.active

    def _store(
        self, live: Live, row: RunRow, message: Message, taken: Taken, arrival_ms: int
    ) -> None:
        fresh, state = taken.fresh, taken.state
        before_ms = None
        if message.origin is not None and message.origin.offset_ms is None:
            before_ms = rows.last_instant_before(self._tx, live.id, row.id)
        first_state = state[0].number if state else 0
        changes: dict[int, tuple[Any, int]] = {}
        for sample in fresh:
            at, time_from = instant_of(sample, message, arrival_ms, before_ms)
            kept = rows.encode(sample.values).decode()
            owner = live.id if at >= live.since else rows.holder_at(self._tx, live, at)
            self._writes.heartbeats.append((owner, row.id, sample.number, at, time_from, kept))
            if at < self._late_before_ms:
                self._writes.late_hours.add((owner, at // HOUR_MS))
            if row.last_at_ms is None or at > row.last_at_ms:
                row.last_at_ms = at
            if state and sample.number >= first_state and owner == live.id:
                for id_, value in sample.values.items():
                    changes[id_] = (value, at)
        if changes and rows.keep_latest(self._tx, live, changes):
            self._writes.told[live.id] = live
        self._outcome.stored += len(fresh)
        if fresh and live.last_day != self._tx.today and not trust_of(self._tx).doubt:
            self._count_day(live)

    def _count_day(self, live: Live) -> None:
        """The first sample of a day: under a running period it is paid, else it may be charged."""
        today = self._tx.today
        if live.period_end is not None and live.id not in self._uncounted:
            assert live.payer_id is not None
            live.last_day = today
            self._writes.days.append((live.id, today, live.company_id, live.payer_id, None))
        elif live.period_end is None and live.plan == DAILY:
            self._standings.take_day(live)

    def _check_interval(self, live: Live) -> None:
        """A device that missed what it was told about its interval is told again."""
        slow = live.interval_s == UNSERVED_INTERVAL_S
        if slow == (live.state != State.ACTIVE):
            return
        if not rows.may_tell_again(self._tx, live.id, MINUTE_MS):
            return
        held = self._standings.of(live)
        tell_interval(self._tx, held)
        self._standings.save(held)

    def _connected(self, live: Live, current: RunRow, connection: int, nonce: str | None) -> None:
        current.connection, current.introduced = connection, nonce is not None
        self._writes.connections[live.id] = (connection, nonce)

    def _up(self, live: Live, up: Up, arrival_ms: int) -> None:
        if not up.up:
            self._left(live, up)
            return
        current = self._current_run(live, up.run)
        if current is not live.run:
            # A life that was over signs in again: somebody else lives under the same name.
            self._count_supersession(live)
            return
        if up.connection < current.connection:
            return
        if up.connection > current.connection or not current.introduced:
            # What it was told before is dead: commands are bound to a connection.
            tell_device(self._tx, live.id, self._terms.node)
        self._writes.lives[live.id] = live
        self._connected(live, current, up.connection, up.nonce)
        live.node = self._terms.node
        live.last_heard_at = arrival_ms
        live.late_at, live.offline_at = deadlines(self._terms.node_clock_ms, live.interval_s)
        self._seen(live)

    def _left(self, live: Live, up: Up) -> None:
        """A Last Will, or a clean stop; it counts only for the newest connection known."""
        current = live.run
        if current is None or (current.run, current.connection) != (up.run, up.connection):
            return
        # Nobody hears commands there any more; a device that is there after all says `up` again.
        self._connected(live, current, up.connection, None)
        changed = live.id in self._writes.lives
        before = (
            Deadlines(live.late_at, live.offline_at)
            if changed
            else rows.deadlines_of(self._tx, live.id)[0]
        )
        live.late_at, live.offline_at = after_leaving(self._terms.node_clock_ms, before)
        if not changed:
            rows.save_deadlines(self._tx, live.id, live.late_at, live.offline_at)

    def _receipt(self, live: Live, row: RunRow) -> tuple[str, bytes]:
        current = live.run is row
        receipt = Receipt(
            row.run,
            row.settled.upto,
            row.settled.ranges,
            self._tx.now_ms,
            self._terms.every,
            current and row.need_full and live.state == State.ACTIVE,
            current and not row.introduced,
            self._terms.spread_s,
            self._refused.get(row.id, ()),
        )
        return topics.receipt(live.serial), encode_receipt(receipt)


def take_batch(tx: Transaction, batch: list[Incoming], terms: Terms) -> Outcome:
    """The whole batch in this transaction. Safe to run again: what is stored is a repeat."""
    return Batch(tx, terms).run(batch)


RECEIPT_EVERY = 4
SPREAD_DEVICES_PER_S = 100
SPREAD_S_MIN = 5


def spread_s(devices: int) -> int:
    """Over how many seconds the devices of a node come back after it was lost."""
    return max(SPREAD_S_MIN, devices // SPREAD_DEVICES_PER_S)


BATCH_MESSAGES_MAX = 500
BATCH_WAIT_S = 50 / SECOND_MS
