"""Who pays: the climb over four levels, limits, suspension, and who is served first."""

import pytest
from sqlalchemy import update

from gateway.domain.instants import DAY_MS, HOUR_MS, SECOND_MS
from gateway.jobs import periods
from gateway.operations.queueing import queue_recheck
from gateway.storage.schema import person
from gateway.storage.transaction import Transaction
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = "1100000001"
PERIOD_MS = 30 * DAY_MS


class Four:
    """Root → reseller → installer → customer, with flags as given from the customer up."""

    def __init__(self, world: World, *flags: bool, limit: int | None = None) -> None:
        customer, installer, reseller = flags
        self.world = world
        self.root = world.company("Root")
        self.reseller = world.company("Reseller", self.root, use_parent_credits=reseller)
        self.installer = world.company("Installer", self.reseller, use_parent_credits=installer)
        self.customer = world.company(
            "Customer", self.installer, use_parent_credits=customer, parent_limit=limit
        )
        world.register(S, self.customer, activate="later")

    def name(self, company_id: str) -> str:
        for name in ("root", "reseller", "installer", "customer"):
            if getattr(self, name) == company_id:
                return name
        raise AssertionError(company_id)

    def outcome(self) -> str:
        """Who paid, or why nobody did."""
        code = self.world.ask("devices.activate", serial=S)
        if code != "ok":
            return code
        row = self.world.ledger(kind="activate")[0]
        payer = self.name(row["payer_company_id"])
        asked = ["customer", "installer", "reseller", "root"]
        assert [self.name(one) for one in row["payer_path"]] == asked[: asked.index(payer) + 1]
        assert row["from_account"].startswith(f"pool:{row['payer_company_id']}:")
        assert f"paid by {payer.capitalize()}" in row["sentence"]
        return payer


CLIMB = [
    # flags customer, installer, reseller   credits at                       outcome
    ((True, True, True), {"root": 1}, "root"),
    ((True, True, False), {"root": 1}, "credits_insufficient"),
    ((True, False, True), {"root": 1}, "credits_insufficient"),
    ((False, True, True), {"root": 1}, "credits_insufficient"),
    ((True, True, True), {"root": 1, "reseller": 1}, "reseller"),
    ((True, False, False), {"root": 1, "installer": 1}, "installer"),
    ((False, False, False), {"root": 1, "customer": 1}, "customer"),
    ((True, True, True), {}, "credits_insufficient"),
]


@pytest.mark.parametrize(("flags", "credits", "outcome"), CLIMB)
def test_the_climb(
    world: World, flags: tuple[bool, bool, bool], credits: dict[str, int], outcome: str
) -> None:
    four = Four(world, *flags)
    for name, amount in credits.items():
        world.grant(getattr(four, name), amount)
    assert four.outcome() == outcome


def test_a_charge_is_paid_whole_by_one_company_from_several_lots(world: World) -> None:
    four = Four(world, True, True, True)
    for company_id, days in ((four.customer, 29), (four.installer, 12)):
        world.do("credits.grant", company_id=company_id, days=days)
    world.do("credits.grant", company_id=four.reseller, days=10, expires_on="2027-03-01")
    world.do("credits.grant", company_id=four.reseller, days=9, expires_on="2027-02-01")
    world.do("credits.grant", company_id=four.reseller, days=20, free=True)
    world.do("credits.grant", company_id=four.reseller, days=20)
    assert four.outcome() == "reseller"
    spent = [(row["days"], row["from_account"]) for row in reversed(world.ledger(serial=S))]
    pool = f"pool:{four.reseller}"
    assert spent == [
        (9, f"{pool}:2027-02-01:paid:given"),
        (10, f"{pool}:2027-03-01:paid:given"),
        (11, f"{pool}:never:free:given"),
    ]
    assert (world.pools(four.customer), world.pools(four.installer)) == (29, 12)


@pytest.mark.parametrize("stopped", ["customer", "installer", "reseller", "root"])
def test_a_suspended_company_stops_all_below_until_one_click(world: World, stopped: str) -> None:
    four = Four(world, True, True, True)
    world.grant(four.root, 2)
    company_id = getattr(four, stopped)
    world.do("companies.suspend", company_id=company_id, reason="not paid")
    assert four.outcome() == "company_suspended"
    assert world.ask("devices.extend", serial=S) == "not_active"
    world.do("companies.resume", company_id=company_id)
    assert four.outcome() == "root"


