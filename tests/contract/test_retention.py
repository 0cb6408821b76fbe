"""Old history goes, level by level, and never before the coarser level has it."""

from random import Random

import pytest
from sqlalchemy import func, insert, select, update

from gateway.domain.history import COUNTERS, HOURS_A_DAY, Level
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, day_of
from gateway.jobs import history, retention
from gateway.jobs.retention import KeptDays
from gateway.storage import history_rows, partitions
from gateway.storage.schema import (
    device_live,
    heartbeat,
    history_day,
    history_hour,
    presence_change,
    run,
)
from gateway.storage.transaction import Transaction
from tests.contract.fleet_history import SENT, FleetHistory
from tests.contract.world import BEGIN_MS, World

DAYS = KeptDays(raw=3, hourly=6, daily=9)
ROUNDS = 10_000


@pytest.fixture
def fleet(world: World) -> FleetHistory:
    """Six devices with four days of samples; the last hour is just over."""
    made = FleetHistory(world, Random(7))
    made.register(6)
    made.report(BEGIN_MS, BEGIN_MS + 4 * DAY_MS)
    world.now_ms = BEGIN_MS + 4 * DAY_MS
    return made


def roll_up(world: World) -> None:
    world.wait(history.roll_up_all(world.store, ROUNDS))


def delete(world: World) -> None:
    world.wait(retention.delete_all(world.store, DAYS, ROUNDS))


