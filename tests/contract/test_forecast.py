"""Forecasts, and the warnings made of them."""

from typing import Any

from gateway.domain.forecasts import Burning, look_ahead, rate_of, warned_at
from gateway.domain.instants import DAY_MS, day_of, day_text
from gateway.domain.ledger import Lot
from gateway.jobs import warnings
from tests.contract.world import BEGIN_MS, World

S = [f"11000000{n:02d}" for n in range(20)]
TODAY = day_of(BEGIN_MS)
BOSS = 2


def forecast(world: World, company: str, **more: Any) -> Any:
    return world.do("companies.forecast", company_id=company, **more)


def notices(world: World, company: str) -> list[Any]:
    items = world.do("notices.list", company_id=company)["items"]
    return [one for one in items if one["kind"] in ("credits_run_dry", "lot_expires")]


def warn(world: World) -> None:
    """As the schedule does it."""
    while (seen := world.read(warnings.look)) is not None:
        assert world.write(lambda tx: warnings.keep(tx, seen))


def day(n: int) -> str:
    return day_text(TODAY + n)


# lots as (days, expires in, free); devices as (from, how many)
LOOKS: list[tuple[list[Any], list[Any], int | None, list[Any]]] = [
    # nothing takes anything
    ([(30, None, False)], [], None, []),
    # one device, one credit: the next cannot be paid 30 days later
    ([(30, None, False)], [(0, 1)], 30, []),
    ([(90, None, False)], [(5, 1)], 95, []),
    # what expires before it is needed is not counted
    ([(90, 10, False)], [(20, 1)], 20, [(10, 90)]),
    ([(90, 10, False), (30, None, False)], [(5, 1)], 65, [(10, 60)]),
    # the soonest expiry is spent first, so nothing is lost
    ([(30, 40, False), (30, 20, True)], [(0, 1)], 60, []),
    # less than a credit pays for none
    ([(29, None, False)], [(3, 1)], 3, []),
    # two need their credits on the same day, and there is one
    ([(30, None, False)], [(3, 2)], 3, []),
]


def test_a_look_ahead_pays_as_the_ledger_does() -> None:
    for lots, devices, dry, wasted in LOOKS:
        held = [
            Lot(n, None if last is None else TODAY + last, free, redeemed=False, days=days)
            for n, (days, last, free) in enumerate(lots)
        ]
        found = look_ahead(held, [Burning(TODAY + d, n) for d, n in devices], TODAY)
        assert found.dry_day == (None if dry is None else TODAY + dry), (lots, devices)
        assert [(w.expires_day - TODAY, w.days) for w in found.wasted] == wasted


def test_daily_devices_take_what_they_took() -> None:
    lots = [Lot(1, None, free=False, redeemed=False, days=10)]
    # Heard on half of the days: ten days last twenty.
    found = look_ahead(lots, [Burning(TODAY, 1, 15, daily=True)], TODAY)
    assert found.dry_day == TODAY + 21
    assert dict(found.months)[202702] == 14
    assert rate_of([Burning(TODAY, 2, 15, daily=True), Burning(TODAY, 2)]) == 75


def test_the_nearest_step_is_told() -> None:
    steps = [(31, None), (30, 30), (8, 30), (7, 7), (4, 7), (3, 3), (2, 3), (1, 1), (0, 1)]
    assert [(left, warned_at(left, (30, 7, 3, 1))) for left, _ in steps] == steps


def test_credits_say_until_when_they_last(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 2)
    world.grant(acme, 1, expires_on=day(10))
    assert forecast(world, acme)["lasts_until"] is None
    world.register(S[0], acme, activate=True)
    world.heartbeat(S[0])
    found = forecast(world, acme)
    assert (found["lasts_until"], found["covered_by"], found["devices"]) == (day(89), None, 1)
    assert world.do("companies.credits", company_id=acme)["lasts_until"] == day(89)
    assert [month["credits"] for month in found["months"]][:4] == [0, 1, 1, 1]
    assert found["wasted"] == []
    world.grant(acme, 1, expires_on=day(20), free=True)
    lost = forecast(world, acme)["wasted"]
    assert lost == [{"expires_on": day(20), "free": True, "days": 30}]
    world.do("devices.change", serial=S[0], auto_extend=False)
    assert forecast(world, acme)["lasts_until"] is None


def test_a_child_whose_parent_pays_sees_nothing_of_it(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    world.grant(top, 2)
    world.one_person(BOSS, low, "administrator")
    world.register(S[0], low, activate=True)
    world.heartbeat(S[0])
    seen = forecast(world, low, person=BOSS)
    assert (seen["lasts_until"], seen["covered_by"], seen["days"]) == (None, "above", 0)
    assert "Top" not in str(seen)
    assert world.do("companies.credits", company_id=low, person=BOSS)["lasts_until"] is None
    assert world.ask("companies.forecast", company_id=top, person=BOSS) == "not_found"
    assert world.ask("notices.list", company_id=top, person=BOSS) == "not_found"
    # The one who pays sees the burn of those below.
    assert forecast(world, top)["lasts_until"] == day(59)


def test_people_are_warned_once_at_each_step(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 2)
    world.register(S[0], acme, activate=True)
    told: list[int] = []
    for n in range(60):
        world.heartbeat(S[0])
        warn(world)
        kinds = [one["detail"]["days_left"] for one in notices(world, acme)]
        if len(kinds) > len(told):
            told.append(n)
        world.live(DAY_MS)
    assert told == [30, 53, 57, 59]
    newest = notices(world, acme)[0]
    assert newest["kind"] == "credits_run_dry"
    assert newest["sentence"] == (
        f"At the present rate the credits run dry within a day, on {day(60)}."
    )
    # Anew after credits came.
    world.grant(acme, 1)
    warn(world)
    assert len(notices(world, acme)) == 5
    world.live(DAY_MS)
    warn(world)
    assert len(notices(world, acme)) == 5


def test_people_are_warned_of_lots_that_expire_unspent(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 2, expires_on=day(40))
    told: list[int] = []
    for n in range(42):
        warn(world)
        while len(told) < len(notices(world, acme)):
            told.append(n)
        world.live(DAY_MS)
    assert told == [10, 33, 39]
    first = notices(world, acme)[-1]
    assert first["kind"] == "lot_expires"
    assert first["sentence"] == (
        f"2 credits expire unused within 30 days: the last valid day is {day(40)}."
    )


def test_the_next_90_days_are_told_step_by_step(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 2)
    world.grant(acme, 1, expires_on=day(45), free=True)
    for serial in S[:2]:
        world.register(serial, acme, activate=True)
        world.heartbeat(serial)
    found = forecast(world, acme)
    # One credit is left, and two are due in 30 days.
    assert found["lasts_until"] == day(29)
    assert found["rate"] == 60
    steps = [(one["in_days"], one["days"], one["short"], one["left"]) for one in found["ahead"]]
    assert steps == [(30, 0, 0, 30), (60, 60, 60, 30), (90, 120, 120, 30)]
    assert found["ahead"][0]["until"] == day(29)
    assert found["balances"] == [30] * 90
    world.grant(acme, 1)
    found = forecast(world, acme)
    assert found["ahead"][2] == {
        "in_days": 90,
        "until": day(89),
        "days": 120,
        "credits": 4,
        "short": 60,
        "left": 0,
    }
    assert found["balances"] == [60] * 30 + [0] * 60
