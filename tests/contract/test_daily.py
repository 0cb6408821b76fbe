"""The plan `daily`, switching service off and on, trial days, and what is given back at an end."""

from typing import Any

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS, SECOND_MS, day_of
from gateway.operations.trial import TRIAL_DAYS_KEY
from gateway.storage.installation_facts import put
from gateway.storage.schema import monitored_day
from tests.contract.world import BEGIN_MS, World

pytestmark = pytest.mark.either_engine

S, T, U = "1100000001", "1100000002", "1100000003"


@pytest.fixture
def daily(world: World) -> World:
    """A company that pays by the day, with 10 days, and a parent with as many credits."""
    top = world.company("Top")
    mine = world.company("Mine", top, plan="daily")
    world.grant(top, 10)
    world.do("credits.grant", company_id=mine, days=10)
    assert (top, mine) == ("1", "2")
    return world


MINE = "2"
BEGAN = day_of(BEGIN_MS)


def heard(world: World, *serials: str) -> None:
    for serial in serials:
        world.heartbeat(serial)


def joined(world: World, *serials: str, **more: Any) -> None:
    for serial in serials:
        world.register(serial, MINE, **more)
        world.join(serial)


def days_of(world: World, serial: str) -> list[int]:
    """Monitored days, counted from the first of the story."""
    id_ = world.row(serial).id
    statement = select(monitored_day.c.day).where(monitored_day.c.device_id == id_)
    rows = world.read(lambda tx: tx.all(statement.order_by(monitored_day.c.day)))
    return [row.day - BEGAN for row in rows]


def test_a_day_is_taken_on_each_day_on_which_something_was_heard(daily: World) -> None:
    world = daily
    joined(world, S)
    assert world.service(S) == ("off", "not_activated") and world.pools(MINE) == 10
    heard(world, S, S)
    assert world.service(S) == ("active", "paid") and world.pools(MINE) == 9
    assert world.device(S)["service"]["paid_until"].startswith("2027-01-16T00:00:00")
    for hours in (1, 22, 1, 24, 72):
        world.live(hours * HOUR_MS)
        heard(world, S)
    assert days_of(world, S) == [0, 1, 2, 5] and world.pools(MINE) == 6
    assert world.kinds(S) == []  # days of many devices are one row
    assert [row["days"] for row in world.ledger(kind="day")] == [1, 1, 1, 1]
    world.live(40 * DAY_MS)
    assert world.service(S) == ("active", "paid") and world.pools(MINE) == 6
    world.check()


def test_a_batch_is_one_transfer_for_each_lot_and_company(daily: World) -> None:
    world = daily
    world.do("credits.grant", company_id=MINE, days=2, free=True)
    joined(world, S, T, U)
    sent = [(one, "hb", world.router(one).message(2)) for one in (S, T, U)]
    world.deliver(*sent, *sent[:2])
    rows = world.ledger(kind="day")
    assert sorted((row["days"], row["free"]) for row in rows) == [(1, False), (2, True)]
    assert {row["serial"] for row in rows} == {None}
    assert len({row["operation_id"] for row in rows}) == 1
    # What was received before costs nothing on another day either.
    world.live(DAY_MS)
    world.deliver(*sent)
    assert world.pools(MINE) == 9 and days_of(world, T) == [0]
    world.check()


def test_a_backlog_fills_history_and_costs_one_day(daily: World) -> None:
    world = daily
    joined(world, S)
    router = world.router(S)
    heard(world, S)
    parts = []
    for _ in range(4):
        world.now_ms += DAY_MS
        parts.append((S, "hb", router.message(3)))
    world.deliver(*parts)
    assert days_of(world, S) == [0, 4] and world.pools(MINE) == 8
    world.check()


def test_grace_is_served_in_full_and_its_days_are_paid_with_the_next(daily: World) -> None:
    world = daily
    joined(world, S)
    for _ in range(12):
        heard(world, S)
        world.live(DAY_MS)
    assert world.service(S) == ("active", "grace") and world.pools(MINE) == 0
    assert days_of(world, S) == list(range(10))
    world.do("credits.grant", company_id=MINE, days=5)
    world.jobs()
    assert world.service(S) == ("active", "paid") and world.pools(MINE) == 5
    heard(world, S)
    assert days_of(world, S) == list(range(13)) and world.pools(MINE) == 2
    (newest, *_) = world.ledger(kind="day")
    assert newest["days"] == 3
    world.check()


