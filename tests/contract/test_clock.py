"""A wrong clock takes no credits: what stops, what goes on, and how it ends."""

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, day_of, day_text
from gateway.operations.clock_state import caution_of
from gateway.storage.schema import audit, monitored_day, outage, taken_from_above
from tests.contract.faulty_clock import Watched
from tests.contract.world import World

S = "0000000001"


@pytest.fixture
def watched(world: World) -> Watched:
    return Watched(world)


@pytest.fixture
def acme(world: World) -> str:
    """A company with ten credits and one device that is served."""
    company_id = world.company("Acme")
    world.grant(company_id, 10)
    world.register(S, company_id)
    world.heartbeat(S)
    return company_id


def days(world: World) -> list[int]:
    return [row.day for row in world.read(lambda tx: tx.all(select(monitored_day)))]


def expiring(world: World, company_id: str, in_days: int) -> None:
    last = day_text(day_of(world.now_ms) + in_days)
    world.grant(company_id, 2, expires_on=last)


def accept(watched: Watched) -> None:
    watched.world.do("clock.accept")


@pytest.mark.parametrize("step_ms", [40 * DAY_MS, 61 * SECOND_MS, -61 * SECOND_MS, -40 * DAY_MS])
def test_a_step_stops_charges_and_serves_who_was_served(
    world: World, watched: Watched, acme: str, step_ms: int
) -> None:
    world.register("0000000002", acme)
    expiring(world, acme, 20)
    before, counted = len(world.ledger()), days(world)
    watched.step(step_ms)
    watched.look()
    assert "changed while it ran" in watched.guard.told().doubt
    world.jobs()
    outcome = world.heartbeat(S, 3)
    assert (outcome.stored, outcome.unserved, len(outcome.receipts)) == (3, 0, 1)
    # One that is not served yet is receipted, and charged later.
    outcome = world.heartbeat("0000000002")
    assert (outcome.stored, outcome.unserved, len(outcome.receipts)) == (0, 1, 1)
    assert world.service(S) == ("active", "paid")
    assert len(world.ledger()) == before and days(world) == counted


def test_by_hand_it_is_said(world: World, watched: Watched, acme: str) -> None:
    world.register("0000000002", acme, "later")
    watched.step(2 * HOUR_MS)
    for name, given in (
        ("devices.activate", {"serial": "0000000002"}),
        ("devices.extend", {"serial": S}),
        ("devices.unregister", {"serial": S}),
        ("devices.register", {"serial": "0000000003", "company_id": acme, "activate": True}),
    ):
        assert world.ask(name, **given) == "clock_in_doubt", name
    # Nothing that the clock decides about.
    assert world.ask("credits.grant", company_id=acme, credits=1) == "ok"
    assert world.ask("devices.register", serial="0000000003", company_id=acme) == "ok"
    assert world.ask("devices.show", serial=S) == "ok"
    assert world.prepaid(S) == 30


def test_it_ends_by_itself_a_minute_after_the_clocks_agree(
    world: World, watched: Watched, acme: str
) -> None:
    watched.step(40 * DAY_MS)
    watched.look()
    watched.step(-40 * DAY_MS)
    watched.look()
    watched.live(59 * SECOND_MS)
    assert watched.guard.told().doubt and world.ask("devices.extend", serial=S) == "clock_in_doubt"
    watched.live(SECOND_MS)
    assert not watched.guard.told().doubt and world.ask("devices.extend", serial=S) == "ok"


def test_a_minute_counts_only_without_another_fault(
    world: World, watched: Watched, acme: str
) -> None:
    for _ in range(2):
        watched.step(HOUR_MS)
        watched.look()
        watched.step(-HOUR_MS)
        watched.live(59 * SECOND_MS)
    assert watched.guard.told().doubt


def test_accepting_ends_it_at_once_and_is_kept_in_the_audit(
    world: World, watched: Watched, acme: str
) -> None:
    watched.step(40 * DAY_MS)
    assert world.ask("devices.extend", serial=S) == "clock_in_doubt"
    accept(watched)
    assert world.ask("devices.activate", serial=S) == "ok"
    watched.look()
    assert watched.guard.told() == ("", 0, "", 0)
    # What is so now counts as right, and the next step is noticed again.
    watched.live(HOUR_MS)
    assert world.ask("devices.extend", serial=S) == "ok"
    watched.step(-40 * DAY_MS)
    assert world.ask("devices.extend", serial=S) == "clock_in_doubt"
    accept(watched)
    verbs = world.read(lambda tx: [row.verb for row in tx.all(select(audit))])
    assert verbs.count("clock.accepted") == 2


