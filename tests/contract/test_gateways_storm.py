"""Two gateways do everything at once for a while: nobody is in the way of anybody for good."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.ingest.batch import Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.ingest.sender import claim
from gateway.jobs import housekeeping, periods, presence
from gateway.operations.registry import Operation
from gateway.storage.postgres import PostgresStore
from gateway.storage.store import Lane, Store
from tests.conftest import SummaryRow
from tests.contract.gateways import TwoGateways
from tests.contract.world import BEGIN_MS, OPERATIONS, SITE

WORKERS = 200
DEVICES = 120
DAYS_PER_S = 8  # so that a period lasts less than four seconds
BATCH = 8
# Of all of these something has to be done before it is over, however slow the machine is.
WANTED = (
    "devices.activate",
    "devices.extend",
    "devices.register",
    "devices.unregister",
    "companies.move",
    "credits.grant",
    "batch of heartbeats",
    "devices settled",
    "subtree looked at",
    "commands claimed",
    "housekeeping",
)


class Storm:
    """Workers of all kinds over the same companies and devices, at both gateways."""

    def __init__(self, two: TwoGateways, seed: int) -> None:
        self.two = two
        self.world = two.world
        self.rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        world = self.world
        self.top = world.company("Top")
        world.grant(self.top, 400)
        self.middle = [self._company(f"M{n}", self.top) for n in range(3)]
        self.low = [self._company(f"L{n}", self.middle[n % 3]) for n in range(6)]
        self.serials = [f"storm-{number:04}" for number in range(DEVICES)]
        for number, serial in enumerate(self.serials):
            start = ("on_contact", "later")[number % 2]
            world.register(serial, self.low[number % 6], start)
            world.router(serial).full = True
        # These say nothing, so that the job alone extends them.
        self.quiet = [f"quiet-{number:04}" for number in range(DEVICES // 2)]
        for number, serial in enumerate(self.quiet):
            world.register(serial, self.low[number % 6], activate=True)

    def _company(self, name: str, parent: str) -> str:
        return self.world.company(
            name, parent, use_parent_credits=True, grace_days=1, extend_unheard=True
        )

    async def rage(self, seconds: float) -> None:
        """Until the time is over and all was done; then all have ended what they began."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        kinds: list[tuple[int, Callable[[random.Random, Store], Awaitable[None]]]] = [
            (67, self._pay),
            (60, self._heartbeats),
            (12, self._settle),
            (4, self._recheck),
            (20, self._grant),
            (10, self._move),
            (10, self._flag),
            (10, self._register),
            (3, self._unregister),
            (2, self._tell),
            (2, self._keep_house),
        ]
        assert sum(amount for amount, _ in kinds) == WORKERS

        async def worker(work: Callable[[random.Random, Store], Awaitable[None]], n: int) -> None:
            rng = random.Random(self.rng.random())
            while loop.time() - began_s < seconds or not all(self.done[one] for one in WANTED):
                self.world.now_ms = BEGIN_MS + int((loop.time() - began_s) * DAYS_PER_S * DAY_MS)
                await work(rng, self.two.stores[n % 2])

        async with asyncio.TaskGroup() as tasks:
            for amount, work in kinds:
                for n in range(amount):
                    tasks.create_task(worker(work, n), name=f"{work.__name__} {n}")

    async def _ask(self, store: Store, name: str, **given: Any) -> None:
        op: Operation = OPERATIONS[name]
        try:
            await store.write(self.world.work(name, **given), tree=op.tree)
        except Refused as refused:
            self.refused[f"{name}: {refused.code.value}"] += 1
        else:
            self.done[name] += 1

    async def _pay(self, rng: random.Random, store: Store) -> None:
        name = rng.choice(["devices.activate", "devices.extend", "devices.activate"])
        await self._ask(store, name, serial=rng.choice(self.serials + self.quiet))

    async def _grant(self, rng: random.Random, store: Store) -> None:
        company_id = rng.choice([self.top, *self.middle, *self.low])
        more = {"expires_on": "2040-01-01"} if rng.random() < 0.3 else {}
        await self._ask(store, "credits.grant", company_id=company_id, days=45, **more)

    async def _move(self, rng: random.Random, store: Store) -> None:
        moved = rng.choice(self.middle + self.low)
        parent = rng.choice([self.top, *self.middle, *self.low])
        await self._ask(
            store, "companies.move", company_id=moved, parent_id=parent, use_parent_credits=True
        )
        await asyncio.sleep(0)

    async def _flag(self, rng: random.Random, store: Store) -> None:
        company_id = rng.choice(self.middle + self.low)
        match rng.randrange(4):
            case 0:
                await self._ask(store, "companies.suspend", company_id=company_id, reason="x")
            case 1:
                await self._ask(store, "companies.resume", company_id=company_id)
            case 2:
                flag = rng.random() < 0.8
                await self._ask(
                    store, "companies.change", company_id=company_id, use_parent_credits=flag
                )
            case _:
                limit = rng.choice([None, 5, 50])
                await self._ask(
                    store, "companies.change", company_id=company_id, parent_limit=limit
                )

    async def _register(self, rng: random.Random, store: Store) -> None:
        given = {"serial": rng.choice(self.serials), "company_id": rng.choice(self.low)}
        await self._ask(store, "devices.register", activate=rng.random() < 0.7, **given)

    async def _unregister(self, rng: random.Random, store: Store) -> None:
        await self._ask(store, "devices.unregister", serial=rng.choice(self.serials))

    async def _heartbeats(self, rng: random.Random, store: Store) -> None:
        batch = []
        for serial in rng.sample(self.serials, BATCH):
            payload = self.world.router(serial).message(base=0)
            body = read_payload(f"fg1/d/{serial}/hb", "hb", payload)
            batch.append(Incoming(serial, body, self.world.now_ms))
        terms = Terms("node-1", self.world.now_ms - BEGIN_MS, 4, 5)
        await store.write(partial(take_batch, batch=batch, terms=terms), lane=Lane.INGEST)
        self.done["batch of heartbeats"] += 1

    async def _settle(self, rng: random.Random, store: Store) -> None:
        ids = await store.read(periods.due_in_order)
        some = partial(periods.settle_due, ids=ids[:40])
        lane = rng.choice([Lane.JOBS, Lane.PEOPLE])  # of more than two gateways
        settled: int | None = await store.write(some, lane=lane)
        self.done["devices settled"] += settled or 0

    async def _recheck(self, rng: random.Random, store: Store) -> None:
        found = await store.read(periods.next_recheck)
        if found is None:
            return
        ids = await store.read(partial(periods.unpaid_below, company_id=found[0]))
        lane = rng.choice([Lane.JOBS, Lane.PEOPLE])
        for start in range(0, len(ids), 40):
            some = partial(periods.settle_some, ids=ids[start : start + 40])
            if await store.write(some, lane=lane) is None:
                return
        await store.write(lambda tx: periods.recheck_done(tx, *found), lane=lane)
        self.done["subtree looked at"] += 1

    async def _tell(self, rng: random.Random, store: Store) -> None:
        sent = await store.write(
            lambda tx: claim(tx, "node-1", SITE.master_key, SITE.tickets), lane=Lane.JOBS
        )
        self.done["commands claimed"] += len(sent)

    async def _keep_house(self, rng: random.Random, store: Store) -> None:
        clock_ms = self.world.now_ms - BEGIN_MS - rng.randrange(10) * DAY_MS
        await store.write(lambda tx: presence.sweep(tx, "node-1", clock_ms), lane=Lane.JOBS)
        ids = await store.read(housekeeping.unanswered)
        await store.write(lambda tx: housekeeping.end_commands(tx, ids), lane=Lane.JOBS)
        await store.write(periods.expire_pools, lane=Lane.JOBS)
        await store.write(housekeeping.clean, lane=Lane.JOBS)
        self.done["housekeeping"] += 1


def rage(two: TwoGateways, seconds: float, summary_row: SummaryRow) -> None:
    seed = time.time_ns()
    storm = Storm(two, seed)
    before = storm.world.store.commits
    asyncio.run(storm.rage(seconds))
    stores = [store for store in two.stores if isinstance(store, PostgresStore)]
    commits = sum(store.commits for store in stores) - before
    repeated = sum(store.repeated for store in stores)
    outcome = f"{repeated} repeated, {two.deadlocks()} deadlocks, ledger verified, seed {seed}"
    summary_row("two gateways, all at once", f"{commits} transactions", outcome)
    done = ", ".join(f"{name} {amount}" for name, amount in sorted(storm.done.items()))
    summary_row("", f"{sum(storm.refused.values())} refused", done)
    storm.world.jobs()


@pytest.mark.timeout(180)
def test_two_gateways_and_everybody_at_once(two: TwoGateways, summary_row: SummaryRow) -> None:
    rage(two, 5, summary_row)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_gateways_and_everybody_at_once_for_a_minute(
    two: TwoGateways, summary_row: SummaryRow
) -> None:
    rage(two, 60, summary_row)
