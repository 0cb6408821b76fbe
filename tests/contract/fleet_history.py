"""Samples of a small fleet as rows, and what they come to, reckoned in the plainest way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from sqlalchemy import select, update

from gateway.domain.history import COUNTERS, Counter, Gauge, RolledUp, Sample, Summary
from gateway.domain.instants import HOUR_MS, MINUTE_MS
from gateway.ingest.rows import encode
from gateway.storage.schema import device, device_live
from gateway.storage.transaction import Transaction
from tests.contract.world import World
from wire.fields import BY_NAME, Value

INTERVAL_MS = 5 * MINUTE_MS
UPTIME, RSRP, CLIENTS = (BY_NAME[name].id for name in ("uptime", "rsrp", "clients"))
SENT, OPERATOR = BY_NAME["mobile_sent"].id, BY_NAME["operator"].id


def plainly(samples: Sequence[Sample]) -> dict[int, RolledUp]:
    """Every hour of all samples of one device, by looking at each value of each sample."""
    values: dict[int, Value] = {}
    stood: dict[int, int] = {}
    run_id = 0
    hours: dict[int, list[tuple[int, dict[int, Value], dict[int, int]]]] = {}
    for sample in samples:
        if sample.run_id != run_id:
            run_id = sample.run_id
            values = {}
        values = {**values, **{i: v for i, v in sample.values.items() if type(v) is int}}
        grown: dict[int, int] = {}
        for id_ in COUNTERS:
            now = sample.values.get(id_, stood.get(id_))
            if now is not None:
                before = stood.get(id_, now)
                grown[id_] = now - before if now >= before else now
                stood[id_] = now
        gauges = {i: v for i, v in values.items() if i not in COUNTERS}
        hours.setdefault(sample.at_ms // HOUR_MS, []).append((run_id, gauges, {**grown}))
        hours[sample.at_ms // HOUR_MS][-1][2].update({-i: stood[i] for i in grown})
    return {hour: _one(rows) for hour, rows in hours.items()}


def _one(rows: list[tuple[int, dict[int, Value], dict[int, int]]]) -> RolledUp:
    fields: dict[int, Summary] = {}
    for id_ in {id_ for _, gauges, _ in rows for id_ in gauges}:
        seen = [int(gauges[id_]) for _, gauges, _ in rows if id_ in gauges]
        last = seen[-1] if id_ in rows[-1][1] else None
        fields[id_] = Gauge(len(seen), min(seen), sum(seen), max(seen), last)
    for id_ in {id_ for _, _, grown in rows for id_ in grown if id_ > 0}:
        more = [grown[id_] for _, _, grown in rows if id_ in grown]
        stood = [grown[-id_] for _, _, grown in rows if id_ in grown][-1]
        fields[id_] = Counter(len(more), sum(more), stood)
    return RolledUp(rows[-1][0], len(rows), fields)


@dataclass(slots=True)
class FleetHistory:
    """Devices that reported for some days, each with a mishap of its own."""

    world: World
    rng: Random
    ids: list[int] = field(default_factory=list)
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def register(self, count: int) -> None:
        """They are registered, and nothing else."""
        company = self.world.company("Fleet")
        for number in range(count):
            serial = f"{1_200_000_000 + number}"
            self.world.register(serial, company, activate="later")
            self.ids.append(self.world.row(serial).id)
            self.samples[self.ids[-1]] = []

    def report(self, from_ms: int, to_ms: int) -> None:
        """Samples of all devices in this time, as deltas, with gaps, new runs and restarts."""
        for id_ in self.ids:
            self.samples[id_] += self._story(id_, from_ms, to_ms)
        self.store(
            {id_: [s for s in all_ if s.at_ms >= from_ms] for id_, all_ in self.samples.items()}
        )

    def _story(self, id_: int, from_ms: int, to_ms: int) -> list[Sample]:
        rng = self.rng
        run_id, sent, clients = id_ * 1_000 + 1, 1_000, 3
        fresh, made = True, []
        silent = rng.randrange(from_ms, to_ms)
        for at in range(from_ms + id_ * 1_000, to_ms, INTERVAL_MS):
            if silent <= at < silent + 3 * HOUR_MS:
                continue
            if rng.random() < 0.01:
                run_id, fresh = run_id + 1, True
            if rng.random() < 0.01:
                sent = 0
            sent += rng.randrange(5_000)
            values: dict[int, Value] = {UPTIME: at // 1_000, SENT: sent}
            if fresh or rng.random() < 0.7:
                values[RSRP] = rng.randrange(-120, -80)
            if (fresh and rng.random() < 0.5) or rng.random() < 0.05:
                clients += 1
                values[CLIENTS] = clients
            if fresh:
                values[OPERATOR] = "LT BITE GSM"
            fresh = False
            made.append(Sample(at, run_id, values))
        return made

    def store(self, samples: dict[int, list[Sample]]) -> None:
        """Rows as ingest makes them."""
        rows = [
            (id_, sample.run_id, 1, sample.at_ms, 0, encode(sample.values).decode())
            for id_, all_ in samples.items()
            for sample in all_
        ]
        heard = {id_: max(s.at_ms for s in self.samples[id_]) for id_ in samples}

        def add(tx: Transaction) -> None:
            columns = ("device_id", "run_id", "number", "at", "time_from", "fields")
            tx.add_rows("heartbeat", columns, rows)
            tx.lock_devices(select(device.c.id).where(device.c.id.in_(heard)))
            for id_, at in heard.items():
                newer = device_live.c.device_id == id_
                tx.run(update(device_live).where(newer).values(last_heard_at=at))

        self.world.write(add)

    def arrive_late(self, late: dict[int, list[Sample]]) -> None:
        """Samples that ingest finds to be late, with the note that it makes of them."""
        self.store(late)
        notes = {(id_, s.at_ms // HOUR_MS) for id_, all_ in late.items() for s in all_}
        self.world.write(lambda tx: tx.add_rows("late_hour", ("device_id", "hour"), sorted(notes)))

    def expected(self) -> dict[tuple[int, int], RolledUp]:
        """Every hour of every device."""
        return {
            (id_, hour): rolled
            for id_, all_ in self.samples.items()
            for hour, rolled in plainly(sorted(all_)).items()
        }
