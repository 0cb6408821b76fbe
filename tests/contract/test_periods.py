"""Periods on a moved clock: extension, grace, outages, forfeits, waking up."""

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, instant_text
from gateway.storage.schema import outage
from tests.contract.world import BEGIN_MS, World

pytestmark = pytest.mark.either_engine

S = "1100000001"
T = "1100000002"
PERIOD_MS = 30 * DAY_MS
ON_TIME_MS = PERIOD_MS + SECOND_MS


@pytest.fixture
def acme(world: World) -> str:
    """A company with two credits and a served device; grace of three days."""
    acme = world.company("Acme")
    world.grant(acme, 2)
    world.register(S, acme)
    world.heartbeat(S)
    assert world.service(S) == ("active", "paid")
    assert world.kinds(S) == [("activate", 30)]
    return acme


def until(world: World, serial: str = S) -> int:
    """How many ms after the beginning the service is paid for."""
    end = world.row(serial).period_end
    assert end is not None and world.device(serial)["service"]["paid_until"] == instant_text(end)
    return int(end) - BEGIN_MS


def test_the_job_extends_without_a_hole(world: World, acme: str) -> None:
    world.live(ON_TIME_MS)
    assert world.kinds(S) == [("activate", 30), ("serve", 30), ("extend", 30)]
    assert world.row(S).period_start == BEGIN_MS + PERIOD_MS
    assert until(world) == 2 * PERIOD_MS
    assert world.pools(acme) == 0 and world.prepaid(S) == 30


def test_a_heartbeat_extends_without_waiting_for_the_job(world: World, acme: str) -> None:
    world.live(ON_TIME_MS, jobs=False)
    assert world.heartbeat(S).stored == 1
    assert world.kinds(S)[-1] == ("extend", 30)
    assert until(world) == 2 * PERIOD_MS
    row = world.ledger(serial=S)[0]
    assert row["sentence"] == (
        "1100000001 was extended by 1 credit, paid by Acme, "
        "because its period ended and auto extend is on."
    )


@pytest.mark.parametrize(("late_ms", "hole_ms"), [(HOUR_MS, 0), (HOUR_MS + 1, HOUR_MS + 1)])
def test_an_extension_is_seamless_for_an_hour_and_never_later(
    world: World, acme: str, late_ms: int, hole_ms: int
) -> None:
    world.live(PERIOD_MS + late_ms, jobs=False)
    world.heartbeat(S)
    assert world.row(S).period_start == BEGIN_MS + PERIOD_MS + hole_ms
    assert world.kinds(S)[-1] == (("activate" if hole_ms else "extend"), 30)


def test_grace_serves_in_full_and_payment_begins_where_it_began(world: World, acme: str) -> None:
    world.live(PERIOD_MS)
    world.heartbeat(S)
    world.live(ON_TIME_MS)
    assert world.service(S) == ("active", "grace") and world.pools(acme) == 0
    assert world.heartbeat(S).stored == 1
    world.live(DAY_MS)
    world.heartbeat(S)
    world.grant(acme, 1)
    world.live(SECOND_MS)
    assert world.service(S) == ("active", "paid")
    assert until(world) == 3 * PERIOD_MS
    assert world.prepaid(S) == 30


def test_after_grace_the_time_served_in_it_is_paid_first(world: World, acme: str) -> None:
    world.live(PERIOD_MS)
    world.heartbeat(S)
    world.live(PERIOD_MS)
    assert world.service(S) == ("active", "grace")
    world.live(2 * DAY_MS)
    world.heartbeat(S)
    world.live(DAY_MS)
    assert world.service(S) == ("unpaid", "no_credit")
    assert world.heartbeat(S).unserved == 1
    world.live(20 * DAY_MS)
    world.heartbeat(S)
    world.grant(acme, 1)
    world.jobs()
    # Three days of grace are owed; the twenty days without service are not.
    assert until(world) == world.now_ms - BEGIN_MS + 27 * DAY_MS
    assert world.device(S)["service"]["days_left"] == 27


def test_no_grace_before_the_first_paid_period(world: World) -> None:
    acme = world.company("Acme")
    world.register(S, acme)
    assert world.heartbeat(S).unserved == 1
    assert world.service(S) == ("unpaid", "no_credit")


def test_a_payment_not_longer_than_the_grace_served_is_refused(world: World) -> None:
    acme = world.company("Acme", grace_days=30)
    world.grant(acme, 1)
    world.register(S, acme)
    world.heartbeat(S)
    world.live(PERIOD_MS)
    world.live(PERIOD_MS)
    assert world.service(S) == ("off", "unheard")
    world.grant(acme, 5)
    world.jobs()
    assert world.ask("devices.activate", serial=S, credits=1) == "payment_too_short"
    assert world.ask("devices.activate", serial=S, credits=2) == "ok"
    assert until(world) == 3 * PERIOD_MS


