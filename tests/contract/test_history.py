"""Samples become hours and days, on both engines, whatever comes in between."""

from functools import partial
from random import Random

import pytest
from sqlalchemy import func, select

from gateway.domain.history import HOURS_A_DAY, Level, RolledUp, merged
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.jobs import history
from gateway.storage import history_rows
from gateway.storage.rolled_up import unpacked
from gateway.storage.schema import history_day, history_hour, late_hour
from gateway.storage.transaction import Transaction
from tests.contract.fleet_history import FleetHistory
from tests.contract.world import BEGIN_MS, World
from tests.databases import store_of

DAYS = 3
END_MS = BEGIN_MS + DAYS * DAY_MS
ROUNDS = 10_000


@pytest.fixture
def fleet(world: World) -> FleetHistory:
    """Twenty devices; no time has passed yet."""
    made = FleetHistory(world, Random(7))
    made.register(20)
    return made


def roll_up(world: World) -> int:
    return world.wait(history.roll_up_all(world.store, ROUNDS))


def hours(world: World) -> dict[tuple[int, int], RolledUp]:
    rows = world.read(lambda tx: tx.all(select(history_hour)))
    return {(row.device_id, row.hour): unpacked(row.fields) for row in rows}


def days(world: World) -> dict[tuple[int, int], RolledUp]:
    rows = world.read(lambda tx: tx.all(select(history_day)))
    return {(row.device_id, row.day): unpacked(row.fields) for row in rows}


