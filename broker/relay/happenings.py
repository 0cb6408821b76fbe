"""What happened in sessions, kept until the gateway says that it has stored it."""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice

from broker.relay.clock import Clock
from wire.relay_control import Happening

KEPT_MAX = 2_000
OF_ONE_MAX = 100  # of one session: a device that comes and goes must not push out the others'
SAME_S = 5.0  # the same thing in the same session is said once in so long


class Happenings:
    """Numbered from 1 in a relay's life. `stir` is called when there is something new to say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[Happening] = deque()
        self._of_one: Counter[str] = Counter()
        self._said_s: dict[tuple[str, str, str], float] = {}
        self.newest = 0
        self.stir: Callable[[], None] = _nobody

    def add(self, session: str, what: str, detail: str = "") -> int:
        """Keeps it; its number. What could be repeated at will is not kept again and again."""
        key, now_s = (session, what, detail), self._clock.now_s()
        if what in ("refused", "ticket_refused"):
            if now_s - self._said_s.get(key, now_s - SAME_S) < SAME_S:
                return self.newest
            if len(self._said_s) >= KEPT_MAX:
                self._said_s.clear()
            self._said_s[key] = now_s
        if self._of_one[session] >= OF_ONE_MAX and what != "ended":
            return self.newest
        if len(self._kept) == KEPT_MAX:
            self._drop_oldest()
        self.newest += 1
        wall_ms = self._clock.wall_ms()
        self._kept.append(Happening(self.newest, session, what, detail[:200], wall_ms))
        self._of_one[session] += 1
        self.stir()
        return self.newest

    def taken(self, number: int) -> None:
        """The gateway has stored all up to this number."""
        while self._kept and self._kept[0].number <= number:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        session = self._kept.popleft().session
        self._of_one[session] -= 1
        if not self._of_one[session]:
            del self._of_one[session]

    def waiting(self, most: int) -> tuple[Happening, ...]:
        """The oldest that are not taken yet."""
        return tuple(islice(self._kept, most))


def _nobody() -> None:
    pass