def test_suspended_devices_live_out_what_is_paid_and_start_nothing_new(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 3)
    world.register(S, acme)
    world.heartbeat(S)
    world.do("companies.suspend", company_id=acme, reason="not paid")
    world.jobs()
    world.live(29 * DAY_MS)
    assert world.service(S) == ("active", "paid") and world.heartbeat(S).stored == 1
    assert world.ask("devices.extend", serial=S) == "company_suspended"
    world.live(DAY_MS + SECOND_MS)
    assert world.service(S) == ("off", "suspended")
    assert world.heartbeat(S).unserved == 1 and world.pools(acme) == 60
    world.live(10 * DAY_MS)
    world.heartbeat(S)
    world.do("companies.resume", company_id=acme)
    world.jobs()
    assert world.service(S) == ("active", "paid")
    assert world.row(S).period_start == world.now_ms


def test_a_suspension_in_grace_neither_costs_nor_loses_the_rest_of_it(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 1)
    world.register(S, acme)
    world.heartbeat(S)
    world.live(PERIOD_MS)
    world.live(DAY_MS)
    world.heartbeat(S)
    world.do("companies.suspend", company_id=acme, reason="a mistake")
    world.jobs()
    assert world.service(S) == ("off", "suspended")
    world.live(10 * DAY_MS)
    world.heartbeat(S)
    world.do("companies.resume", company_id=acme)
    world.jobs()
    assert world.service(S) == ("active", "grace")
    assert world.row(S).grace_until == world.now_ms + 2 * DAY_MS
    world.grant(acme, 1)
    world.jobs()
    assert world.row(S).period_start == world.now_ms - DAY_MS


def test_the_limit_counts_for_the_company_and_all_below_and_begins_anew_each_month(
    world: World,
) -> None:
    four = Four(world, True, True, True)
    world.set_company(four.installer, parent_limit=1)
    world.grant(four.root, 10)
    assert four.outcome() == "root"
    for number, company_id in ((2, four.customer), (3, four.installer)):
        serial = f"110000000{number}"
        world.register(serial, company_id)
        world.heartbeat(serial)
        assert world.service(serial) == ("unpaid", "limit")
    # The reseller stands above the limit.
    world.register("1100000004", four.reseller, activate=True)
    world.jobs()
    world.live(17 * DAY_MS)  # the first of the next month, UTC
    world.heartbeat("1100000003")
    world.heartbeat("1100000002")
    assert world.service("1100000003") == ("active", "paid")
    assert world.service("1100000002") == ("unpaid", "limit")
    world.set_company(four.installer, parent_limit=None)
    world.jobs()
    assert world.service("1100000002") == ("active", "paid")


def test_a_limit_on_each_level_must_hold(world: World) -> None:
    four = Four(world, True, True, True, limit=5)
    world.set_company(four.reseller, parent_limit=0)
    world.grant(four.root, 10)
    assert four.outcome() == "parent_limit_reached"
    world.grant(four.reseller, 10)
    assert four.outcome() == "reseller"
    assert world.ask("devices.extend", serial=S, credits=5) == "parent_limit_reached"
    assert world.ask("devices.extend", serial=S, credits=4) == "ok"


@pytest.mark.parametrize("made_possible", ["grant", "flag", "move", "limit", "resume"])
def test_whatever_makes_a_payment_possible_is_followed_by_it(
    world: World, made_possible: str
) -> None:
    top = world.company("Top")
    world.grant(top, 5)
    other = world.company("Other")
    limit = 0 if made_possible == "limit" else None
    middle = world.company(
        "Middle", top, use_parent_credits=made_possible in ("limit", "resume"), parent_limit=limit
    )
    low = world.company("Low", middle, use_parent_credits=True)
    if made_possible == "resume":
        world.do("companies.suspend", company_id=middle, reason="late")
    if made_possible == "move":
        world.do("companies.move", company_id=low, parent_id=other, use_parent_credits=True)
    world.register(S, low)
    assert world.heartbeat(S).unserved == 1
    world.live(SECOND_MS)
    assert world.service(S)[0] != "active"
    match made_possible:
        case "grant":
            world.grant(low, 1)
        case "flag":
            world.set_company(middle, use_parent_credits=True)
        case "limit":
            world.set_company(middle, parent_limit=1)
        case "resume":
            world.do("companies.resume", company_id=middle)
        case "move":
            world.do("companies.move", company_id=low, parent_id=top, use_parent_credits=True)
    world.live(SECOND_MS)
    assert world.service(S) == ("active", "paid")


