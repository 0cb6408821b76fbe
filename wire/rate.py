"""Bandwidth limits: token buckets of bytes, several of which may count the same ones."""

from collections.abc import Callable

from wire.transport import Later, Timer

BURST_S = 0.25
BURST_BYTES_LEAST = 64 * 1024
WAIT_S_LEAST = 0.005
BYTES_A_MBIT = 125_000


class Bucket:
    """So many bytes a second, after a burst. It may be owed some: then nothing goes for a while."""

    def __init__(self, bytes_per_s: float, now_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.burst_bytes = max(BURST_BYTES_LEAST, bytes_per_s * BURST_S)
        self.waiting: dict[Rate, None] = {}  # the next first
        self._bytes = self.burst_bytes
        self._at_s = now_s

    def left(self, now_s: float) -> float:
        """What may go now; below 0 it is owed so much."""
        earned = max(0.0, now_s - self._at_s) * self.bytes_per_s
        self._bytes = min(self.burst_bytes, self._bytes + earned)
        self._at_s = now_s
        return self._bytes

    def charge(self, size: float, now_s: float) -> None:
        """So many bytes go; those that did not after all are given back as less than none."""
        self._bytes = min(self.burst_bytes, self.left(now_s) - size)


class Rate:
    """One way of a link, below all of these buckets.

    Who has to wait is served in turn: one of this link's, then one of another that shares a bucket.
    """

    def __init__(
        self, buckets: tuple[Bucket, ...], clock: Callable[[], float], later: Later
    ) -> None:
        self._buckets = buckets
        self._clock = clock
        self._later = later
        self._waiting: dict[Callable[[], object], None] = {}
        self._timer: Timer | None = None
        self._serving = False

    @property
    def free(self) -> bool:
        """Whether something may go now, if nobody waits for it already."""
        now_s = self._clock()
        return all(bucket.left(now_s) > 0 for bucket in self._buckets)

    def charge(self, size: float) -> None:
        """Counts bytes that go, or, below 0, that were counted before and did not go."""
        now_s = self._clock()
        for bucket in self._buckets:
            bucket.charge(size, now_s)

    def take(self, size: int, again: Callable[[], object]) -> bool:
        """Counts so many bytes if something may go and it is nobody else's turn; else `again` is
        called once when they may be asked for again."""
        if not self.may_go(again):
            return False
        self.charge(size)
        return True

    def may_go(self, again: Callable[[], object]) -> bool:
        """The same, and nothing is counted."""
        crowded = any(bucket.waiting for bucket in self._buckets)
        if (self._serving or not crowded) and self.free:
            return True
        self.when_free(again)
        return False

    def when_free(self, call: Callable[[], object]) -> None:
        """Calls once, after those who wait already; who waits does not wait twice."""
        self._waiting[call] = None
        for bucket in self._buckets:
            bucket.waiting.setdefault(self)
        if self._timer is None:
            self._wait()

    def _wait(self) -> None:
        now_s = self._clock()
        wait_s = max(-bucket.left(now_s) / bucket.bytes_per_s for bucket in self._buckets)
        self._timer = self._later(max(wait_s, WAIT_S_LEAST), self._serve)

    def _serve(self) -> None:
        self._timer = None
        while self._waiting and self.free:
            self._whose_turn()._serve_one()
        if self._waiting and self._timer is None:
            self._wait()

    def _whose_turn(self) -> "Rate":
        """Not always that of the one whose timer went off first: it would stay the first."""
        shared = max(self._buckets, key=lambda bucket: len(bucket.waiting))
        return next((one for one in shared.waiting if one is self or one.free), self)

    def _serve_one(self) -> None:
        call = next(iter(self._waiting))
        del self._waiting[call]
        for bucket in self._buckets:
            del bucket.waiting[self]
            if self._waiting:
                bucket.waiting[self] = None  # behind the others
        self._serving = True
        try:
            call()
        finally:
            self._serving = False