def test_a_router_in_a_drawer_costs_nothing_and_comes_back_at_once(world: World, acme: str) -> None:
    world.live(ON_TIME_MS)  # heard on its first day: extended once
    world.live(PERIOD_MS)  # not heard since: not again
    assert world.service(S) == ("off", "unheard")
    world.grant(acme, 3)
    world.live(90 * DAY_MS)
    assert world.pools(acme) == 90 and world.service(S) == ("off", "unheard")
    assert world.heartbeat(S).stored == 1
    assert world.service(S) == ("active", "paid")
    assert world.row(S).period_start == world.now_ms
    assert world.pools(acme) == 60


def test_extend_unheard_is_for_those_who_want_it(world: World, acme: str) -> None:
    world.set_company(acme, extend_unheard=True)
    world.grant(acme, 1)
    world.live(ON_TIME_MS)
    world.live(PERIOD_MS)
    assert world.service(S) == ("active", "paid")


def test_sixty_five_days_of_outage_cost_nothing(world: World, acme: str) -> None:
    world.grant(acme, 10)
    before = world.pools(acme)
    world.live(10 * DAY_MS)
    world.outage(65 * DAY_MS)
    assert world.pools(acme) == before
    assert world.service(S) == ("off", "unheard")
    world.heartbeat(S)
    assert world.pools(acme) == before - 30
    assert world.row(S).period_start == world.now_ms
    assert world.kinds(S) == [("activate", 30), ("serve", 30), ("activate", 30)]


def test_grace_begins_at_the_next_heartbeat_when_the_end_was_missed(
    world: World, acme: str
) -> None:
    world.do("devices.extend", serial=S)
    world.live(50 * DAY_MS)
    world.heartbeat(S)
    world.outage(15 * DAY_MS)
    assert world.service(S) == ("off", "unheard")
    assert world.heartbeat(S).stored == 1
    assert world.service(S) == ("active", "grace")
    assert world.row(S).grace_until == world.now_ms + 3 * DAY_MS
    world.live(4 * DAY_MS)
    world.heartbeat(S)
    # There is one grace for one period's end, however long nobody pays.
    assert world.service(S) == ("unpaid", "no_credit")


def test_only_a_server_that_was_down_makes_an_outage(world: World) -> None:
    def outages() -> list[tuple[int, int]]:
        rows = world.read(lambda tx: tx.all(select(outage.c.started_at, outage.c.ended_at)))
        return [(row.started_at, row.ended_at) for row in rows]

    world.live(40 * DAY_MS)  # a test moved the clock of the running server
    world.live(MINUTE_MS)
    assert outages() == []
    before = world.now_ms
    world.outage(MINUTE_MS + 1)
    assert outages() == [(before, world.now_ms)]


def test_a_clock_set_back_after_the_end_charges_once_and_leaves_no_hole(
    world: World, acme: str
) -> None:
    world.do("devices.change", serial=S, auto_extend=False)
    world.live(ON_TIME_MS)
    assert world.service(S) == ("off", "not_activated")
    world.now_ms -= 30 * SECOND_MS
    world.do("devices.change", serial=S, auto_extend=True)
    assert world.heartbeat(S).stored == 1
    assert until(world) == 2 * PERIOD_MS and world.prepaid(S) == 30


def test_an_outage_in_grace_is_not_paid_for(world: World, acme: str) -> None:
    world.live(PERIOD_MS)
    world.heartbeat(S)
    world.live(PERIOD_MS)
    world.live(DAY_MS)
    world.outage(DAY_MS)
    world.heartbeat(S)
    assert world.service(S) == ("active", "grace")
    world.grant(acme, 1)
    world.jobs()
    assert until(world) == 3 * PERIOD_MS + DAY_MS


def test_unregistering_after_twelve_and_a_half_days_forfeits_seventeen(
    world: World, acme: str
) -> None:
    device_id = world.row(S).id
    world.live(12 * DAY_MS + 12 * HOUR_MS)
    ended = world.do("devices.unregister", serial=S)
    assert ended == {"serial": S, "days_forfeited": 17, "days_returned": 0, "days_used": 13}
    assert world.balance(f"prepaid:{device_id}") == 0
    assert world.kinds(S) == [("activate", 30), ("serve", 13), ("forfeit", 17)]
    assert world.pools(acme) == 30


def test_forfeited_days_stay_free_or_paid_and_whose_they_were(world: World) -> None:
    above = world.company("Above")
    acme = world.company("Acme", above, use_parent_credits=True)
    world.grant(acme, 1, free=True)
    world.grant(above, 1)
    world.register(S, acme, activate=True)
    world.do("devices.extend", serial=S)
    world.heartbeat(S)
    world.live(40 * DAY_MS)
    world.do("devices.unregister", serial=S)
    rows = [
        (row["kind"], row["days"], row["free"], row["payer_company_id"])
        for row in reversed(world.ledger(serial=S))
    ]
    assert rows == [
        ("activate", 30, True, acme),
        ("extend", 30, False, above),
        ("serve", 30, True, acme),
        ("serve", 10, False, above),
        ("forfeit", 20, False, above),
    ]