def test_when_credits_do_not_reach_those_that_are_there_come_first(world: World) -> None:
    acme = world.company("Acme", grace_days=0)
    world.grant(acme, 4)
    # The name says in which order they should be paid for.
    ends = {"order-4": 0, "order-2": 2, "order-1": 1, "order-3": 3}
    for serial, hour in sorted(ends.items(), key=lambda item: item[1]):
        world.now_ms += HOUR_MS
        world.register(serial, acme)
        world.heartbeat(serial)
        assert world.service(serial) == ("active", "paid"), hour
    world.live(PERIOD_MS)
    for serial in ends:
        world.heartbeat(serial)
        assert world.service(serial) == ("unpaid", "no_credit")
    world.live(2 * DAY_MS)
    for serial in ("order-1", "order-2", "order-3"):
        world.heartbeat(serial)
    for credits in (2, 1, 1):
        paid = [serial for serial in sorted(ends) if world.service(serial)[0] == "active"]
        assert paid == [f"order-{number}" for number in range(1, len(paid) + 1)]
        world.grant(acme, credits)
        world.jobs()
    assert all(world.service(serial) == ("active", "paid") for serial in ends)


def test_a_recheck_that_is_queued_again_meanwhile_is_done_again(world: World) -> None:
    acme = world.company("Acme")
    world.write(lambda tx: queue_recheck(tx, int(acme)))
    found = world.read(periods.next_recheck)
    assert found is not None
    world.now_ms += 1
    world.write(lambda tx: queue_recheck(tx, int(acme)))
    world.write(lambda tx: periods.recheck_done(tx, *found))
    assert world.read(periods.next_recheck) == (int(acme), world.now_ms)


def test_twenty_callers_for_the_last_five_credits(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 5)
    serials = [f"racer-{number:02}" for number in range(20)]
    for serial in serials:
        world.register(serial, acme, activate="later")
    before = world.store.commits
    outcomes = world.together([world.work("devices.activate", serial=one) for one in serials])
    refused = [one for one in outcomes if isinstance(one, Exception)]
    assert len(outcomes) - len(refused) == 5
    assert {str(getattr(one, "code", one)) for one in refused} == {"credits_insufficient"}
    assert world.pools(acme) == 0
    assert len(world.ledger(kind="activate")) == 5
    assert world.store.commits - before < 20  # they shared commits


def test_whoever_pays_decides(world: World) -> None:
    top = world.company("Top")
    below = world.company("Below", top)
    world.one_person(2, below, "administrator")
    world.write(_no_operator)
    for change in ({"use_parent_credits": True}, {"parent_limit": 9}, {"grace_days": 30}):
        code = world.ask("companies.change", person=2, company_id=below, **change)
        assert code == "forbidden", change
    assert world.ask("companies.suspend", person=2, company_id=below, reason="x") == "forbidden"
    assert world.ask("companies.change", person=2, company_id=below, name="Mine") == "ok"
    assert world.ask("companies.change", person=2, company_id=top, name="Yours") == "not_found"
    assert world.ask("credits.grant", person=2, company_id=below, credits=1) == "forbidden"
    sub = world.do("companies.create", person=2, name="Sub", parent_id=below)["id"]
    assert world.ask("companies.change", person=2, company_id=sub, parent_limit=1) == "ok"
    code = world.ask("companies.move", person=2, company_id=sub, parent_id=top)
    assert code == "not_found"
    assert world.ask("companies.move", person=1, company_id=top, parent_id=sub) == (
        "would_make_a_cycle"
    )
    moved = world.do("companies.move", company_id=sub, parent_id=top)
    assert moved["use_parent_credits"] is False


def _no_operator(tx: Transaction) -> None:
    tx.run(update(person).where(person.c.id == 2).values(operator=False))
