"""What registering a serial does, by what is known of it."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.instants import DAY_MS

LAPSES_MS = 30 * DAY_MS  # a registration never joined no longer blocks others
UNDONE_WITHIN_MS = DAY_MS  # how long a replaced router's credential is kept for an undo
HASH_KEPT_MS = 90 * DAY_MS  # how long a dormant device can be woken from the desk


class Outcome(StrEnum):
    """What happens to the serial."""

    NEW = "new"  # a new tenure; it has to join
    WAKE = "wake"  # dormant nearby: its credential is valid again, from the desk
    TAKE_OVER = "take_over"  # somebody's registration that was never used ends; credits go back
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Known:
    """The newest tenure of a serial."""

    registered: bool
    joined: bool
    company_id: int
    registered_at: int
    dormant_at: int | None


def registering(
    known: Known | None,
    company_id: int,
    near: frozenset[int],
    now_ms: int,
    *,
    by_join: bool = False,
) -> Outcome:
    """`near`: the company itself, the one above, those one below.

    `by_join`: the device itself asks, with a join code of the company; that wins over a
    registration that never joined.
    """
    if known is None:
        return Outcome.NEW
    if known.registered:
        lapsed = by_join or now_ms - known.registered_at >= LAPSES_MS
        if not known.joined and lapsed and known.company_id != company_id:
            return Outcome.TAKE_OVER
        return Outcome.UNAVAILABLE
    asleep_ms = now_ms - (known.dormant_at or 0)
    if known.joined and known.company_id in near and asleep_ms <= HASH_KEPT_MS:
        return Outcome.WAKE
    return Outcome.NEW