def oldest(world: World) -> tuple[int | None, int | None, int | None]:
    """The first day that has samples, hours and a day of its own."""

    def read(tx: Transaction) -> tuple[int | None, int | None, int | None]:
        at = tx.scalar(select(func.min(heartbeat.c.at)))
        hour = tx.scalar(select(func.min(history_hour.c.hour)))
        first = (None if at is None else day_of(at), None if hour is None else hour // HOURS_A_DAY)
        return *first, tx.scalar(select(func.min(history_day.c.day)))

    return world.read(read)


def test_each_level_goes_in_its_time_and_never_before_it_was_rolled_up(
    fleet: FleetHistory,
) -> None:
    world, first = fleet.world, day_of(BEGIN_MS)
    world.now_ms = BEGIN_MS + 5 * DAY_MS
    delete(world)
    assert oldest(world) == (first, None, None)
    for day, expected in [
        # today  the oldest day with samples, hours, days
        (3, (first, first, first)),
        (4, (first + 1, first, first)),
        (6, (first + 3, first, first)),
        (7, (None, first + 1, first)),
        (9, (None, first + 3, first)),
        (10, (None, None, first + 1)),
        (13, (None, None, None)),
    ]:
        world.now_ms = BEGIN_MS + day * DAY_MS + 3 * HOUR_MS
        roll_up(world)
        delete(world)
        assert oldest(world) == expected, day


def test_what_waits_to_be_rolled_up_again_is_not_deleted(fleet: FleetHistory) -> None:
    world = fleet.world
    world.now_ms = BEGIN_MS + 4 * DAY_MS + 3 * HOUR_MS
    roll_up(world)
    some = fleet.samples[fleet.ids[0]][5]
    late = some._replace(at_ms=some.at_ms + MINUTE_MS)
    fleet.arrive_late({fleet.ids[0]: [late]})
    first = day_of(BEGIN_MS)
    delete(world)
    assert oldest(world)[0] == first
    roll_up(world)
    world.now_ms += DAY_MS
    roll_up(world)
    delete(world)
    assert oldest(world)[0] == first + 2


def test_samples_of_hours_whose_samples_are_gone_are_added_to_them_once(
    fleet: FleetHistory,
) -> None:
    world, id_ = fleet.world, fleet.ids[0]
    world.now_ms = BEGIN_MS + 5 * DAY_MS
    roll_up(world)
    delete(world)
    hour = fleet.samples[id_][40].at_ms // HOUR_MS

    def stored() -> tuple[int, int]:
        ((_, rolled),) = world.read(
            lambda tx: history_rows.rolled_up(tx, Level.HOUR, id_, hour, hour + 1)
        )
        day = world.read(
            lambda tx: history_rows.rolled_up(
                tx, Level.DAY, id_, hour // HOURS_A_DAY, hour // HOURS_A_DAY + 1
            )
        )
        return rolled.samples, day[0][1].samples

    before = stored()
    for number in range(3):
        at = hour * HOUR_MS + number * 1_000
        late = fleet.samples[id_][40]._replace(at_ms=at, values={SENT: 5, 10: -70})
        fleet.samples[id_].append(late)
        fleet.arrive_late({id_: [late]})
        roll_up(world)
        assert stored() == (before[0] + number + 1, before[1] + number + 1)
    # Another half of a day that was never there before.
    empty = hour - 30 * HOURS_A_DAY
    for number in range(12):
        late = late._replace(at_ms=(empty + number // 6) * HOUR_MS + number * MINUTE_MS)
        fleet.samples[id_].append(late)
        fleet.arrive_late({id_: [late]})
        roll_up(world)
    found = world.read(lambda tx: history_rows.rolled_up(tx, Level.HOUR, id_, empty, empty + 2))
    assert [rolled.samples for _, rolled in found] == [6, 6]
    assert SENT in COUNTERS


def test_more_rows_than_go_at_once_go_hour_by_hour(
    fleet: FleetHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 10)  # an hour has more
    world = fleet.world
    world.now_ms = BEGIN_MS + 5 * DAY_MS + 3 * HOUR_MS
    roll_up(world)
    delete(world)
    assert oldest(world)[0] == day_of(BEGIN_MS) + 2


def test_presence_and_runs_have_their_own_time(fleet: FleetHistory) -> None:
    world, id_ = fleet.world, fleet.ids[0]
    old_ms = world.now_ms
    company = world.row("1200000000").company_id

    def add(tx: Transaction) -> None:
        for at in (old_ms, old_ms + 300 * DAY_MS):
            tx.run(
                insert(presence_change),
                {
                    "device_id": id_,
                    "company_id": company,
                    "presence": "late",
                    "before": "online",
                    "at": at,
                },
            )
        for number, (superseded_at, last_at) in enumerate(
            [
                (old_ms, old_ms),  # nobody sends its samples any more
                (old_ms, old_ms + 380 * DAY_MS),  # samples of it came lately
                (old_ms + 380 * DAY_MS, None),  # superseded lately
                (old_ms, old_ms),  # said to be the current one
                (None, None),  # the current one
            ]
        ):
            values = {"superseded_at": superseded_at, "last_at": last_at, "state_seq": 0}
            named = {"device_id": id_, "run": f"run{number:08d}", "upto": 1}
            made = tx.insert(insert(run), {**named, **values})
            if number == 3:
                tx.lock_devices(select(device_live.c.device_id))
                mine = device_live.c.device_id == id_
                tx.run(update(device_live).where(mine).values(run_id=made, run="run00000003"))

    world.write(add)
    world.now_ms = old_ms + 401 * DAY_MS
    roll_up(world)
    delete(world)
    assert world.read(lambda tx: tx.scalar(select(func.count()).select_from(presence_change))) == 1
    left = world.read(lambda tx: [row.run for row in tx.all(select(run.c.run).order_by(run.c.run))])
    assert left == ["run00000001", "run00000002", "run00000003", "run00000004"]


def test_partitions_are_there_ahead_take_over_what_came_before_and_go_whole(
    fleet: FleetHistory,
) -> None:
    world = fleet.world
    if not world.read(partitions.partitioned):
        delete(world)  # nothing to do for them
        return
    in_other = "SELECT count(*) FROM heartbeat_other"
    samples = sum(len(all_) for all_ in fleet.samples.values())
    assert world.read(lambda tx: tx.fetch(in_other)) == [(samples,)]
    today = day_of(world.now_ms)
    delete(world)
    assert world.read(partitions.present) == set(range(today - DAYS.raw, today + 4))
    kept = [
        s for all_ in fleet.samples.values() for s in all_ if day_of(s.at_ms) >= today - DAYS.raw
    ]
    assert world.read(lambda tx: tx.fetch(in_other)) == [(samples - len(kept),)]
    world.now_ms += 2 * DAY_MS
    roll_up(world)
    delete(world)
    assert world.read(partitions.present) == set(range(today + 2 - DAYS.raw, today + 2 + 4))
    assert world.read(lambda tx: tx.fetch(in_other)) == [(0,)]


def test_a_day_with_many_samples_stays_where_it_is(
    fleet: FleetHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fleet.world
    if not world.read(partitions.partitioned):
        delete(world)  # nothing to do for them
        return
    monkeypatch.setattr(partitions, "MOVED_MAX", 100)
    today = day_of(world.now_ms)
    delete(world)
    assert world.read(partitions.present) == set(range(today, today + 4))
    world.now_ms += 9 * DAY_MS
    roll_up(world)
    delete(world)
    assert oldest(world)[0] is None
