"""A device between the plans `daily` and `block`: by a changed plan, a sale, a replacement."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS
from tests.contract.test_daily import MINE, S, T, daily, heard, joined
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

__all__ = ["daily"]


def in_blocks(world: World, credits: int) -> str:
    """A customer beside, whose devices take credits."""
    made = world.company("Blocks", "1")
    world.grant(made, credits)
    return made


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_who_buys_a_device_pays_from_the_day_after(daily: World, history: str) -> None:
    world = daily
    buyer = in_blocks(world, 2)
    joined(world, S)
    heard(world, S)
    world.do("devices.move", serial=S, company_id=buyer, history=history)
    world.check()
    world.jobs()
    heard(world, S)
    world.check()  # the seller paid today
    assert world.service(S) == ("active", "paid") and world.pools(buyer) == 60
    world.live(DAY_MS)
    world.check()
    heard(world, S)
    assert world.pools(buyer) == 30 and world.prepaid(S) == 30 and world.pools(MINE) == 9


def test_what_takes_its_place_is_paid_for_the_day_as_well(daily: World) -> None:
    world = daily
    world.grant(MINE, 2)
    joined(world, S)
    heard(world, S)
    world.do("devices.replace", broken=S, serial=T)
    world.join(T)
    heard(world, T)
    world.set_company(MINE, plan="block")
    world.jobs()
    heard(world, T)
    world.check()
    assert world.service(T) == ("active", "paid") and world.pools(MINE) == 69
    world.do("devices.undo-replace", serial=T)
    world.check()
    world.live(DAY_MS)
    heard(world, S)
    assert world.pools(MINE) == 39 and world.prepaid(S) == 30


def test_a_day_that_a_period_paid_is_paid_to_its_end_only(world: World) -> None:
    """To daily in the period, and back on the day on which it ended."""
    top = world.company("Top")
    assert world.company("Mine", top) == MINE
    world.grant(MINE, 3)
    world.now_ms += 12 * HOUR_MS
    joined(world, S)
    heard(world, S)
    world.set_company(MINE, plan="daily")
    world.live(30 * DAY_MS - HOUR_MS)
    heard(world, S)
    world.live(2 * HOUR_MS)
    heard(world, S)
    # The day was counted under the period: it is not taken a second time.
    assert world.pools(MINE) == 60 and world.service(S) == ("active", "paid")
    world.set_company(MINE, plan="block")
    world.jobs()
    world.check()
    assert world.kinds(S) == [("activate", 30), ("serve", 30), ("extend", 30)]
    assert world.service(S) == ("active", "paid") and world.pools(MINE) == 30


def test_by_hand_nobody_pays_a_credit_for_a_paid_day(daily: World) -> None:
    world = daily
    world.grant(MINE, 2)
    joined(world, S)
    heard(world, S)
    world.set_company(MINE, plan="block")
    world.jobs()
    ask: dict[str, Any] = {"serial": S}
    assert world.ask("devices.activate", **ask) == "already_active"
    assert world.pools(MINE) == 69
    world.live(DAY_MS)
    assert world.ask("devices.activate", **ask) == "ok"
    assert world.pools(MINE) == 39
    world.check()


def test_a_plan_changed_often_takes_each_day_once(world: World) -> None:
    top = world.company("Top")
    assert world.company("Mine", top) == MINE
    world.grant(MINE, 5)
    joined(world, S)
    heard(world, S)
    for plan in ("daily", "block", "daily"):
        world.set_company(MINE, plan=plan)
        world.jobs()
        heard(world, S)
        world.check()
    assert world.pools(MINE) == 120
    world.live(30 * DAY_MS - 1)
    heard(world, S)
    assert world.pools(MINE) == 120
    for plan, days in (("daily", 119), ("block", 119), ("daily", 119)):
        world.set_company(MINE, plan=plan)
        world.live(1)
        heard(world, S)
        world.check()
        assert world.pools(MINE) == days
    world.live(DAY_MS)
    heard(world, S)
    assert world.pools(MINE) == 118
