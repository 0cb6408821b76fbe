"""The plan `daily` under attack: days of grace, credits in the middle of them, plan changes."""

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from tests.contract.test_daily import MINE, S, T, daily, days_of, heard, joined
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

__all__ = ["daily"]


def in_grace(world: World) -> None:
    """Ten days are paid; on the eleventh nobody can."""
    joined(world, S)
    for _ in range(10):
        heard(world, S)
        world.live(DAY_MS)
    heard(world, S)
    assert world.service(S) == ("active", "grace") and world.pools(MINE) == 0


def test_a_day_of_grace_is_owed_once_however_often_it_is_heard(daily: World) -> None:
    world = daily
    in_grace(world)
    for _ in range(3):
        world.live(HOUR_MS)
        heard(world, S, S)
    world.live(DAY_MS)
    world.do("credits.grant", company_id=MINE, days=5)
    world.jobs()
    heard(world, S)
    assert days_of(world, S) == list(range(12)) and world.pools(MINE) == 3
    world.check()


def test_credits_that_come_on_a_day_of_grace(daily: World) -> None:
    world = daily
    in_grace(world)
    world.live(HOUR_MS)
    world.do("credits.grant", company_id=MINE, days=5)
    world.jobs()
    world.check()
    heard(world, S)
    world.check()
    assert world.service(S) == ("active", "paid")
    assert days_of(world, S) == list(range(11)) and world.pools(MINE) == 4


def test_too_few_credits_on_a_day_of_grace(daily: World) -> None:
    world = daily
    in_grace(world)
    world.live(DAY_MS)
    heard(world, S)
    world.do("credits.grant", company_id=MINE, days=1)
    world.jobs()
    world.check()
    heard(world, S)
    world.check()
    assert world.service(S) == ("active", "grace") and world.pools(MINE) == 1


def test_activated_by_hand_before_the_plan_changed(world: World) -> None:
    top = world.company("Top")
    assert world.company("Mine", top) == MINE
    world.do("credits.grant", company_id=MINE, days=40)
    joined(world, S, activate="later")
    world.do("devices.activate", serial=S)
    heard(world, S)
    world.set_company(MINE, plan="daily")
    world.live(31 * DAY_MS)
    heard(world, S)
    assert world.service(S) == ("active", "paid") and world.pools(MINE) == 9
    world.check()


def test_extend_in_a_grace_by_the_day(daily: World) -> None:
    world = daily
    in_grace(world)
    world.grant("1", 2)
    assert world.ask("devices.extend", serial=S) == "not_active"
    world.check()


def test_nobody_pays_a_day_and_a_credit_for_the_same_day(daily: World) -> None:
    world = daily
    world.grant(MINE, 2)
    joined(world, S)
    world.live(HOUR_MS)
    heard(world, S)
    assert world.pools(MINE) == 69
    world.set_company(MINE, plan="block")
    world.jobs()
    heard(world, S)
    world.check()
    # Today is paid: the credit begins when it is over.
    assert world.pools(MINE) == 69
    assert world.service(S) == ("active", "paid")
    world.live(DAY_MS)
    heard(world, S)
    assert world.pools(MINE) == 39 and world.prepaid(S) == 30
    world.check()


def test_unwanted_by_the_day_stays_so_in_blocks(daily: World) -> None:
    world = daily
    world.grant(MINE, 2)
    joined(world, S)
    heard(world, S)
    world.do("devices.change", serial=S, auto_extend=False)
    world.live(2 * DAY_MS)
    heard(world, S)
    assert world.service(S) == ("off", "not_activated")
    world.set_company(MINE, plan="block")
    world.jobs()
    heard(world, S)
    assert world.service(S) == ("off", "not_activated") and world.pools(MINE) == 69
    world.check()


def test_activating_wants_service_even_without_auto_extend(daily: World) -> None:
    world = daily
    joined(world, S)
    heard(world, S)
    world.do("devices.change", serial=S, auto_extend=False)
    world.live(2 * DAY_MS)
    heard(world, S)
    world.do("devices.activate", serial=S)
    heard(world, S)
    assert world.service(S) == ("active", "paid")
    world.check()


@pytest.mark.parametrize("how", ["suspension", "switch"])
def test_what_is_left_of_grace_after_a_stop(daily: World, how: str) -> None:
    world = daily
    in_grace(world)
    world.live(HOUR_MS)
    if how == "switch":
        world.do("devices.switch-off", serial=S)
    else:
        world.do("companies.suspend", company_id=MINE, reason="x")
    world.jobs()
    assert world.service(S)[0] == "off"
    world.live(HOUR_MS)
    if how == "switch":
        world.do("devices.switch-on", serial=S)
    else:
        world.do("companies.resume", company_id=MINE)
    world.jobs()
    world.check()
    world.live(MINUTE_MS)
    heard(world, S)
    assert world.service(S) == ("active", "grace")
    world.check()


def test_a_gift_to_all_does_not_switch_on(daily: World) -> None:
    world = daily
    joined(world, S, T)
    heard(world, S, T)
    world.do("devices.switch-off", serial=S)
    world.do("credits.give", company_id=MINE, days=3)
    assert world.service(S) == ("off", "switched_off")
    assert world.service(T) == ("active", "paid")
    world.check()


def test_a_gift_in_grace_is_all_that_is_owed(daily: World) -> None:
    world = daily
    in_grace(world)
    world.do("credits.give", serial=S, days=3)
    world.do("credits.grant", company_id=MINE, days=10)
    world.live(4 * DAY_MS)
    heard(world, S)
    assert world.pools(MINE) == 9
    world.check()


def test_a_day_of_a_registration_before_is_not_taken_again(daily: World) -> None:
    world = daily
    joined(world, S)
    heard(world, S)
    world.do("devices.unregister", serial=S)
    world.live(HOUR_MS)
    world.register(S, MINE)
    world.live(MINUTE_MS)
    heard(world, S)
    assert world.service(S) == ("active", "paid")
    assert world.pools(MINE) == 9 and days_of(world, S) == [0]
    world.check()


def test_twice_in_a_batch_after_the_clock_was_set_back(daily: World) -> None:
    world = daily
    joined(world, S)
    heard(world, S)
    world.now_ms -= 5 * DAY_MS
    router = world.router(S)
    world.deliver(*[(S, "hb", router.message()) for _ in range(3)])
    assert days_of(world, S) == [-5, 0] and world.pools(MINE) == 8
    world.now_ms += 5 * DAY_MS
    heard(world, S)
    assert days_of(world, S) == [-5, 0] and world.pools(MINE) == 8
    world.check()
