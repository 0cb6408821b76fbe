"""Who hears of limits, grace and silent devices; who gets a trial; what switching on costs."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.operations.trial import TRIAL_DAYS_KEY
from gateway.storage.installation_facts import put
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S, T = "1100000001", "1100000002"


def joined(world: World, company: str, serial: str = S, **more: Any) -> None:
    world.register(serial, company, **more)
    world.join(serial)


def told(world: World, company: str) -> list[tuple[str, str]]:
    """Kinds and subjects of what the company's people were told, oldest first."""
    items = world.do("notices.list", company_id=company)["items"]
    return [(one["kind"], one["subject"]) for one in reversed(items)]


def chain(world: World, **more: Any) -> tuple[str, str, str]:
    top = world.company("Top")
    middle = world.company("Middle", top, use_parent_credits=True)
    low = world.company("Low", middle, use_parent_credits=True, **more)
    return top, middle, low


# ---- notices


def test_those_above_hear_at_80_and_100_per_cent_of_a_limit(world: World) -> None:
    top, middle, low = chain(world, parent_limit=5)
    world.grant(top, 50)
    for number in range(7):
        joined(world, low, f"limited-{number}", activate="later")
        asked = world.ask("devices.activate", serial=f"limited-{number}")
        assert asked == ("ok" if number < 5 else "parent_limit_reached")
        steps = max(0, min(number, 4) - 2)
        assert told(world, top) == told(world, middle) == [("parent_limit_used", low)] * steps
    (full, most) = world.do("notices.list", company_id=top)["items"]
    assert (most["detail"]["percent"], full["detail"]["percent"]) == (80, 100)
    assert full["sentence"].startswith("100 % of the monthly limit") and "Low" in full["sentence"]
    assert told(world, low) == []
    world.live(31 * DAY_MS)  # another month
    world.ask("devices.activate", serial="limited-5")
    world.check()


def test_a_limit_used_by_days_is_told_once(world: World) -> None:
    top, _, low = chain(world, parent_limit=1, plan="daily")
    world.grant(top, 5)
    serials = [f"limited-{number}" for number in range(10)]
    for serial in serials:
        joined(world, low, serial)
    for _ in range(4):
        world.deliver(*[(one, "hb", world.router(one).message()) for one in serials])
        world.live(DAY_MS)
    items = world.do("notices.list", company_id=top)["items"]
    steps = [one["detail"]["percent"] for one in items if one["kind"] == "parent_limit_used"]
    assert steps == [100, 80]
    assert world.pools(top) == 120
    world.check()


@pytest.mark.parametrize("plan", ["block", "daily"])
def test_whoever_could_pay_hears_that_grace_began(world: World, plan: str) -> None:
    top, middle, low = chain(world, plan=plan)
    other = world.company("Other", top)
    world.do("credits.grant", company_id=top, days=30 if plan == "block" else 1)
    joined(world, low)
    world.heartbeat(S)
    world.live(30 * DAY_MS if plan == "block" else DAY_MS)
    world.heartbeat(S)
    assert world.service(S) == ("active", "grace")
    for company in (top, middle, low):
        assert told(world, company) == [("grace_began", S)]
    assert told(world, other) == []
    world.live(DAY_MS)
    world.heartbeat(S)
    assert len(told(world, top)) == 1
    world.check()


def test_a_device_that_fell_silent_is_told_once(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 9)
    joined(world, acme)
    world.heartbeat(S)
    world.live(30 * DAY_MS)
    world.heartbeat(S)  # at the period's end; then nothing
    world.live(61 * DAY_MS)
    assert world.service(S) == ("off", "unheard")
    world.live(DAY_MS)
    assert told(world, acme) == [("device_unheard", S)]
    world.check()


# ---- trial days


@pytest.fixture
def trying(world: World) -> World:
    world.write(lambda tx: put(tx, TRIAL_DAYS_KEY, "5"))
    assert world.company("Acme") == "1"
    return world


def test_a_device_heard_before_gets_no_trial(world: World) -> None:
    assert world.company("Acme") == "1"
    joined(world, "1")
    assert world.heartbeat(S).unserved == 1
    world.write(lambda tx: put(tx, TRIAL_DAYS_KEY, "5"))
    world.live(HOUR_MS)
    assert world.heartbeat(S).unserved == 1
    world.do("devices.unregister", serial=S)
    world.register(S, "1")
    assert world.heartbeat(S).unserved == 1
    world.do("devices.forget", serial=S)
    joined(world, "1")
    assert world.heartbeat(S).unserved == 1 and world.kinds(S) == []
    world.check()


def test_days_that_were_given_back_unused_leave_the_trial(trying: World) -> None:
    world = trying
    world.grant("1", 1)
    world.register(S, "1", activate=True)
    world.do("devices.unregister", serial=S)
    joined(world, "1")
    world.heartbeat(S)
    assert world.kinds(S)[-2:] == [("trial", 5), ("activate", 5)] and world.pools("1") == 30
    world.check()


