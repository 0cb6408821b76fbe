"""Takes a sample when it is time, or when somebody wants one, and keeps it."""

import asyncio
from collections.abc import Callable, Mapping

from agent.clock import Clock, wall_is_plausible
from agent.heartbeat import Heartbeats
from agent.spool import Spool
from agent.values import checked_values
from agent.waiting import until_set
from wire.fields import Value

Collector = Callable[[], Mapping[str, Value]]

_FRESH_MS = 10_000  # a sample this young need not be made again for a new connection


class Sampler:
    """The only one that asks the collector, one time after another.

    With `in_thread` a collector may take its time: the links of sessions go on meanwhile. Without
    it a sample is there as soon as it is wanted, which suits values that are made up.
    """

    def __init__(
        self,
        collector: Collector,
        spool: Spool,
        heartbeats: Heartbeats,
        clock: Clock,
        made: Callable[[int, int], None],
        on_sample: Callable[[], None],
        *,
        in_thread: bool,
    ) -> None:
        self._collector = collector
        self._spool = spool
        self._heartbeats = heartbeats
        self._clock = clock
        self._made = made
        self._on_sample = on_sample
        self._in_thread = in_thread
        self._sampled_ms: int | None = None
        self._wanted = False
        self._collecting = False
        self._hurry = False
        self._changed = asyncio.Event()  # the time of the next sample has

    async def run(self) -> None:
        """One sample after another, at the interval in force."""
        while True:
            self._changed.clear()
            wait_s = 0.0 if self._wanted else self._wait_s()
            if wait_s > 0:
                await until_set(self._changed, wait_s)
                continue
            await self._collect()

    def sample(self) -> int:
        """Makes a sample that is sent at once, now or as soon as it can be; its number."""
        number = self._heartbeats.next_number
        self._hurry = True
        if not self._in_thread:
            self._keep(*self._now(), self._collector())
        elif not self._collecting:
            self._wanted = True
            self._changed.set()
        return number

    def sample_unless_fresh(self) -> None:
        """For a connection that begins; what it has to say first goes at once anyhow."""
        if self._sampled_ms is None or self._clock.boot_ms() - self._sampled_ms >= _FRESH_MS:
            self.sample()

    def _wait_s(self) -> float:
        if self._sampled_ms is None:
            return 0.0
        due_ms = self._sampled_ms + self._heartbeats.intervals.sampling_s * 1_000
        return (due_ms - self._clock.boot_ms()) / 1_000

    async def _collect(self) -> None:
        self._wanted = False
        if not self._in_thread:
            self._keep(*self._now(), self._collector())
            return
        now = self._now()
        self._collecting = True
        try:
            values = await asyncio.to_thread(self._collector)
        finally:
            self._collecting = False
        self._keep(*now, values)

    def _now(self) -> tuple[int, int]:
        return self._clock.boot_ms(), self._clock.wall_ms()

    def _keep(self, now_ms: int, wall_ms: int, values: Mapping[str, Value]) -> None:
        if wall_is_plausible(wall_ms):
            self._spool.note_offset(self._heartbeats.run, wall_ms - now_ms)
        self._made(self._heartbeats.sample(checked_values(values), now_ms), wall_ms)
        self._sampled_ms = now_ms
        if self._hurry:
            self._hurry = False
            self._heartbeats.send_at_once(self._clock.boot_ms())
        self._changed.set()
        self._on_sample()
