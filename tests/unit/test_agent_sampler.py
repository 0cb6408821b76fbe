"""When samples are made: by the interval, when they are wanted, and by a collector that hangs."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import pytest

from agent.clock import Clock
from agent.heartbeat import Heartbeats
from agent.intervals import Intervals
from agent.sampler import Sampler
from agent.spool import Spool
from wire.fields import Value

LIMIT_S = 10.0


class StillClock(Clock):
    boot_id = "0" * 32

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def boot_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_900_000_000_000 + self.now_ms


class Rig:
    def __init__(self, folder: Path, collector: Callable[[], Mapping[str, Value]]) -> None:
        self.clock = StillClock()
        self.made: list[int] = []
        spool = Spool(folder / "memory", folder / "flash", limit=100)
        self.heartbeats = Heartbeats(
            spool, boot_id=self.clock.boot_id, rng=Random(1), intervals=Intervals(60, 60)
        )
        self._spool, self._collector = spool, collector
        self._sampled = asyncio.Event()

    def sampler(self, *, in_thread: bool) -> Sampler:
        return Sampler(
            self._collector,
            self._spool,
            self.heartbeats,
            self.clock,
            lambda number, wall_ms: self.made.append(number),
            self._sampled.set,
            in_thread=in_thread,
        )

    async def sampled(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self._sampled.wait()
        self._sampled.clear()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_sample_is_made_at_the_start_and_when_it_is_wanted(
    tmp_path: Path, in_thread: bool
) -> None:
    rig = Rig(tmp_path, lambda: {"uptime": 1})
    sampler = rig.sampler(in_thread=in_thread)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        await rig.sampled()
        assert rig.made == [1]
        sampler.sample_unless_fresh()
        assert sampler.sample() == 2
        await rig.sampled()
        assert rig.made == [1, 2]
        rig.clock.now_ms += 11_000
        sampler.sample_unless_fresh()
        await rig.sampled()
        assert rig.made == [1, 2, 3]
        running.cancel()


async def test_a_collector_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    let_go, asked, begun = threading.Event(), [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> Mapping[str, Value]:
        asked.append(threading.current_thread())
        loop.call_soon_threadsafe(begun.set)
        assert let_go.wait(LIMIT_S)
        return {"uptime": len(asked)}

    rig = Rig(tmp_path, slow)
    sampler = rig.sampler(in_thread=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        # The loop goes on; who wants a sample now has the one that is being made.
        assert sampler.sample() == sampler.sample() == 1
        assert rig.made == [] and threading.current_thread() not in asked
        let_go.set()
        await rig.sampled()
        assert rig.made == [1] and len(asked) == 1
        running.cancel()


async def test_a_wanted_sample_does_not_wait_for_the_sending_interval(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lambda: {"uptime": 1})
    sampler = rig.sampler(in_thread=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        await rig.sampled()
        rig.heartbeats.connected(rig.clock.now_ms)
        assert rig.heartbeats.take(rig.clock.now_ms) is not None
        assert rig.heartbeats.take(rig.clock.now_ms) is None
        sampler.sample()
        await rig.sampled()
        assert rig.heartbeats.take(rig.clock.now_ms) is not None
        running.cancel()
