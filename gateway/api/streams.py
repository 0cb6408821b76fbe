"""The open event streams of one gateway: how many there are, and when to look again."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.refusals import Code, Refused

STREAMS_OF_PERSON_MAX = 20  # a page that was left counts for another second
STREAMS_MAX = 1_000
LOOKS_AT_ONCE = 4  # a thousand streams that hear the same leave the others their turn


class Streams:
    """Counts streams, and wakes them when there are events."""

    def __init__(self, of_person_max: int = STREAMS_OF_PERSON_MAX, all_max: int = STREAMS_MAX):
        self._of_person_max, self._all_max = of_person_max, all_max
        self._open: Counter[str] = Counter()
        self._news = asyncio.Event()
        self.looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self.closing = False

    @contextmanager
    def place(self, person: str) -> Iterator[None]:
        """A place for one stream of a person. Raises `Refused` when there is none."""
        if self._open[person] >= self._of_person_max:
            raise Refused(
                Code.TOO_MANY_ATTEMPTS,
                f"You follow events {self._of_person_max} times already; end one of them first.",
            )
        if self._open.total() >= self._all_max or self.closing:
            raise Refused(Code.UNAVAILABLE, "Too many follow events here; try again in a while.")
        self._open[person] += 1
        try:
            yield
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]

    @property
    def count(self) -> int:
        """How many there are."""
        return self._open.total()

    @property
    def news(self) -> asyncio.Event:
        """Is set when there is more than now; to be taken before one looks."""
        return self._news

    def wake(self) -> None:
        """There are more events."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def close(self) -> None:
        """The gateway ends; so do the streams."""
        self.closing = True
        self.wake()
