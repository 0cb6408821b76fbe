"""Links without a connection: kept for a minute, within a part of the relay's memory."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from broker.relay.clock import Clock
from wire.budget import RELAY_BYTES, SHARE, Budget
from wire.link import Link

log = logging.getLogger(__name__)

DETACHED_S = 60.0
DETACHED_BYTES = RELAY_BYTES // 4
_REST = 8  # at a bound so much of it is freed, so that not each one more costs a search


class _Away(NamedTuple):
    link: Link
    since_s: float
    held: Callable[[], int]


class Detached:
    """The oldest end after `DETACHED_S`; where memory is short the largest goes first."""

    def __init__(self, clock: Clock, budget: Budget, *, bytes_max: int = DETACHED_BYTES) -> None:
        self._clock = clock
        self._budget = budget  # of the whole relay
        self._bytes_max = bytes_max
        self._all: dict[int, _Away] = {}  # the oldest first; by the link's identity
        self._bytes = 0  # as they came; counted anew now and then

    def __len__(self) -> int:
        return len(self._all)

    def add(self, link: Link, held: Callable[[], int]) -> None:
        """It has lost its connection; `held` tells how much memory it takes."""
        self._all[id(link)] = _Away(link, self._clock.now_s(), held)
        self._bytes += held()
        if self._bytes > self._bytes_max:
            self._make_room()

    def remove(self, link: Link) -> None:
        """It has another one, or is over. May be called again."""
        self._all.pop(id(link), None)

    def sweep(self) -> None:
        """To be called every second or so."""
        now_s = self._clock.now_s()
        while self._all:
            oldest = next(iter(self._all.values()))
            if oldest.since_s > now_s - DETACHED_S:
                break
            self._end(oldest)
        self._make_room()

    def _make_room(self) -> None:
        sizes = {key: away.held() for key, away in self._all.items()}
        self._bytes = sum(sizes.values())
        short = self._budget.limit // SHARE - self._budget.free()  # for those who are here
        beyond = self._bytes - self._bytes_max
        if beyond > 0:
            short = max(short, beyond + self._bytes_max // _REST)
        if short <= 0:
            return
        goal = self._bytes - short
        for key in sorted(sizes, key=lambda one: sizes[one], reverse=True):
            if self._bytes <= goal:
                return
            self._bytes -= sizes[key]
            away = self._all.get(key)
            if away is not None:
                log.info("a link without a connection is not kept bytes=%d", sizes[key])
                self._end(away)

    def _end(self, away: _Away) -> None:
        self.remove(away.link)
        try:
            away.link.end("link_lost")
        except Exception:  # one user's mistake must not cost the others
            log.exception("a link failed at its end")
