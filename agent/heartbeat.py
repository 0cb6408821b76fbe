"""Decides which samples go into which message, and what a receipt settles: values in, values out.

Live messages carry what was sampled since the last one, once. Everything else without a receipt
is the backlog: samples of earlier runs, of before this connection, and those that a receipt shows
to be lost. It goes oldest first, one message at a time, each with `ask`, and again after 30 s
doubling to 1 h.
"""

import logging
from random import Random
from typing import NamedTuple

from agent.intervals import Intervals
from agent.spool import Spool, Stored
from wire.fields import Value
from wire.heartbeat import (
    MESSAGE_BYTES_MAX,
    SAMPLES_MAX,
    Message,
    Origin,
    Receipt,
    Sample,
    encode_message,
    fitting,
    new_run,
)
from wire.ranges import Settled

log = logging.getLogger(__name__)

EVERY = 4  # until a receipt says otherwise
RESEND_S_FIRST = 30
RESEND_S_MAX = 3_600
RESEND_S_MIN = 1
STRIKES_MAX = 8
# A receipt for something sent later proves the loss, so there is no need to wait; but not forever.
FAST_RESENDS_MAX = 3
_NEVER_MS = 2**62


class Outstanding(NamedTuple):
    """The backlog message that waits for its receipt."""

    run: str
    numbers: list[int]
    live_next: int  # live samples from this number on are sent after it


class Received(NamedTuple):
    """What a receipt did: numbers of `run` that it settled, and whether `up` must be repeated."""

    run: str
    settled: list[int]
    send_up: bool


