"""Slows down guessing: a growing delay of that attempt's own answer, and never a lock."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WINDOW_MS = 15 * 60_000
ACCOUNT_FAILURES_FREE = 5
ADDRESS_FAILURES_FREE = 20
DELAY_S_MAX = 60.0
REMEMBERED_MAX = 20_000  # accounts and addresses; the one unseen for longest is forgotten
FAILURES_KEPT_MAX = 64  # of one of them: the delay is at its limit long before
WAITING_OF_ONE_ADDRESS_MAX = 8
WAITING_MAX = 4_000


class TooManyWait(Exception):
    """This address has enough attempts waiting; others are not concerned."""


@dataclass(slots=True)
class Attempt:
    """One attempt: it counts as failed until it is said to have succeeded, or not to count."""

    delay_s: float
    account: str
    address: str
    at_ms: int
    succeeded: bool = False
    counts: bool = True


@dataclass(slots=True)
class Throttle:
    """Failures of the last 15 minutes, by account and by address; in memory only."""

    now_ms: Callable[[], int]
    _failures: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)
    _waiting: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def attempt(self, account: str, address: str) -> Iterator[Attempt]:
        """Around one attempt: wait `delay_s`, check, then set `succeeded`.

        It is counted at its beginning, so that many at once do not all go free. Raises
        `TooManyWait`.
        """
        waiting = self._waiting.get(address, 0)
        if waiting >= WAITING_OF_ONE_ADDRESS_MAX or (
            waiting and sum(self._waiting.values()) >= WAITING_MAX
        ):
            raise TooManyWait
        self._waiting[address] = waiting + 1
        now_ms = self.now_ms()
        delay_s = max(
            _delay_s(self._recent(f"account {account}", now_ms), ACCOUNT_FAILURES_FREE),
            _delay_s(self._recent(f"address {address}", now_ms), ADDRESS_FAILURES_FREE),
        )
        made = Attempt(delay_s, account, address, now_ms)
        for key in (f"account {account}", f"address {address}"):
            self._count(key, now_ms)
        try:
            yield made
        finally:
            if self._waiting[address] == 1:
                del self._waiting[address]
            else:
                self._waiting[address] -= 1
            if made.succeeded:
                # The owner is back: what strangers did to the account is forgiven. The address
                # keeps its other failures, since it may be the stranger's own account.
                self._failures.pop(f"account {account}", None)
                self._forgive(f"address {address}", made)
            elif not made.counts:
                self._forgive(f"account {account}", made)
                self._forgive(f"address {address}", made)

    def spend(self, what: str, most: int) -> bool:
        """Whether one of so many tries within 15 minutes is left for it; this takes it."""
        now_ms = self.now_ms()
        if self._recent(what, now_ms) >= most:
            return False
        self._count(what, now_ms)
        return True

    def clear(self, what: str) -> None:
        """All tries for it are left again."""
        self._failures.pop(what, None)

    def _forgive(self, key: str, made: Attempt) -> None:
        found = self._failures.get(key)
        if found and made.at_ms in found:
            found.remove(made.at_ms)

    def _recent(self, key: str, now_ms: int) -> int:
        found = self._failures.get(key)
        if found is None:
            return 0
        while found and now_ms - found[0] > WINDOW_MS:
            found.popleft()
        return len(found)

    def _count(self, key: str, now_ms: int) -> None:
        found = self._failures.setdefault(key, deque(maxlen=FAILURES_KEPT_MAX))
        found.append(now_ms)
        self._failures.move_to_end(key)
        if len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)


def _delay_s(failures: int, free: int) -> float:
    """Nothing for the first ones, then 1, 2, 4 … 60 s."""
    if failures < free:
        return 0.0
    return min(DELAY_S_MAX, float(2 ** min(failures - free, 10)))