def test_a_device_wakes_from_the_desk_for_a_new_credit(world: World, acme: str) -> None:
    world.join(S)
    kept = world.login(S)
    assert kept is not None
    device_id = world.row(S).id
    world.live(HOUR_MS)
    world.do("devices.unregister", serial=S)
    assert world.login(S) is None
    world.live(20 * DAY_MS)
    world.register(S, acme)
    assert world.login(S) == kept and world.row(S).id == device_id
    assert world.service(S) == ("off", "not_activated") and world.pools(acme) == 30
    assert world.heartbeat(S).stored == 1
    assert world.service(S) == ("active", "paid") and world.pools(acme) == 0


def test_a_device_that_wakes_paid_is_asked_for_a_full_sample(world: World, acme: str) -> None:
    """What it sent while nobody paid was receipted and not kept: a delta on that misses values."""
    world.join(S)
    world.heartbeat(S)
    assert not world.row(S).need_full
    world.do("devices.unregister", serial=S)
    world.register(S, acme, activate=True)
    assert world.row(S).need_full


def test_what_woke_and_reported_on_the_same_day_was_heard(world: World, acme: str) -> None:
    world.join(S)
    world.do("devices.unregister", serial=S)
    world.register(S, acme, activate=True)
    world.heartbeat(S)
    ended = world.do("devices.unregister", serial=S)
    assert (ended["days_returned"], ended["days_forfeited"]) == (0, 30)


def test_a_device_never_heard_gives_everything_back_to_its_lots(world: World) -> None:
    acme = world.company("Acme")
    world.do("credits.grant", company_id=acme, days=20, expires_on="2027-02-01", free=True)
    world.do("credits.grant", company_id=acme, days=45)
    world.register(S, acme, activate=True)
    world.register(T, acme, activate="on_contact")
    assert world.heartbeat(T).stored == 1
    assert world.pools(acme) == 5
    world.live(DAY_MS)
    assert world.do("devices.unregister", serial=S)["days_returned"] == 30
    assert world.balance(f"pool:{acme}:2027-02-01:free:given") == 20
    assert world.balance(f"pool:{acme}:never:paid:given") == 15


def test_what_expired_meanwhile_goes_to_expired(world: World) -> None:
    acme = world.company("Acme")
    world.do("credits.grant", company_id=acme, days=20, expires_on="2027-01-20")
    world.do("credits.grant", company_id=acme, days=10)
    world.register(S, acme, activate=True)
    world.live(20 * DAY_MS)
    world.do("devices.unregister", serial=S)
    back = [(row["days"], row["to_account"]) for row in world.ledger(kind="unused")]
    assert sorted(back) == [(10, f"pool:{acme}:never:paid:given"), (20, "expired")]
    assert world.pools(acme) == 10


def test_what_is_given_back_is_spent_on_whoever_waits(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 1)
    world.register(S, acme, activate=True)
    world.register(T, acme)
    world.heartbeat(T)
    assert world.service(T) == ("unpaid", "no_credit")
    world.do("devices.unregister", serial=S)
    world.jobs()
    assert world.service(T) == ("active", "paid")


def test_lots_expire_after_their_last_day_and_are_not_spent_later(world: World) -> None:
    acme = world.company("Acme")
    world.do("credits.grant", company_id=acme, days=30, expires_on="2027-01-16")
    world.register(S, acme)
    last_ms = 2 * DAY_MS - 1
    world.live(last_ms)
    assert world.pools(acme) == 30
    world.now_ms += 1
    # The job has not come by: the paying query itself knows that the day is over.
    assert world.heartbeat(S).unserved == 1
    world.jobs()
    assert world.pools(acme) == 0
    assert [row["kind"] for row in world.ledger()] == ["expire", "grant"]


def test_several_credits_at_once_are_one_period(world: World, acme: str) -> None:
    world.grant(acme, 10)
    world.register(T, acme, activate="later")
    assert world.heartbeat(T).unserved == 1
    world.do("devices.activate", serial=T, credits=3)
    assert until(world, T) == 3 * PERIOD_MS and world.prepaid(T) == 90
    world.do("devices.extend", serial=T, credits=2)
    assert until(world, T) == 5 * PERIOD_MS and world.prepaid(T) == 150


def test_what_was_extended_by_hand_after_its_end_is_seamless(world: World, acme: str) -> None:
    world.live(PERIOD_MS + MINUTE_MS, jobs=False)
    assert world.ask("devices.extend", serial=S) == "not_active"
    world.do("devices.activate", serial=S)
    assert until(world) == 2 * PERIOD_MS
    assert world.kinds(S) == [("activate", 30), ("serve", 30), ("extend", 30)]


def test_switching_auto_extend_off_does_not_forget_grace(world: World, acme: str) -> None:
    world.live(PERIOD_MS)
    world.heartbeat(S)
    world.live(PERIOD_MS)
    world.live(2 * DAY_MS)
    world.heartbeat(S)
    world.do("devices.change", serial=S, auto_extend=False)
    assert world.service(S) == ("off", "not_activated")
    world.live(9 * DAY_MS)
    world.grant(acme, 1)
    world.do("devices.activate", serial=S)
    assert until(world) == world.now_ms - BEGIN_MS + 28 * DAY_MS
