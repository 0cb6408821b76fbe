"""The spool's index in memory: five arrays, 15 bytes a sample, so 10,000 take about 150 KiB."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

NUMBER_MAX = 2**32 - 1
RUNS_MAX = 2**16 - 1
STRIKES_MAX = 255


class SpoolIndex:
    """Entries in the order in which they were made: by run, and by number within a run."""

    def __init__(self) -> None:
        self.run = array("H")
        self.number = array("I")
        self.offset = array("I")
        self.second = array("I")
        self.strikes = array("B")

    def __len__(self) -> int:
        return len(self.run)

    def append(self, run: int, number: int, offset: int, second: int) -> None:
        """Puts an entry at the end; it must be newer than all others."""
        self.run.append(run)
        self.number.append(number)
        self.offset.append(offset)
        self.second.append(second)
        self.strikes.append(0)

    def bounds(self, run: int) -> tuple[int, int]:
        """First position of the run's entries, and the one after its last."""
        return bisect_left(self.run, run), bisect_right(self.run, run)

    def span(self, run: int, first: int, last: int) -> tuple[int, int]:
        """Positions of the run's entries with numbers from `first` to `last`."""
        low, high = self.bounds(run)
        return (
            bisect_left(self.number, first, low, high),
            bisect_right(self.number, last, low, high),
        )

    def delete(self, low: int, high: int) -> None:
        """Forgets the entries at these positions."""
        for column in (self.run, self.number, self.offset, self.second, self.strikes):
            del column[low:high]

    def runs(self) -> Iterator[int]:
        """The runs that have entries, oldest first."""
        position = 0
        while position < len(self.run):
            run = self.run[position]
            yield run
            position = bisect_right(self.run, run, position)

    def size_bytes(self) -> int:
        """What the arrays hold; the allocator may add a sixteenth."""
        columns = (self.run, self.number, self.offset, self.second, self.strikes)
        return sum(len(column) * column.itemsize for column in columns)


def consecutive(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as inclusive ranges."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