def test_after_grace_it_is_unpaid_until_somebody_can_pay_what_is_owed(daily: World) -> None:
    world = daily
    joined(world, S)
    for _ in range(15):
        heard(world, S)
        world.live(DAY_MS)
    assert world.service(S) == ("unpaid", "no_credit")
    assert days_of(world, S) == list(range(10))
    outcome = world.heartbeat(S)
    assert outcome.unserved == 1
    world.do("credits.grant", company_id=MINE, days=3)
    world.jobs()
    # Three days were served for nothing; with today four are due.
    assert world.service(S) == ("unpaid", "no_credit")
    world.do("credits.grant", company_id=MINE, days=1)
    world.jobs()
    heard(world, S)
    assert days_of(world, S) == [*range(13), 15] and world.pools(MINE) == 0
    world.check()


def test_there_is_no_grace_before_the_first_paid_day(daily: World) -> None:
    world = daily
    world.do("credits.reverse", transfer=world.ledger(kind="grant")[0]["id"])
    joined(world, S)
    assert world.heartbeat(S).unserved == 1
    assert world.service(S) == ("unpaid", "no_credit")
    world.check()


def test_days_from_above_count_against_the_limit(daily: World) -> None:
    world = daily
    world.set_company(MINE, use_parent_credits=True, parent_limit=1)
    joined(world, S, T, U)
    for n in range(13):
        heard(world, S, T, U)
        world.live(DAY_MS)
        assert world.pools(MINE) == max(0, 10 - 3 * (n + 1))
    # 39 device days: 10 of its own (the last lot pays the first of a day), 29 from above.
    assert world.pools("1") == 300 - 29
    heard(world, S, T, U)
    assert {world.service(one) for one in (S, T, U)} == {("active", "paid"), ("active", "grace")}
    assert world.pools("1") == 300 - 30
    world.check()


def test_a_running_period_goes_first_and_no_day_is_paid_twice(world: World) -> None:
    mine = world.company("Root")
    other = world.company("Mine", mine)
    assert (mine, other) == ("1", MINE)
    world.do("credits.grant", company_id=MINE, days=40)
    joined(world, S)
    heard(world, S)
    world.set_company(MINE, plan="daily")
    assert world.pools(MINE) == 10
    for _ in range(29):
        world.live(DAY_MS)
        heard(world, S)
    assert world.pools(MINE) == 10
    world.live(DAY_MS - 2 * SECOND_MS)
    heard(world, S)
    world.live(SECOND_MS)
    world.live(2 * SECOND_MS)
    heard(world, S)
    assert world.pools(MINE) == 9 and days_of(world, S) == list(range(31))
    # Back to blocks: today is paid, and then a credit is taken.
    world.set_company(MINE, plan="block")
    world.do("credits.grant", company_id=MINE, credits=1)
    world.jobs()
    assert world.pools(MINE) == 39 and world.service(S) == ("active", "paid")
    world.check()
    world.live(DAY_MS)
    heard(world, S)
    assert world.pools(MINE) == 9 and world.prepaid(S) == 30
    world.check()


def test_a_clock_that_was_set_back_takes_no_day_twice(daily: World) -> None:
    world = daily
    joined(world, S)
    for _ in range(3):
        heard(world, S)
        world.live(DAY_MS)
    for back in (-2 * DAY_MS, DAY_MS, DAY_MS):
        world.now_ms += back
        heard(world, S)
    assert days_of(world, S) == [0, 1, 2, 3] and world.pools(MINE) == 6
    world.check()


def test_activating_by_the_day_takes_nothing(daily: World) -> None:
    world = daily
    joined(world, S, activate="later")
    assert world.heartbeat(S).unserved == 1
    world.do("devices.activate", serial=S)
    assert world.pools(MINE) == 10
    assert world.service(S) == ("active", "paid")
    assert world.ask("devices.extend", serial=S) == "not_active"
    heard(world, S)
    assert world.pools(MINE) == 9
    joined(world, T, activate=True)
    assert world.pools(MINE) == 9 and world.service(T) == ("off", "not_activated")
    heard(world, T)
    assert world.pools(MINE) == 8
    world.do("devices.change", serial=T, auto_extend=False)
    world.live(DAY_MS)
    assert world.heartbeat(T).unserved == 1 and world.service(T) == ("off", "not_activated")
    world.check()


# ---- switching off and on