def test_a_device_registered_for_later_gets_no_trial(trying: World) -> None:
    world = trying
    joined(world, "1", activate="later")
    assert world.heartbeat(S).unserved == 1
    assert world.service(S) == ("off", "not_activated") and world.kinds(S) == []
    world.check()


def test_what_comes_back_of_a_trial_ends_with_it(trying: World) -> None:
    world = trying
    world.set_company("1", unregister="refund")
    joined(world, "1")
    world.live(12 * HOUR_MS)
    world.heartbeat(S)
    end = world.device(S)["service"]["paid_until"]
    world.live(DAY_MS)
    assert world.do("devices.unregister", serial=S)["days_returned"] == 4
    (lot,) = world.do("companies.credits", company_id="1")["pools"]
    assert lot["free"] and lot["expires_on"] < end[:10]
    world.live(4 * DAY_MS)
    assert world.pools("1") == 0
    world.check()


def test_the_one_in_place_of_another_gets_no_trial_of_its_own(trying: World) -> None:
    world = trying
    joined(world, "1")
    world.heartbeat(S)
    world.do("devices.replace", broken=S, serial=T)
    world.join(T)
    world.live(6 * DAY_MS)
    assert world.heartbeat(T).unserved == 0  # grace
    assert [row["serial"] for row in world.ledger(kind="trial")] == [S]
    joined(world, "1", S)
    assert world.heartbeat(S).unserved == 1
    world.check()


# ---- switching off and on


def test_switching_on_costs_nothing_until_the_next_contact(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 9)
    joined(world, acme)
    world.heartbeat(S)
    world.live(29 * DAY_MS)
    world.heartbeat(S)
    world.do("devices.switch-off", serial=S)
    world.live(DAY_MS + MINUTE_MS)
    assert world.prepaid(S) == 0 and world.pools(acme) == 240
    world.do("devices.switch-on", serial=S)
    assert world.service(S) == ("off", "unheard") and world.pools(acme) == 240
    world.heartbeat(S)
    assert world.service(S) == ("active", "paid") and world.pools(acme) == 210
    world.check()


def test_without_auto_extend_it_stays_off_when_switched_on(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 9)
    joined(world, acme)
    world.heartbeat(S)
    world.do("devices.change", serial=S, auto_extend=False)
    world.do("devices.switch-off", serial=S)
    world.live(31 * DAY_MS)
    world.do("devices.switch-on", serial=S)
    assert world.service(S) == ("off", "not_activated")
    assert world.heartbeat(S).unserved == 1 and world.pools(acme) == 240
    world.check()


def test_a_suspension_is_what_is_shown_where_no_period_runs(world: World) -> None:
    top = world.company("Top")
    acme = world.company("Acme", top)
    world.grant(acme, 1)
    joined(world, acme)
    world.heartbeat(S)
    world.do("companies.suspend", company_id=acme, reason="bill")
    world.jobs()
    assert world.service(S) == ("active", "paid")
    world.do("devices.switch-off", serial=S)
    assert world.service(S) == ("off", "switched_off")
    world.live(31 * DAY_MS)
    assert world.service(S) == ("off", "suspended")
    world.do("devices.switch-on", serial=S)
    world.do("devices.switch-off", serial=S)
    assert world.service(S) == ("off", "suspended")
    world.do("companies.resume", company_id=acme)
    world.jobs()
    assert world.service(S) == ("off", "switched_off")
    world.check()


def test_grace_goes_on_after_switching_off_and_on(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 1)
    joined(world, acme)
    world.heartbeat(S)
    world.live(30 * DAY_MS)
    assert world.service(S) == ("active", "grace")
    world.live(DAY_MS)
    for _ in range(2):
        world.do("devices.switch-off", serial=S)
        assert world.service(S) == ("off", "switched_off")
        world.live(5 * DAY_MS)
        world.do("devices.switch-on", serial=S)
        assert world.service(S) == ("active", "grace")
    world.heartbeat(S)
    world.live(2 * DAY_MS)
    assert world.service(S) == ("unpaid", "no_credit")
    world.do("devices.switch-off", serial=S)
    world.do("devices.switch-on", serial=S)
    world.heartbeat(S)
    assert world.service(S) == ("unpaid", "no_credit")
    world.check()


def test_a_device_that_is_off_is_slow_and_told_so(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 1)
    joined(world, acme)
    world.heartbeat(S)
    world.do("devices.switch-off", serial=S)
    assert world.row(S).sending_s == 60
    world.do("devices.switch-on", serial=S)
    assert world.service(S) == ("active", "paid")
    world.check()


def test_by_the_day_nothing_is_paid_ahead(world: World) -> None:
    acme = world.company("Acme", plan="daily")
    world.grant(acme, 3)
    joined(world, acme, activate="later")
    assert world.ask("devices.activate", serial=S, credits=2) == "validation"
    world.do("companies.suspend", company_id=acme, reason="bill")
    assert world.ask("devices.activate", serial=S) == "company_suspended"
    world.do("companies.resume", company_id=acme)
    assert world.ask("devices.activate", serial=S) == "ok"
    assert world.pools(acme) == 90
    world.check()
