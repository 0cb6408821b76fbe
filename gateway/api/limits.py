"""Fair limits: a bucket for each principal, or for each address of those who are nobody yet."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

RATE_PER_S = 200
BURST = 1_000
# A script that asks one thing after another is slowed down, and only a crowd is turned away.
WAIT_S_MAX = 2.0
BUCKETS_MAX = 20_000
NAMES_MAX = 20_000


class Allowance(NamedTuple):
    """So many at once, so many more each second, and how long somebody waits for a turn."""

    burst: int
    rate_per_s: float
    wait_s_max: float


REQUESTS = Allowance(BURST, RATE_PER_S, WAIT_S_MAX)
# A browser that brings no cookie back goes in circles, and each round makes a ticket.
HAND_OVERS = Allowance(30, 0.5, 0.0)


@dataclass(slots=True)
class Bucket:
    """What is left, as of an instant of the loop's clock; below zero: promised to who waits."""

    left: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What the headers say after a request was let in."""

    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class TooFast(Exception):
    """The principal's turn would come too late."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"retry in {retry_s} s")
        self.retry_s = retry_s


class Limits:
    """Token buckets in memory; the one unused for longest is forgotten when there are many."""

    def __init__(
        self,
        now_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        allowance: Allowance = REQUESTS,
    ) -> None:
        self._now_s = now_s
        self._sleep = sleep
        self._allowance = allowance
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def learn(self, token_hash: bytes, principal: str) -> None:
        """A credential turned out to be this principal's."""
        self._names[token_hash] = principal
        self._names.move_to_end(token_hash)
        if len(self._names) > NAMES_MAX:
            self._names.popitem(last=False)

    def knows(self, token_hash: bytes) -> bool:
        """Whether the credential was good a while ago."""
        return token_hash in self._names

    def whose(self, token_hash: bytes | None, address: str) -> str:
        """The bucket to take from: credentials not seen to be good count for their address."""
        name = None if token_hash is None else self._names.get(token_hash)
        return name or f"address {address}"

    async def take(self, whose: str) -> Turn:
        """Waits for one's turn. Raises `TooFast` when that would be too long."""
        burst, rate_per_s, wait_s_max = self._allowance
        bucket = self._filled(whose)
        wait_s = max(0.0, (1.0 - bucket.left) / rate_per_s)
        if wait_s > wait_s_max:
            raise TooFast(math.ceil(wait_s))
        bucket.left -= 1.0
        if wait_s:
            await self._sleep(wait_s)
        remaining = max(0, int(bucket.left))
        return Turn(burst, remaining, math.ceil((burst - bucket.left) / rate_per_s))

    def _filled(self, whose: str) -> Bucket:
        now_s = self._now_s()
        burst = float(self._allowance.burst)
        bucket = self._buckets.get(whose)
        if bucket is None:
            bucket = self._buckets[whose] = Bucket(burst, now_s)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(whose)
        gained = max(0.0, now_s - bucket.at_s) * self._allowance.rate_per_s
        bucket.left = min(burst, bucket.left + gained)
        bucket.at_s = now_s
        return bucket
