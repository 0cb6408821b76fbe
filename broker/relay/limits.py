"""How much of the relay one session, person, company, device or address may take."""

from collections.abc import Iterable
from typing import NamedTuple

from wire.streams import OPENS_PER_S, STREAMS_MAX

Key = tuple[str, str]  # what is counted, and whose


class Limits(NamedTuple):
    """Open streams (waiting ones too) by whom they are for; and what else has a bound."""

    session: int = STREAMS_MAX
    device: int = 2 * STREAMS_MAX
    person: int = 4 * STREAMS_MAX
    address: int = 4 * STREAMS_MAX
    company: int = 16 * STREAMS_MAX
    sessions: int = 10_000
    browsers_per_session: int = 64
    guests_per_session: int = 512
    links_per_session: int = 32  # of visitors
    opens_per_s: float = OPENS_PER_S  # that one visitor's link may open
    session_mbit_s: int = 0  # each way; 0: no limit
    company_mbit_s: int = 0


class Tally:
    """Counts by key, each kind of key below its limit."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = limits
        self._counts: dict[Key, int] = {}

    def take(self, keys: Iterable[Key]) -> bool:
        """Counts one more for all of them, or for none when one is at its limit."""
        wanted = tuple(keys)
        if any(self._counts.get(key, 0) >= self._limits[key[0]] for key in wanted):
            return False
        for key in wanted:
            self._counts[key] = self._counts.get(key, 0) + 1
        return True

    def give(self, keys: Iterable[Key]) -> None:
        """One less for all of them."""
        for key in keys:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]

    def count(self, key: Key) -> int:
        """How many there are."""
        return self._counts.get(key, 0)
