"""Periods of monitoring: when one starts, ends, is extended, and what is left of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.ledger import DAYS_PER_CREDIT

SEAMLESS_MS = HOUR_MS  # an extension this late still starts where the old period ended
GRACE_DAYS_DEFAULT = 3
GRACE_DAYS_MAX = 30


@dataclass(frozen=True, slots=True)
class Period:
    """`[start, end)`; the prepaid account holds exactly its days."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        assert self.end_ms > self.start_ms
        assert (self.end_ms - self.start_ms) % DAY_MS == 0

    @property
    def days(self) -> int:
        return (self.end_ms - self.start_ms) // DAY_MS

    def days_left(self, now_ms: int) -> int:
        """Whole days still ahead: a begun day is used."""
        return min(self.days, max(0, (self.end_ms - now_ms) // DAY_MS))

    def extended(self, days: int) -> "Period":
        return Period(self.start_ms, self.end_ms + days * DAY_MS)


@dataclass(frozen=True, slots=True)
class Grace:
    """Service after a period's end while nobody could pay."""

    from_ms: int
    until_ms: int

    def served_ms(self, now_ms: int, outages: Iterable[tuple[int, int]]) -> int:
        """How long the device was served for nothing; time of outages does not count."""
        end_ms = min(now_ms, self.until_ms)
        missing = sum(
            max(0, min(end_ms, stop) - max(self.from_ms, start)) for start, stop in outages
        )
        return max(0, end_ms - self.from_ms - missing)

    def stopped(self, now_ms: int) -> "Grace":
        """The same grace when service ends before it does: what was served stays owed."""
        return Grace(self.from_ms, max(self.from_ms, min(self.until_ms, now_ms)))

    def resumed(
        self, now_ms: int, grace_days: int, outages: Iterable[tuple[int, int]]
    ) -> "Grace | None":
        """The rest of a grace that was stopped; None when nothing of it is left."""
        from_ms = now_ms - self.served_ms(now_ms, outages)
        until_ms = from_ms + grace_days * DAY_MS
        return Grace(from_ms, until_ms) if now_ms < until_ms else None


def grace_after(end_ms: int, now_ms: int, grace_days: int) -> Grace | None:
    """The grace that begins when nobody can pay at a period's end; None when there is none."""
    if grace_days == 0:
        return None
    from_ms = end_ms if now_ms - end_ms <= SEAMLESS_MS else now_ms
    grace = Grace(from_ms, from_ms + grace_days * DAY_MS)
    return grace if now_ms < grace.until_ms else None


def next_start(
    now_ms: int, last_end_ms: int | None, grace: Grace | None, outages: Iterable[tuple[int, int]]
) -> int:
    """Where the next period starts: without a hole, and never charging unserved time."""
    if grace is not None:
        return now_ms - grace.served_ms(now_ms, outages)
    if last_end_ms is not None and now_ms - last_end_ms <= SEAMLESS_MS:
        return last_end_ms
    return now_ms


def credits_beyond(start_ms: int, now_ms: int) -> int:
    """The fewest credits whose period, begun at `start_ms`, reaches beyond now."""
    # A clock that was set back may find the last period's end, and so the start, ahead of it.
    return max(1, (now_ms - start_ms) // (DAYS_PER_CREDIT * DAY_MS) + 1)


class Wish(StrEnum):
    """What the rules want for a device without a running period."""

    NOTHING = "nothing"  # nobody wants service: off, not activated
    WAIT = "wait"  # it is charged when it is heard: off, unheard or not activated
    CHARGE = "charge"


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides about a device without a running period."""

    start: str  # how it was registered: now, on_contact, later
    auto_extend: bool
    last_end_ms: int | None  # end of its last period in this registration
    last_start_ms: int | None
    last_heard_ms: int | None
    grace: Grace | None
    extend_unheard: bool
    paid_before: bool = False  # with a period or, under the plan `daily`, a day


def wish(standing: Standing, now_ms: int, *, contact: bool) -> Wish:
    """Whether a credit should be taken now. `contact`: a heartbeat is being handled."""
    if standing.last_end_ms is None:
        if standing.start == "later" or (standing.paid_before and not standing.auto_extend):
            return Wish.NOTHING
        # One that was heard in this registration waits for credits alone, not for its next contact.
        heard = contact or standing.last_heard_ms is not None
        return Wish.CHARGE if heard else Wish.WAIT
    if not standing.auto_extend:
        return Wish.NOTHING
    if contact or standing.extend_unheard:
        return Wish.CHARGE
    late = now_ms - standing.last_end_ms > SEAMLESS_MS
    if standing.grace is not None:
        # It was heard in the period that ended, or it would not have been given grace; once
        # grace is over, only a device that is still there is worth a credit.
        late = now_ms >= standing.grace.until_ms
    # After an outage the period may have ended long ago: its next heartbeat pays, at once.
    heard_since_ms = standing.last_end_ms if late else (standing.last_start_ms or 0)
    heard = standing.last_heard_ms is not None and standing.last_heard_ms >= heard_since_ms
    return Wish.CHARGE if heard else Wish.WAIT
