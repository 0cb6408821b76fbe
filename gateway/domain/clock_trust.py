"""Whether the clock may decide about credits: what is in doubt, since when, and how it ends."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, instant_text

APART_MS_MAX = MINUTE_MS
AGREED_MS = MINUTE_MS  # clocks that agree again for so long are believed again
GAP_MS_MAX = 36 * HOUR_MS  # without a sign of life, before a start
BACK_MS_MAX = MINUTE_MS  # instants of several gateways are a moment apart
WARY_MS = DAY_MS  # of running after such a start


@dataclass(frozen=True, slots=True)
class Trust:
    """What a transaction has to know of the clock that dates it."""

    doubt: str = ""  # what is wrong; nothing that the clock decides about is booked
    accepted: int = 0  # how often people accepted the clock, as far as the gateway knows
    # Lots do not expire, and a device whose period was paid after this transfer is not charged
    # again by itself.
    wary_after: int | None = None
    looked_up: bool = False  # in the database, by this transaction

    @property
    def sure(self) -> bool:
        """Whether the clock decides as always."""
        return not self.doubt and self.wary_after is None


TRUSTED = Trust()


class Caution(NamedTuple):
    """After a start that nobody can tell from one with a wrong clock; kept for all gateways."""

    why: str
    since_ms: int
    seq: int  # the newest transfer then
    ran_ms: int  # for how long gateways worked since

    @property
    def over(self) -> bool:
        """Whether gateways worked for so long that the clock is believed."""
        return self.ran_ms >= WARY_MS


def why_wary(now_ms: int, alive_ms: int | None, stored_ms: int | None) -> str:
    """Why the clock at a start is not simply believed; empty when it is.

    `alive_ms`: the last sign of life; `stored_ms`: of the newest transfer.
    """
    last_ms = max((at for at in (alive_ms, stored_ms) if at is not None), default=None)
    if last_ms is not None and now_ms < last_ms - BACK_MS_MAX:
        return f"the clock is before the last time that was stored, {instant_text(last_ms)}"
    if alive_ms is not None and now_ms - alive_ms > GAP_MS_MAX:
        hours = (now_ms - alive_ms) // HOUR_MS
        return f"no sign of life for {hours} hours before the start"
    return ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Two clocks are apart, or were until a moment ago; times of the boot-time clock."""

    what: str
    since_ms: int
    agreed_since_ms: int | None = None


def judged(doubt: Doubt | None, what: str, now_ms: int) -> Doubt | None:
    """The doubt after another comparison; `what` is empty when the clocks agree."""
    if what:
        return Doubt(what, now_ms if doubt is None else doubt.since_ms)
    if doubt is None:
        return None
    if doubt.agreed_since_ms is None:
        return replace(doubt, agreed_since_ms=now_ms)
    return None if now_ms - doubt.agreed_since_ms >= AGREED_MS else doubt


def apart(low_ms: int, high_ms: int) -> int:
    """How far two clocks are apart at least, when it is known only to lie between these."""
    return low_ms if low_ms > 0 else min(high_ms, 0)


def words(what: str, apart_ms: int) -> str:
    """A sentence about two clocks that are too far apart; empty when they are not."""
    if abs(apart_ms) <= APART_MS_MAX:
        return ""
    return f"{what} by {apart_ms / SECOND_MS:+,.0f} s"
