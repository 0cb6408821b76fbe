"""Which numbers of a run are settled: everything up to a number, and ranges above it."""

from typing import NamedTuple

RANGES_MAX = 32


class Settled(NamedTuple):
    """Numbers 1…`upto` and the ascending, disjoint, inclusive `ranges` above `upto + 1`."""

    upto: int = 0
    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        if number <= self.upto:
            return number >= 1
        return any(first <= number <= last for first, last in self.ranges)


NOTHING = Settled()


def add(settled: Settled, number: int) -> Settled:
    """With one more number; the bound on ranges is applied by `bounded`."""
    upto, ranges = settled
    if number == upto + 1:
        upto = number
        if ranges and ranges[0][0] == upto + 1:
            upto = ranges[0][1]
            ranges = ranges[1:]
        return Settled(upto, ranges)
    if number in settled:
        return settled
    merged: list[tuple[int, int]] = []
    first = last = number
    for low, high in ranges:
        if high + 1 < first or low - 1 > last:
            merged.append((low, high))
        else:
            first, last = min(first, low), max(last, high)
    merged.append((first, last))
    return Settled(upto, tuple(sorted(merged)))


def close_below(settled: Settled, low: int) -> tuple[Settled, int]:
    """Settles every gap below `low`; also how many numbers were lost by that."""
    upto, ranges = settled
    if low <= upto + 1:
        return settled, 0
    lost = 0
    while ranges and ranges[0][0] < low:
        lost += ranges[0][0] - upto - 1
        upto = ranges[0][1]
        ranges = ranges[1:]
    if upto < low - 1:
        lost += low - 1 - upto
        upto = low - 1
    if ranges and ranges[0][0] == upto + 1:
        upto = ranges[0][1]
        ranges = ranges[1:]
    return Settled(upto, ranges), lost


def bounded(settled: Settled) -> tuple[Settled, int]:
    """At most `RANGES_MAX` ranges: the oldest gaps are closed; how many numbers that lost."""
    lost = 0
    while len(settled.ranges) > RANGES_MAX:
        settled, more = close_below(settled, settled.ranges[0][0])
        lost += more
    return settled, lost