@pytest.mark.parametrize("plan", ["block", "daily"])
def test_switched_off_costs_nothing_and_loses_nothing(world: World, plan: str) -> None:
    top = world.company("Top")
    assert world.company("Mine", top, plan=plan) == MINE
    world.do("credits.grant", company_id=MINE, days=90)
    joined(world, S)
    heard(world, S)
    held = world.pools(MINE)
    for _ in range(2):
        shown = world.do("devices.switch-off", serial=S)["service"]
        assert (shown["state"], shown["reason"]) == ("off", "switched_off")
    world.live(DAY_MS)
    assert world.heartbeat(S).unserved == 1 and world.pools(MINE) == held
    world.check()
    for _ in range(2):
        shown = world.do("devices.switch-on", serial=S)["service"]
        assert (shown["state"], shown["reason"]) == ("active", "paid")
    assert world.pools(MINE) == held
    heard(world, S)
    assert world.pools(MINE) == held - (plan == "daily")
    world.do("devices.switch-off", serial=S)
    held = world.pools(MINE)
    world.live(40 * DAY_MS)
    assert world.service(S) == ("off", "switched_off")
    assert (world.pools(MINE), world.prepaid(S)) == (held, 0)
    world.check()
    world.do("devices.switch-on", serial=S)
    heard(world, S)
    assert world.service(S) == ("active", "paid")
    assert world.pools(MINE) == held - (1 if plan == "daily" else 30)
    world.check()


def test_paying_by_hand_switches_on(world: World) -> None:
    world.company("Top")
    assert world.company("Mine") == MINE
    world.grant(MINE, 3)
    joined(world, S, activate="later")
    world.do("devices.switch-off", serial=S)
    assert world.service(S) == ("off", "switched_off")
    world.do("devices.activate", serial=S)
    assert world.service(S) == ("active", "paid")
    world.check()


# ---- trial days


@pytest.mark.parametrize("plan", ["block", "daily"])
def test_a_trial_begins_at_the_first_contact_once_for_ever(world: World, plan: str) -> None:
    world.write(lambda tx: put(tx, TRIAL_DAYS_KEY, "7"))
    top = world.company("Top")
    assert world.company("Mine", top, plan=plan) == MINE
    joined(world, S, T)
    assert world.service(S) == ("off", "not_activated")
    sent = [(one, "hb", world.router(one).message(1)) for one in (S, T)]
    world.deliver(*sent)
    assert {world.service(one) for one in (S, T)} == {("active", "paid")}
    assert world.device(S)["service"]["days_left"] == 7
    assert world.kinds(S) == [("trial", 7), ("activate", 7)]
    assert all(row["free"] for row in world.ledger(serial=S))
    world.check()
    world.live(8 * DAY_MS)
    heard(world, S)
    assert world.service(S)[0] != "off"
    for verb in ("unregister", "forget"):
        world.do(f"devices.{verb}", serial=S)
        world.register(S, MINE)
        if world.login(S) is None:
            world.join(S)
        heard(world, S)
        assert world.service(S) == ("unpaid", "no_credit")
    assert len(world.ledger(kind="trial")) == 2
    world.check()


# ---- what is given back


def test_days_left_go_back_where_the_policy_says_so(world: World) -> None:
    top = world.company("Top")
    assert world.company("Mine", top, use_parent_credits=True) == MINE
    world.do("credits.grant", company_id=top, days=30, expires_on="2027-01-25")
    world.do("credits.grant", company_id=top, days=30)
    world.one_person(2, MINE, "administrator")
    assert world.ask("companies.change", person=2, company_id=MINE, unregister="refund") == (
        "forbidden"
    )
    world.set_company(MINE, unregister="refund")
    joined(world, S, T)
    heard(world, S, T)
    assert world.pools(top) == 0
    world.live(5 * DAY_MS + HOUR_MS)
    ended = world.do("devices.unregister", person=2, serial=S)
    assert (ended["days_returned"], ended["days_forfeited"], ended["days_used"]) == (24, 0, 6)
    assert world.pools(top) == 24
    world.live(10 * DAY_MS)
    ended = world.do("devices.unregister", person=2, serial=T)
    assert (ended["days_returned"], ended["days_used"]) == (14, 16)
    # The lots keep their last day: what has expired meanwhile is not given back.
    kinds = [
        (row["kind"], row["to_account"].split(":")[0], row["days"])
        for row in world.ledger(kind="refund")
    ]
    assert ("refund", "pool", 24) in kinds or ("refund", "pool", 14) in kinds
    told = [one["kind"] for one in world.do("notices.list", company_id=top)["items"]]
    assert told == ["device_unregistered"] * 2
    world.check()
