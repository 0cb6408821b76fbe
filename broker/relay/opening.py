"""The pace at which streams are opened on one device's link."""

import asyncio
from collections.abc import Callable

from wire.streams import OPENS_BURST


class Pace:
    """A token bucket whose waiters go one after another.

    The device ends a link on which streams are opened faster than it can take, so visitors wait
    here. One who gives up while waiting has used nothing up.
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._tokens = self._burst = max(OPENS_BURST, per_s)
        self._at_s = clock()
        self._turn = asyncio.Lock()  # first come, first served

    def at_once(self) -> bool:
        """Takes a token if there is one and nobody waits."""
        if self._turn.locked():
            return False
        self._earn()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def wait(self) -> None:
        """Returns with a token."""
        async with self._turn:
            self._earn()
            while self._tokens < 1:
                await asyncio.sleep((1 - self._tokens) / self._per_s)
                self._earn()
            self._tokens -= 1

    def _earn(self) -> None:
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