def test_only_operators_accept_it(world: World, watched: Watched, acme: str) -> None:
    world.one_person(2, acme, "administrator")
    watched.step(HOUR_MS)
    assert world.ask("clock.accept", person=2) == "forbidden"
    assert world.ask("devices.extend", serial=S) == "clock_in_doubt"


def test_a_test_clock_moves_all_together_and_is_no_fault(
    world: World, watched: Watched, acme: str
) -> None:
    for ms in (DAY_MS, -3 * HOUR_MS, 20 * DAY_MS, 61 * SECOND_MS):
        watched.live(ms)
        assert not watched.guard.told().doubt


def test_the_database_host_s_clock_is_watched(world: World, watched: Watched, acme: str) -> None:
    watched.guard.host_wrong_ms = 61 * SECOND_MS
    watched.look()
    if world.engine == "sqlite":
        assert not watched.guard.told().doubt  # the host is this machine
        return
    assert "database host" in watched.guard.told().doubt
    assert world.ask("devices.extend", serial=S) == "clock_in_doubt"
    watched.guard.host_wrong_ms = 0
    watched.agree()
    assert world.ask("devices.extend", serial=S) == "ok"
    watched.guard.host_wrong_ms = -HOUR_MS
    assert world.ask("devices.extend", serial=S) == "clock_in_doubt"
    accept(watched)
    assert world.ask("devices.extend", serial=S) == "ok"
    watched.look()
    assert world.ask("devices.extend", serial=S) == "ok"


def test_a_doubt_is_no_outage_and_leaves_no_mark_of_a_wrong_time(
    world: World, watched: Watched, acme: str
) -> None:
    watched.step(40 * DAY_MS)
    watched.live(HOUR_MS)
    watched.step(-40 * DAY_MS)
    watched.agree()
    assert world.read(lambda tx: tx.all(select(outage))) == []
    watched.restart()
    assert not watched.guard.told().caution


def test_after_a_gap_lots_expire_only_when_the_clock_is_accepted(
    world: World, watched: Watched, acme: str
) -> None:
    expiring(world, acme, 1)
    held = world.pools(acme)
    world.now_ms += 37 * HOUR_MS + DAY_MS
    watched.restart()
    assert "no sign of life for 61 hours" in watched.guard.told().caution
    world.jobs()
    assert world.pools(acme) == held
    # Nobody can spend them meanwhile.
    assert world.do("companies.credits", company_id=acme)["days"] == held - 60
    watched.restart()  # does not end it
    world.jobs()
    assert world.pools(acme) == held
    accept(watched)
    watched.look()
    assert not watched.guard.told().caution
    world.jobs()
    assert world.pools(acme) == held - 60


def test_what_is_given_back_to_a_lot_waits_for_its_expiry_too(
    world: World, watched: Watched
) -> None:
    company_id = world.company("Acme")
    expiring(world, company_id, 1)
    world.register(S, company_id, True)
    world.now_ms += 3 * DAY_MS
    watched.restart()
    assert world.do("devices.unregister", serial=S)["days_returned"] == 30
    world.jobs()
    assert (
        world.pools(company_id) == 60
        and world.ask("devices.register", serial=S, company_id=company_id, activate=True)
        == "credits_insufficient"
    )
    accept(watched)
    world.jobs()
    assert world.pools(company_id) == 0


def test_or_after_a_day_of_running(world: World, watched: Watched, acme: str) -> None:
    expiring(world, acme, 1)
    held = world.pools(acme)
    world.now_ms += 3 * DAY_MS
    watched.restart()
    for _ in range(23):
        watched.live(HOUR_MS)
    world.now_ms += 20 * HOUR_MS  # it does not run meanwhile
    watched.restart()
    watched.live(59 * MINUTE_MS)
    assert watched.guard.told().caution and world.pools(acme) == held
    watched.live(MINUTE_MS)
    watched.live(MINUTE_MS)
    assert not watched.guard.told().caution and world.pools(acme) == held - 60