def assert_all_rolled_up(fleet: FleetHistory) -> None:
    wanted = fleet.expected()
    found = hours(fleet.world)
    assert found == wanted
    by_day: dict[tuple[int, int], list[RolledUp]] = {}
    for (device_id, hour), rolled in sorted(found.items()):
        by_day.setdefault((device_id, hour // HOURS_A_DAY), []).append(rolled)
    assert days(fleet.world) == {key: merged(parts) for key, parts in by_day.items()}


def test_every_hour_and_day_is_what_its_samples_come_to(fleet: FleetHistory) -> None:
    fleet.report(BEGIN_MS, END_MS)
    fleet.world.now_ms = END_MS + 2 * HOUR_MS
    samples = sum(len(all_) for all_ in fleet.samples.values())
    assert samples > 15_000
    assert roll_up(fleet.world) == samples
    assert_all_rolled_up(fleet)
    assert fleet.world.read(history.rolled_up_to) == END_MS
    assert roll_up(fleet.world) == 0


def test_hour_by_hour_comes_to_the_same_as_all_at_once(fleet: FleetHistory) -> None:
    fleet.report(BEGIN_MS, BEGIN_MS + DAY_MS)
    world = fleet.world
    world.now_ms = BEGIN_MS + HOUR_MS
    for _ in range(30):
        world.now_ms += HOUR_MS
        roll_up(world)
    assert_all_rolled_up(fleet)


def test_an_hour_is_left_alone_until_it_is_over_for_two_hours(fleet: FleetHistory) -> None:
    fleet.report(BEGIN_MS, BEGIN_MS + HOUR_MS)
    fleet.world.now_ms = BEGIN_MS + 3 * HOUR_MS - 1
    assert roll_up(fleet.world) == 0
    assert hours(fleet.world) == {}
    fleet.world.now_ms += 1
    assert roll_up(fleet.world) > 0
    assert len(hours(fleet.world)) >= 18  # some were silent


def test_late_samples_change_their_hours_those_after_them_and_their_days(
    fleet: FleetHistory,
) -> None:
    fleet.report(BEGIN_MS, END_MS)
    rng = Random(8)
    late = {
        id_: [s for s in all_ if s.at_ms > BEGIN_MS + HOUR_MS and rng.random() < 0.1]
        for id_, all_ in fleet.samples.items()
    }
    # An outage of one device: half a day comes at once.
    first = fleet.ids[0]
    noon = BEGIN_MS + DAY_MS // 2
    late[first] = [s for s in fleet.samples[first] if noon <= s.at_ms < noon + DAY_MS // 2]
    prompt = {id_: [s for s in all_ if s not in late[id_]] for id_, all_ in fleet.samples.items()}
    world = fleet.world
    world.write(lambda tx: tx.change("DELETE FROM heartbeat", ()))
    fleet.store(prompt)
    world.now_ms = END_MS + 2 * HOUR_MS
    roll_up(world)
    assert hours(world) != fleet.expected()
    for id_, some in late.items():
        fleet.arrive_late({id_: some[::2]})
        fleet.arrive_late({id_: some[1::2]})
    roll_up(world)
    assert_all_rolled_up(fleet)
    assert world.read(lambda tx: tx.scalar(select(func.count()).select_from(late_hour))) == 0


def test_ingest_notes_which_hours_samples_come_late_for(world: World) -> None:
    company = world.company("A")
    world.grant(company, 1)
    world.register("1100000001", company)
    world.now_ms += 12 * HOUR_MS
    world.heartbeat("1100000001", values={"rsrp": -90})
    assert roll_up(world) == 0
    world.heartbeat("1100000001", samples=3, age_ms=5 * HOUR_MS, values={"rsrp": -100})
    # An hour that is not rolled up yet comes by itself.
    world.heartbeat("1100000001", age_ms=HOUR_MS, values={"rsrp": -95})
    late_ms = world.now_ms - 5 * HOUR_MS
    roll_up(world)
    rows = hours(world)
    assert [hour for _, hour in rows] == [late_ms // HOUR_MS]
    assert next(iter(rows.values())).samples == 3


class Crash(Exception):
    """The gateway ends here."""


def test_a_crash_in_the_middle_costs_a_step(
    fleet: FleetHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.report(BEGIN_MS, END_MS)
    world = fleet.world
    world.now_ms = END_MS + 2 * HOUR_MS
    kept, rng = history_rows.keep, Random(9)

    def keep(tx: Transaction, level: Level, rows: list[tuple[int, int, bytes]]) -> None:
        kept(tx, level, rows[: len(rows) // 2])
        if rng.random() < 0.3:
            raise Crash
        kept(tx, level, rows[len(rows) // 2 :])

    monkeypatch.setattr(history_rows, "keep", keep)
    crashes = 0
    while True:
        try:
            roll_up(world)
            break
        except Crash:
            crashes += 1
            # Another process goes on.
            world.store.close()
            world.store = store_of(world.address, lambda: world.now_ms)
    assert crashes > 3
    assert_all_rolled_up(fleet)


def test_of_two_gateways_that_reckoned_the_same_one_keeps_it(fleet: FleetHistory) -> None:
    fleet.report(BEGIN_MS, END_MS)
    world = fleet.world
    world.now_ms = END_MS + 2 * HOUR_MS
    other = store_of(world.address, lambda: world.now_ms)
    try:
        if fleet.world.store.version().startswith("sqlite"):
            other.close()
            other = world.store  # there is one process that writes
        steps = 0
        for plan in (history.plan_hours, history.plan_days):
            while True:
                mine, others = world.read(plan), world.wait(other.read(plan))
                if mine is None or others is None:
                    break
                first = world.write(partial(history.keep, step=mine))
                second = world.wait(other.write(partial(history.keep, step=others)))
                assert (first, second) == (True, False)
                steps += 1
        assert steps > 10
    finally:
        if other is not world.store:
            other.close()
    assert_all_rolled_up(fleet)


def test_what_was_reckoned_before_late_samples_were_settled_is_not_kept(
    fleet: FleetHistory,
) -> None:
    fleet.report(BEGIN_MS, BEGIN_MS + DAY_MS)
    world = fleet.world
    world.now_ms = BEGIN_MS + 10 * HOUR_MS
    roll_up(world)
    world.now_ms = BEGIN_MS + 11 * HOUR_MS
    step = world.read(history.plan_hours)
    assert step is not None
    late = fleet.samples[fleet.ids[0]][3]._replace(at_ms=BEGIN_MS + 7 * HOUR_MS + MINUTE_MS)
    fleet.samples[fleet.ids[0]].append(late)
    fleet.arrive_late({fleet.ids[0]: [late]})
    assert world.write(history.settle_late) == 1
    assert world.write(partial(history.keep, step=step)) is False
    world.now_ms = BEGIN_MS + DAY_MS + 2 * HOUR_MS
    roll_up(world)
    assert_all_rolled_up(fleet)
