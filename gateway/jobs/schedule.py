"""Runs the jobs: each is a function of a transaction, repeated in small steps."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.clock import Clock
from gateway.clock_guard import ClockGuard
from gateway.jobs import (
    events,
    history,
    housekeeping,
    months,
    periods,
    retention,
    sessions,
    warnings,
)
from gateway.jobs.sealing import Sealer
from gateway.operations import clock_state, telling
from gateway.operations.second_factor import take_away_due
from gateway.storage.locks import Tree
from gateway.storage.store import Lane, Store, StoreBusy, StoreClosed
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)

TICK_S = 1.0
EVENTS_EVERY_S = 0.5
ALIVE_EVERY_S = 10.0
CLEAN_EVERY_S = 600.0
HISTORY_EVERY_S = 60.0
KEPT_DAYS = retention.KeptDays()
MANY_SAMPLES = 100_000  # to be rolled up at once: after an outage, or at a first start
LOOKS_MAX = 20  # at periods that are over, as far ahead as one looks
ROUNDS_MAX = 5_000  # 200,000 devices at once; the other jobs get their turn then


@dataclass(slots=True)
class _Job:
    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    due_s: float = 0.0


class Schedule:
    """The jobs of one gateway. Any replica may run them: each step is safe to repeat."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        kept_days: retention.KeptDays = KEPT_DAYS,
        guard: ClockGuard | None = None,
        head_file: Path | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._kept_days = kept_days
        self._offset_ms = clock.offset_ms()
        self._guard = guard or ClockGuard(clock)
        self._sealer = Sealer(store, clock, telemetry, head_file)
        self._alive_s: float | None = None  # when last said, or tried
        self._unsaid_ms = 0  # lived through while the clock was in doubt
        self._hint = asyncio.Event()
        self._jobs = [
            _Job("clock", TICK_S, self._clocks),
            _Job("alive", ALIVE_EVERY_S, self._alive),
            _Job("recheck", TICK_S, self._recheck),
            _Job("periods", TICK_S, self._periods),
            _Job("expiry", 60.0, self._expiry),
            _Job("months", 60.0, self._months),
            _Job("commands", 5.0, self._commands),
            _Job("second factors", 60.0, self._second_factors),
            _Job("clean", CLEAN_EVERY_S, self._clean),
        ]

    def hint(self) -> None:
        """A payment may have become possible."""
        self._hint.set()

    async def run(self) -> None:
        """Runs what is due, again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_in_turn(), name="jobs in turn")
            # Beside them: a session ends within seconds, however much the others have to do.
            tasks.create_task(self._each_second("sessions", self._sessions), name="sessions")
            tasks.create_task(self._each_second("audit", self._sealer.once), name="audit")
            tasks.create_task(
                self._each_second("events", self._events, EVENTS_EVERY_S), name="events"
            )
            # Beside them too: there may be a month to catch up with.
            tasks.create_task(self._keep_history(), name="history")

    async def _each_second(
        self, name: str, run: Callable[[], Awaitable[None]], every_s: float = TICK_S
    ) -> None:
        job = _Job(name, every_s, run)
        while True:
            await self._run_one(job)
            await asyncio.sleep(job.every_s)

    async def _keep_history(self) -> None:
        loop = asyncio.get_running_loop()
        rolling = _Job("history", HISTORY_EVERY_S, self._history)
        deleting = _Job("retention", CLEAN_EVERY_S, self._retention)
        while True:
            await self._run_one(rolling)
            if loop.time() >= deleting.due_s:
                await self._run_one(deleting)
                deleting.due_s = loop.time() + deleting.every_s
            await asyncio.sleep(rolling.every_s)

    async def _run_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for job in self._jobs:
                if loop.time() >= job.due_s or (job.name == "recheck" and self._hint.is_set()):
                    if job.name == "recheck":
                        self._hint.clear()
                    await self._run_one(job)
                    job.due_s = loop.time() + job.every_s
            try:
                async with asyncio.timeout(TICK_S / 2):
                    await self._hint.wait()
            except TimeoutError:
                pass  # the next round looks anyway

    async def _run_one(self, job: _Job) -> None:
        now_ms = self._clock.wall_ms()
        try:
            await job.run()
        except StoreClosed:
            raise
        except StoreBusy:
            log.warning("job put off, the store is busy job=%s", job.name)
        except Exception as error:
            # One job that fails must not stop the others; a person must look.
            log.exception("job failed job=%s", job.name)
            self._telemetry.failed(now_ms, f"job_{job.name}", repr(error))
        else:
            self._telemetry.jobs_at_ms[job.name] = now_ms

    async def _alive(self) -> None:
        now_s, before_s = asyncio.get_running_loop().time(), self._alive_s
        offset_ms = self._clock.offset_ms()
        lived_ms = offset_ms - self._offset_ms + self._unsaid_ms
        said = await self._store.write(
            lambda tx: housekeeping.mark_alive(tx, lived_ms), lane=Lane.JOBS
        )
        self._alive_s = now_s
        if said:
            self._offset_ms, self._unsaid_ms = offset_ms, 0
        elif before_s is not None:
            self._unsaid_ms += round((now_s - before_s) * 1000)

    async def _clocks(self) -> None:
        """Tells the guard what people accepted, and people what the guard sees."""
        self._guard.learn(*await self._store.read(clock_state.known))
        self._guard.trust()
        told, before = self._guard.told(), self._telemetry.clock
        self._telemetry.clock = told
        if told.doubt and not before.doubt:
            log.error("clock in doubt, charges are stopped why=%s", told.doubt)
            self._telemetry.failed(self._clock.wall_ms(), "clock_in_doubt", told.doubt)
        elif before.doubt and not told.doubt:
            log.warning("clock believed again, charges go on")
        if told.caution and not before.caution:
            log.warning("clock not accepted yet, lots do not expire why=%s", told.caution)
            self._telemetry.failed(self._clock.wall_ms(), "clock_not_accepted", told.caution)
        elif before.caution and not told.caution:
            log.info("clock accepted, lots expire again")

    async def _sessions(self) -> None:
        for _ in range(ROUNDS_MAX):
            work = await self._store.read(sessions.anything_due)
            if not any(work):
                break
            done = 0
            if work.end:
                done += await self._store.write(sessions.end_due, lane=Lane.JOBS)
            if work.tell:
                done += await self._store.write(telling.tell_untold, lane=Lane.JOBS)
            if work.settle:
                done += await self._store.write(sessions.settle, lane=Lane.JOBS)
            if not done:
                break  # another gateway is at it

    async def _events(self) -> None:
        for _ in range(ROUNDS_MAX):
            if not await self._store.read(events.anything_unplaced):
                return
            # Not above others: many devices may have come back at once.
            if not await self._store.write(events.place, lane=Lane.JOBS, tree=Tree.UNTOUCHED):
                return  # another gateway is at it

    async def _periods(self) -> None:
        for _ in range(LOOKS_MAX):
            ids = await self._store.read(periods.due_in_order)
            done = 0
            for start in range(0, len(ids), periods.DEVICES_AT_ONCE):
                some = partial(periods.settle_due, ids=ids[start : start + periods.DEVICES_AT_ONCE])
                settled = await self._store.write(some, lane=Lane.JOBS)
                if settled is None:
                    return  # another gateway is at it; should it end, there is a next time
                done += settled
            if not done:
                return  # nothing is due, or somebody holds the devices: in a second

    async def _recheck(self) -> None:
        while (found := await self._store.read(periods.next_recheck)) is not None:
            company_id, queued_at = found
            below = partial(periods.unpaid_below, company_id=company_id)
            ids = await self._store.read(below)
            for start in range(0, len(ids), periods.DEVICES_AT_ONCE):
                some = partial(
                    periods.settle_some, ids=ids[start : start + periods.DEVICES_AT_ONCE]
                )
                if await self._store.write(some, lane=Lane.JOBS) is None:
                    return  # another gateway is at it; should it end, there is a next time
            done = partial(periods.recheck_done, company_id=company_id, queued_at=queued_at)
            await self._store.write(done, lane=Lane.JOBS)

    async def _history(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            samples = await history.roll_up_all(self._store, ROUNDS_MAX)
        finally:
            self._telemetry.history_to_ms = await self._store.read(history.rolled_up_to)
        if samples >= MANY_SAMPLES:
            took_s = loop.time() - began_s
            pace = samples / max(took_s, 0.001)
            log.info(
                "history rolled up samples=%d seconds=%.1f per_second=%.0f", samples, took_s, pace
            )

    async def _retention(self) -> None:
        if self._guard.trust().doubt:
            return  # what is deleted at a wrong time is gone
        await retention.delete_all(self._store, self._kept_days, ROUNDS_MAX)

    async def _expiry(self) -> None:
        while await self._store.write(periods.expire_pools, lane=Lane.JOBS):
            pass

    async def _months(self) -> None:
        """Marks what is over, and warns of what is to come."""
        await self._store.write(months.close, lane=Lane.JOBS)
        while await self._store.write(months.roll_up, lane=Lane.JOBS):
            pass
        while (seen := await self._store.read(warnings.look)) is not None:
            if not await self._store.write(partial(warnings.keep, seen=seen), lane=Lane.JOBS):
                break  # another gateway is at it

    async def _commands(self) -> None:
        while ids := await self._store.read(housekeeping.unanswered):
            end = partial(housekeeping.end_commands, ids=ids)
            if not await self._store.write(end, lane=Lane.JOBS):
                break  # all of them are being answered, or ended by another gateway

    async def _second_factors(self) -> None:
        if self._guard.trust().doubt:
            return  # the day that somebody has to say no is not over by a wrong clock
        while await self._store.write(take_away_due, lane=Lane.JOBS):
            pass

    async def _clean(self) -> None:
        if self._guard.trust().doubt:
            return  # the same
        while await self._store.write(housekeeping.clean, lane=Lane.JOBS):
            pass
