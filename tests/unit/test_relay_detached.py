"""Which links a relay keeps while they have no connection: for how long, and in how much memory."""

from typing import Any, cast

from broker.relay.clock import Clock
from broker.relay.detached import DETACHED_S, Detached
from wire.budget import Budget
from wire.link import Link

KIB = 1024


class Set(Clock):
    """Stands where it was put."""

    at_s = 1_000.0

    def now_s(self) -> float:
        return self.at_s


class Kept:
    """A link as far as it is looked at."""

    def __init__(self, detached: Detached, size: int, *, fails: bool = False) -> None:
        self.size = size
        self.ended = ""
        self._detached = detached
        self._fails = fails
        detached.add(cast(Link, self), lambda: self.size)

    def end(self, reason: str) -> None:
        self.ended = reason
        self._detached.remove(cast(Any, self))
        if self._fails:
            raise ValueError("a user's mistake")


def test_the_oldest_end_after_a_minute_and_one_mistake_costs_no_other() -> None:
    clock = Set()
    detached = Detached(clock, Budget(1 << 30))
    first, second = Kept(detached, 1, fails=True), Kept(detached, 1)
    clock.at_s += 10
    third = Kept(detached, 1)
    clock.at_s += DETACHED_S - 10.5
    detached.sweep()
    assert len(detached) == 3
    clock.at_s += 0.5
    detached.sweep()
    assert [one.ended for one in (first, second, third)] == ["link_lost", "link_lost", ""]
    detached.remove(cast(Any, third))
    clock.at_s += DETACHED_S
    detached.sweep()
    assert third.ended == ""


def test_beyond_their_share_the_largest_go_first_and_a_little_more() -> None:
    detached = Detached(Set(), Budget(1 << 30), bytes_max=1_000 * KIB)
    kept = [Kept(detached, size * KIB) for size in (400, 100, 300, 150)]
    assert not any(one.ended for one in kept)
    last = Kept(detached, 100 * KIB)  # 1,050 in all: 50 too many, and an eighth
    assert [bool(one.ended) for one in (*kept, last)] == [True, False, False, False, False]
    assert len(detached) == 4


def test_sizes_are_those_of_the_moment() -> None:
    detached = Detached(Set(), Budget(1 << 30), bytes_max=1_000 * KIB)
    shrunk, grown = Kept(detached, 900 * KIB), Kept(detached, 50 * KIB)
    shrunk.size, grown.size = 10 * KIB, 995 * KIB
    detached.sweep()
    assert (shrunk.ended, grown.ended) == ("", "link_lost")


def test_where_the_relay_itself_is_short_of_memory_they_give_way() -> None:
    budget = Budget(8_000 * KIB)
    detached = Detached(Set(), budget)
    small, large = Kept(detached, 100 * KIB), Kept(detached, 500 * KIB)
    budget.take(7_000 * KIB)
    detached.sweep()
    assert not large.ended
    budget.take(200 * KIB)
    detached.sweep()
    assert (small.ended, large.ended) == ("", "link_lost")
