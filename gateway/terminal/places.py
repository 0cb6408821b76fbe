"""How many terminals there are, and whose; and the end of them all."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.refusals import Code, Refused

TERMINALS_OF_PERSON_MAX = 6
TERMINALS_MAX = 100


class Places:
    """Counts terminals of one gateway; `closing` is set when the gateway stops."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self.closing = asyncio.Event()

    def count(self, person: str) -> int:
        """How many terminals a person has."""
        return self._open[person]

    @contextmanager
    def place(self, person: str) -> Iterator[None]:
        """A place for one terminal of a person. Raises `Refused` when there is none."""
        if self._open[person] >= TERMINALS_OF_PERSON_MAX:
            raise Refused(
                Code.TOO_MANY_SESSIONS,
                f"One person has at most {TERMINALS_OF_PERSON_MAX} terminals; close one first.",
            )
        if self._open.total() >= TERMINALS_MAX:
            raise Refused(Code.UNAVAILABLE, "Too many terminals are open here; try again later.")
        self._open[person] += 1
        try:
            yield
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]