class Heartbeats:
    """One run of samples over any number of connections. Times are boot-time milliseconds."""

    def __init__(self, spool: Spool, *, boot_id: str, rng: Random, intervals: Intervals) -> None:
        self.run = new_run()
        self.intervals = intervals
        self.every = EVERY
        self.spread_s = 0
        self.connection = 0
        self.last_number = 0
        self.base = 0
        self.receipts = 0
        self.receipts_ignored = 0
        self._spool = spool
        self._boot_id = boot_id
        self._rng = rng
        self._values: dict[int, Value] = {}
        self._changed: dict[int, int] = {}
        self._full_wanted = True
        self._connected = False
        self._live_from = 1  # the lowest number sent live on this connection
        self._live_next = 1  # the lowest number not yet sent live
        self._live_due_ms = 0
        self._answered = False  # a receipt has come on this connection
        self._outstanding: Outstanding | None = None
        self._resend_ms = 0
        self._attempts = 0
        self._fast_resends = 0
        self._later_receipted = False
        spool.begin_run(self.run, boot_id)

    # Samples

    @property
    def next_number(self) -> int:
        """The number that the next sample will have."""
        return self.last_number + 1

    def sample(self, values: dict[int, Value], now_ms: int) -> int:
        """Numbers the sample and keeps it.

        A field that a failed source leaves out says nothing: the gateway keeps what it has. When it
        comes back it counts as changed, whatever its value, since nobody knows what was missed.
        """
        number = self.next_number
        for field_id, value in values.items():
            # `1 == True` in Python, but not on the wire.
            before = self._values.get(field_id)
            if before != value or type(before) is not type(value):
                self._changed[field_id] = number
        self._values = values
        self.last_number = number
        self._spool.append(self.run, number, now_ms, values)
        return number

    # Connections

    def next_connection(self) -> int:
        """The number of the connection that is tried now.

        Each attempt has its own: the Last Will of one that failed half-way must not speak of the
        next one.
        """
        self.connection += 1
        return self.connection

    def connected(self, now_ms: int) -> None:
        """A connection begins. The first message goes at once and asks."""
        self._connected = True
        self._answered = False
        self._outstanding = None
        self._attempts = self._fast_resends = 0
        newest = self._spool.numbers(self.run, self.last_number, self.last_number, count_max=1)
        self._live_next = self._live_from = newest[0] if newest else self.next_number
        self._live_due_ms = now_ms

    def disconnected(self) -> None:
        """Nothing is sent until the next connection."""
        self._connected = False
        self._outstanding = None

    def send_at_once(self, now_ms: int) -> None:
        """The next sample does not wait for the sending interval."""
        self._live_due_ms = min(self._live_due_ms, now_ms)

    def due_ms(self) -> int:
        """When `take` may have something to send; far away when only an event can change that."""
        if not self._connected:
            return _NEVER_MS
        due_ms = self._live_due_ms if self._live_next <= self.last_number else _NEVER_MS
        if self._outstanding is not None:
            return min(due_ms, self._resend_ms)
        if self._answered and self._next_backlog_run() is not None:
            return min(due_ms, 0)
        return due_ms

    def take(self, now_ms: int) -> bytes | None:
        """The next message to send now, if any."""
        if not self._connected:
            return None
        if self._live_next <= self.last_number and now_ms >= self._live_due_ms:
            payload = self._take_live(now_ms)
            if payload is not None:
                return payload
        if self._outstanding is not None:
            if now_ms < self._resend_ms:
                return None
            self._failed(self._outstanding)
        if not self._answered:
            return None  # Whether anybody reads at all is found out by live messages first.
        return self._take_backlog(now_ms)

    # Live messages

    def _take_live(self, now_ms: int) -> bytes | None:
        newest = self.last_number
        numbers = self._spool.numbers(self.run, self._live_next, newest, count_max=SAMPLES_MAX + 1)
        # What does not fit into one message beside the newest sample is left to the backlog.
        if len(numbers) > SAMPLES_MAX:
            self._live_from = newest
            numbers = self._spool.numbers(self.run, newest, newest, count_max=1)
        stored = self._read(self.run, numbers)
        self._live_next = self.next_number
        self._live_due_ms = now_ms + self.intervals.sending_s * 1_000
        if not stored:
            return None
        full = self._full_wanted or not 0 < self.base < stored[0].number
        samples = self._deltas(stored, now_ms, full=full)
        if fitting(samples) < len(samples):
            self._live_from = stored[-1].number
            stored = stored[-1:]
            samples = self._deltas(stored, now_ms, full=full)
        self._full_wanted = False
        return self._encode(
            self.run, samples, base=0 if full else self.base, ask=self._asks(now_ms), origin=None
        )

    def _asks(self, now_ms: int) -> bool:
        if not self._answered:
            return True
        lowest = self._spool.numbers(self.run, self._live_from, self.last_number, count_max=1)
        if not lowest:
            return False
        second = self._spool.second_of(self.run, lowest[0])
        assert second is not None
        age_s = now_ms // 1_000 - second
        return age_s > 2 * self.every * self.intervals.in_force_s

    def _deltas(self, stored: list[Stored], now_ms: int, *, full: bool) -> list[Sample]:
        """Changed fields with absolute values; the first is relative to `base` or full.

        For the first, a field counts as changed when it changed after `base` at all, be it after
        this sample: too much is harmless, too little is not. Behind a gap in the numbers a sample
        is full, because the gateway may hold what was here in between.
        """
        samples: list[Sample] = []
        known: dict[int, Value] = {}
        before = 0
        for one in stored:
            if before and one.number == before + 1:
                sent = {f: v for f, v in one.values.items() if not _same(known.get(f), v)}
            elif before or full:
                sent = one.values
            else:
                sent = {f: v for f, v in one.values.items() if self._changed[f] > self.base}
            known = one.values
            before = one.number
            samples.append(Sample(one.number, max(0, now_ms - one.boot_ms), sent))
        return samples

    # The backlog

    def _next_backlog_run(self) -> str | None:
        """The oldest run that has a sample of the backlog."""
        for run in self._spool.runs():
            if run != self.run:
                return run
            lowest = self._spool.lowest(run)
            if lowest is not None and lowest <= self._backlog_last():
                return run
        return None

    def _backlog_last(self) -> int:
        """Current run: below what went live here, or below a receipt that came by later."""
        return max(self._live_from - 1, self._lost_upto())

    def _lost_upto(self) -> int:
        return min(self.base, self._live_next - 1)

    def _take_backlog(self, now_ms: int) -> bytes | None:
        while (run := self._next_backlog_run()) is not None:
            lowest = self._spool.lowest(run)
            assert lowest is not None
            last = self._backlog_last() if run == self.run else 2**32 - 1
            # After failures smaller messages go, down to one sample: one that can never be taken
            # costs itself alone in the end.
            count_max = max(1, SAMPLES_MAX >> self._spool.strikes(run, lowest))
            stored = self._read(run, self._spool.numbers(run, 1, last, count_max=count_max))
            if not stored:
                continue  # All of them were damaged, and are gone from the spool now.
            boot = self._spool.boot_of(run)
            here = boot.boot_id == self._boot_id
            samples = self._deltas(stored, now_ms, full=True)
            if not here:
                samples = [
                    s._replace(clock_ms=o.boot_ms) for s, o in zip(samples, stored, strict=True)
                ]
            samples = samples[: fitting(samples)]
            numbers = [sample.number for sample in samples]
            self._outstanding = Outstanding(run, numbers, self._live_next)
            self._later_receipted = False
            self._resend_ms = now_ms + self._resend_wait_ms()
            self._attempts += 1
            return self._encode(
                run, samples, base=0, ask=True, origin=None if here else Origin(boot.offset_ms)
            )
        return None

    def _resend_wait_ms(self) -> int:
        ceiling_s = min(RESEND_S_FIRST << min(self._attempts, 16), RESEND_S_MAX)
        return int(self._rng.uniform(RESEND_S_MIN, ceiling_s) * 1_000)

    def _failed(self, outstanding: Outstanding) -> None:
        """No receipt for it came: it is sent again, and counted if later ones got theirs."""
        self._outstanding = None
        if not self._later_receipted:
            return
        if self._spool.strike(outstanding.run, outstanding.numbers) < STRIKES_MAX:
            return
        for number in outstanding.numbers:
            if self._spool.strikes(outstanding.run, number) >= STRIKES_MAX:
                self._spool.refuse(outstanding.run, number, number)
                log.warning("sample dropped, it was never receipted number=%d", number)

    # Receipts

    def receipt(self, receipt: Receipt, now_ms: int) -> Received:
        """Lets go of what the gateway has committed."""
        highest = max((last for _, last in receipt.ranges), default=0)
        highest = max(highest, receipt.upto)
        if receipt.run == self.run and highest > self.last_number:
            # Nobody can have stored what was not yet made.
            self.receipts_ignored += 1
            log.warning("receipt ignored, it names samples that do not exist")
            return Received(receipt.run, [], send_up=False)
        self.receipts += 1
        self._answered = True
        self.every = receipt.every
        self.spread_s = receipt.spread_s
        for refused in receipt.refused:
            count = self._spool.refuse(receipt.run, refused.first, refused.last)
            if count:
                log.warning("samples refused count=%d reason=%s", count, refused.reason)
        settled = self._spool.settle(receipt.run, Settled(receipt.upto, receipt.ranges))
        if receipt.run == self.run:
            self.base = max(self.base, highest)
            self._full_wanted = self._full_wanted or receipt.full
        self._judge_outstanding(receipt, settled, now_ms)
        return Received(receipt.run, settled, send_up=receipt.send_up)

    def _judge_outstanding(self, receipt: Receipt, settled: list[int], now_ms: int) -> None:
        waiting = self._outstanding
        if waiting is None:
            return
        first, last = waiting.numbers[0], waiting.numbers[-1]
        if not self._spool.numbers(waiting.run, first, last, count_max=1):
            self._outstanding = None
            self._attempts = self._fast_resends = 0
            return
        if receipt.run != self.run or not any(n >= waiting.live_next for n in settled):
            return
        # The pipe keeps the order, so the message is lost, or the gateway cannot take it.
        self._later_receipted = True
        if self._fast_resends < FAST_RESENDS_MAX:
            self._fast_resends += 1
            wait_ms = int(self._rng.uniform(0, RESEND_S_MIN) * 1_000)
            self._resend_ms = min(self._resend_ms, now_ms + wait_ms)

    # Encoding

    def _read(self, run: str, numbers: list[int]) -> list[Stored]:
        read = (self._spool.read(run, number) for number in numbers)
        return [stored for stored in read if stored is not None]

    def _encode(
        self, run: str, samples: list[Sample], *, base: int, ask: bool, origin: Origin | None
    ) -> bytes:
        low = self._spool.lowest(run)
        payload = encode_message(
            Message(
                run,
                self.run,
                self.connection,
                base,
                samples[0].number if low is None else low,
                self.intervals.in_force_s,
                ask,
                self._spool.dropped,
                origin,
                samples,
            )
        )
        assert len(payload) <= MESSAGE_BYTES_MAX
        return payload


def _same(before: Value | None, value: Value) -> bool:
    return before == value and type(before) is type(value)