@pytest.mark.parametrize(
    ("gap_ms", "wary"),
    [(35 * HOUR_MS, False), (37 * HOUR_MS, True), (-30 * SECOND_MS, False), (-HOUR_MS, True)],
)
def test_what_makes_a_start_uncertain(
    world: World, watched: Watched, acme: str, gap_ms: int, wary: bool
) -> None:
    world.now_ms += gap_ms
    watched.restart()
    assert bool(watched.guard.told().caution) is wary
    accept(watched)


def test_a_first_start_is_not_uncertain(world: World, watched: Watched) -> None:
    assert world.read(caution_of) is None


def test_a_first_charge_does_not_wait(world: World, watched: Watched) -> None:
    company_id = world.company("Acme")
    world.register(S, company_id)
    world.now_ms += 3 * DAY_MS
    watched.restart()
    world.grant(company_id, 1)
    world.heartbeat(S)
    assert world.service(S) == ("active", "paid")


def test_while_uncertain_a_device_is_charged_once(
    world: World, watched: Watched, acme: str
) -> None:
    world.now_ms += 400 * DAY_MS
    watched.restart()
    world.jobs()
    world.heartbeat(S)
    assert world.kinds(S) == [("activate", 30), ("serve", 30), ("activate", 30)]
    # A device that was never charged since is charged once, too.
    world.register("0000000002", acme)
    world.heartbeat("0000000002")
    world.now_ms += 60 * DAY_MS
    watched.restart()
    world.jobs()
    assert world.heartbeat(S).stored == 1 and world.service(S) == ("active", "paid")
    assert world.heartbeat("0000000002").stored == 1
    assert len(world.kinds(S)) == 3 and len(world.kinds("0000000002")) == 1
    # By hand it is a person who says so.
    assert world.ask("devices.activate", serial="0000000002") == "ok"
    accept(watched)
    watched.look()
    world.jobs()
    world.heartbeat(S)
    assert world.kinds(S)[3:] == [("serve", 30), ("activate", 30)]


@pytest.mark.parametrize("back_ms", [3 * HOUR_MS, DAY_MS, 20 * DAY_MS, 45 * DAY_MS])
def test_a_clock_set_back_charges_nothing_twice(
    world: World, watched: Watched, back_ms: int
) -> None:
    top = world.company("Top")
    child = world.company("Child", top, use_parent_credits=True, parent_limit=3)
    world.grant(top, 20)
    world.register(S, child)
    for _ in range(4):
        world.heartbeat(S)
        watched.live(12 * HOUR_MS)
    live_through = 31 * DAY_MS
    world.heartbeat(S)
    watched.live(live_through)
    world.heartbeat(S)
    spent, counted = world.pools(top), days(world)
    assert spent == 540
    watched.step(-back_ms)
    accept(watched)  # somebody thinks that it is right
    watched.look()
    world.jobs()
    for _ in range(round(back_ms / (12 * HOUR_MS)) + 1):
        world.heartbeat(S)
        watched.live(12 * HOUR_MS)
    assert world.pools(top) == spent
    assert len(days(world)) == len(set(days(world))) and set(counted) <= set(days(world))
    taken = world.read(lambda tx: tx.all(select(taken_from_above)))
    assert sum(row.days for row in taken) == 60


def test_seconds_of_difference_are_nothing(world: World, watched: Watched, acme: str) -> None:
    watched.step(59 * SECOND_MS)
    watched.look()
    assert not watched.guard.told().doubt and world.ask("devices.extend", serial=S) == "ok"


def test_credits_that_come_while_in_doubt_are_used_when_it_ends(
    world: World, watched: Watched
) -> None:
    company_id = world.company("Acme")
    world.register(S, company_id)
    world.heartbeat(S)
    assert world.service(S) == ("unpaid", "no_credit")
    watched.step(HOUR_MS)
    world.grant(company_id, 1)
    world.jobs()
    assert world.service(S) == ("unpaid", "no_credit")
    watched.step(-HOUR_MS)
    watched.agree()
    world.jobs()
    assert world.service(S) == ("active", "paid")
