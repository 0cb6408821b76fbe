"""What the gateway holds of a run, and how a message changes it."""

from dataclasses import dataclass
from typing import NamedTuple

from wire.heartbeat import REFUSED_MAX, Message, Sample
from wire.ranges import Settled, add, bounded, close_below

SUPERSESSIONS_PER_HOUR_MAX = 3
LOST_MAX = 1_000_000_000  # counted of one message
_EARLIEST_MS = 1_577_836_800_000  # 2020: no agent existed before


@dataclass(slots=True)
class RunRow:
    """One row of `run`; it is the receipt. Changed in the transaction that stores."""

    id: int
    run: str
    settled: Settled
    state_seq: int
    need_full: bool
    last_at_ms: int | None
    connection: int
    introduced: bool  # the nonce of this connection is known: commands can be sent
    superseded: bool


class Taken(NamedTuple):
    """What of a message is new."""

    fresh: list[Sample]
    state: list[Sample]  # those whose values change the device's latest state, ascending
    repeats: int
    lost: int
    given_up: tuple[tuple[int, int], ...] = ()  # the device may still hold these


def take(row: RunRow, message: Message) -> Taken:
    """Settles the message's numbers in the row; says which samples to store and to apply."""
    upto, ranges = row.settled
    if (
        len(message.samples) == 1
        and not ranges
        and message.samples[0].number == upto + 1
        and message.low <= upto + 1
        and not row.superseded
    ):
        # A live message in order: by far the most frequent case, and the same result.
        row.settled = Settled(upto + 1)
        row.state_seq = upto + 1
        row.need_full = row.need_full and message.base != 0
        return Taken(message.samples, message.samples, 0, 0)
    # Asked before gaps are closed: a number that is given up now is not held.
    base_known = message.base == 0 or message.base in row.settled
    settled, lost = close_below(row.settled, message.low)
    fresh: list[Sample] = []
    for sample in message.samples:
        if sample.number not in settled:
            settled = add(settled, sample.number)
            fresh.append(sample)
    kept, more = bounded(settled)
    given_up = _gaps(settled, kept.upto) if more else ()
    settled = kept
    state: list[Sample] = []
    if not row.superseded:
        if not base_known:
            row.need_full = True
        elif message.base == 0 and message.samples[0].number > row.state_seq:
            # Only the first sample is full; where it is not applied, fields may still be missing.
            row.need_full = False
        # A delta on a base we do not hold still carries absolute values: they are the newest.
        state = [sample for sample in fresh if sample.number > row.state_seq]
        if state:
            row.state_seq = state[-1].number
    row.settled = settled
    # A run whose numbers leap is no reason for a counter that no column holds.
    lost = min(lost + more, LOST_MAX)
    return Taken(fresh, state, len(message.samples) - len(fresh), lost, given_up)


def _gaps(settled: Settled, last: int) -> tuple[tuple[int, int], ...]:
    """The numbers up to `last` that are not settled, the newest gaps of those."""
    gaps: list[tuple[int, int]] = []
    upto = settled.upto
    for first, end in settled.ranges:
        if first > last:
            break
        gaps.append((upto + 1, first - 1))
        upto = end
    return tuple(gaps[-REFUSED_MAX:])


def wants_receipt(message: Message, every: int) -> bool:
    """A receipt is due at each number divisible by `every`, and when the device asks."""
    samples = message.samples
    if message.ask or samples[-1].number % every == 0:
        return True
    return len(samples) > 1 and any(sample.number % every == 0 for sample in samples)


SERVER_TIME, DEVICE_TIME, INTERPOLATED = 0, 1, 2


def instant_of(
    sample: Sample, message: Message, arrival_ms: int, before_ms: int | None
) -> tuple[int, int]:
    """When a sample was made, and how that is known.

    `before_ms` is the newest instant known of an earlier run: where a boot without any clock
    must have begun.
    """
    if message.origin is None:
        at_ms = arrival_ms - sample.clock_ms
        # An age that reaches before any agent is a device's mistake or a lie.
        return (at_ms, SERVER_TIME) if at_ms >= _EARLIEST_MS else (_EARLIEST_MS, INTERPOLATED)
    offset_ms = message.origin.offset_ms
    if offset_ms is not None and _EARLIEST_MS <= sample.clock_ms + offset_ms <= arrival_ms:
        return sample.clock_ms + offset_ms, DEVICE_TIME
    if before_ms is not None:
        return min(before_ms + sample.clock_ms, arrival_ms), INTERPOLATED
    guess_ms = arrival_ms - (message.samples[-1].clock_ms - sample.clock_ms)
    return min(max(_EARLIEST_MS, guess_ms), arrival_ms), INTERPOLATED
