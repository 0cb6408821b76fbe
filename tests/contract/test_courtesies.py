"""Giving days to a device or to all of a company, at the expense of somebody above."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from tests.contract.credit_tree import LOW_ADMIN, MID_ADMIN, MID_BILLING, CreditTree
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = "1100000001"


@pytest.fixture
def tree(world: World) -> CreditTree:
    return CreditTree(world)


@pytest.mark.parametrize("waits", ["registered", "unpaid", "active", "grace"])
def test_days_are_given_whatever_the_device_waits_for(tree: CreditTree, waits: str) -> None:
    world = tree.world
    world.grant(tree.mid, 4)
    if waits in ("active", "grace"):
        world.grant(tree.low, 1)
    world.register(S, tree.low, activate="later" if waits == "registered" else "on_contact")
    world.join(S)
    world.heartbeat(S)
    if waits == "grace":
        world.live(30 * DAY_MS)
        world.live(2 * DAY_MS)
        assert world.service(S) == ("active", "grace")
    begun = world.row(S).period_start or world.now_ms
    before = world.prepaid(S)
    given = world.do("credits.give", person=2, serial=S, days=10, note="storm")
    assert (given["devices"], given["days"], given["payer_company_id"]) == (1, 10, tree.mid)
    assert world.prepaid(S) == before + 10
    assert world.service(S) == ("active", "paid")
    row = world.row(S)
    assert (row.period_start, row.grace_until) == (begun, None)
    assert world.pools(tree.mid) == 110
    newest = world.ledger(serial=S)[0]
    assert (newest["kind"], newest["payer_company_id"]) == ("courtesy", tree.mid)
    world.live(world.row(S).period_end - world.now_ms)
    world.check()


def test_days_for_a_whole_company_are_given_from_above_or_not_at_all(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.top, 1)
    for n in range(5):
        world.register(f"machine-{n}", tree.low, activate="later")
    given: dict[str, Any] = {"company_id": tree.low, "days": 6}
    # A company gives nothing to itself, and neither does a neighbour.
    assert world.ask("credits.give", person=3, **given) == "forbidden"
    assert world.ask("credits.give", person=4, **given) == "not_found"
    assert world.ask("credits.give", person=2, **given) == "credits_insufficient"
    assert world.do("credits.give", **given, payer_company_id=tree.top)["days"] == 30
    assert {world.service(f"machine-{n}") for n in range(5)} == {("active", "paid")}
    assert [world.prepaid(f"machine-{n}") for n in range(5)] == [6] * 5
    assert world.ask("credits.give", **given) == "credits_insufficient"
    assert world.ask("credits.give", days=1) == "validation"
    assert (
        world.ask("credits.give", serial="machine-1", company_id=tree.low, days=1) == "validation"
    )
    assert world.ask("credits.give", company_id=tree.other, days=1) == "validation"
    world.check()


def test_a_gift_is_one_operation_and_not_counted_against_the_limit(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 2, free=True)
    world.grant(tree.mid, 2)
    world.set_company(tree.low, parent_limit=0, use_parent_credits=True)
    serials = [f"machine-{n}" for n in range(3)]
    for serial in serials:
        world.register(serial, tree.low, activate="later")
    given = world.do("credits.give", person=MID_BILLING, company_id=tree.low, days=25)
    rows = given["transfers"]
    assert {row["operation_id"] for row in rows} == {given["operation_id"]}
    # The free days go first: two devices got them, the second some of each.
    assert [(row["serial"], row["free"], row["days"]) for row in rows] == [
        (serials[0], True, 25),
        (serials[1], True, 25),
        (serials[2], True, 10),
        (serials[2], False, 15),
    ]
    assert {row["payer_company_id"] for row in rows} == {tree.mid}
    # Whoever is below learns who gave, as it is the company right above.
    (row,) = world.do("ledger.list", person=LOW_ADMIN, serial=serials[0])["items"]
    assert row["sentence"] == f"{serials[0]} was given free 25 days by Reseller."
    assert world.ask("devices.activate", person=LOW_ADMIN, serial=serials[0]) == "already_active"
    world.check()


def test_a_suspended_company_is_given_nothing(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 2)
    below = world.company("Branch", tree.low)
    world.register(S, tree.low, activate="later")
    world.register("1100000002", below, activate="later")
    world.do("companies.suspend", company_id=below, reason="late")
    refused: dict[str, Any] = {"person": MID_ADMIN, "days": 5}
    assert world.ask("credits.give", serial="1100000002", **refused) == "company_suspended"
    assert world.ask("credits.give", company_id=below, **refused) == "company_suspended"
    # Of a whole subtree the others get theirs.
    assert world.do("credits.give", company_id=tree.low, **refused)["devices"] == 1
    assert world.prepaid("1100000002") == 0
    assert world.service(S) == ("active", "paid")
    assert world.pools(tree.mid) == 55


def test_a_period_that_is_over_ends_before_the_next_is_given(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 4)
    world.register(S, tree.low, activate="later")
    world.do("credits.give", serial=S, days=2)
    world.live(2 * DAY_MS + 60_000, jobs=False)
    world.do("credits.give", serial=S, days=3)
    assert world.kinds(S) == [("courtesy", 2), ("serve", 2), ("courtesy", 3)]
    row = world.row(S)
    assert (row.period_start, row.period_end) == (world.now_ms, world.now_ms + 3 * DAY_MS)


@pytest.mark.parametrize("payer", ["top", "mid", "low", "other", "nobody"])
def test_who_pays_is_said_only_of_companies_above_in_which_one_may(
    tree: CreditTree, payer: str
) -> None:
    world = tree.world
    for one in (tree.top, tree.mid, tree.other, tree.low):
        world.grant(one, 2)
    world.register(S, tree.low, activate="later")
    given: dict[str, Any] = {
        "serial": S,
        "days": 7,
        "payer_company_id": getattr(tree, payer, "9999"),
    }
    answer = world.ask("credits.give", person=MID_ADMIN, **given)
    # The same answer whether there is such a company or not.
    assert answer == ("ok" if payer == "mid" else "forbidden")
    assert tree.pools() == [60, 53 if answer == "ok" else 60, 60, 60]


def test_what_nobody_wants_stays_off_until_somebody_does(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 1)
    world.register(S, tree.low, activate="later")
    world.do("devices.switch-off", serial=S)
    world.do("credits.give", serial=S, days=10)
    assert world.service(S) == ("off", "switched_off") and world.prepaid(S) == 10
    world.do("devices.switch-on", serial=S)
    assert world.service(S) == ("active", "paid")


def test_days_that_are_owed_are_part_of_the_gift(tree: CreditTree) -> None:
    """Under the plan `daily` the days served in grace are charged once somebody can pay."""
    world = tree.world
    world.grant(tree.mid, 1)
    world.set_company(tree.low, plan="daily")
    world.do("credits.grant", company_id=tree.low, days=1)
    world.register(S, tree.low)
    world.join(S)
    world.heartbeat(S)
    for _ in range(2):
        world.live(DAY_MS)
        world.heartbeat(S)
    assert world.service(S) == ("active", "grace")
    world.do("credits.give", serial=S, days=2)
    world.grant(tree.low, 1)
    world.heartbeat(S)
    world.live(2 * DAY_MS)
    world.heartbeat(S)
    paid = [row["days"] for row in world.ledger(kind="day")]
    assert paid == [1, 1] and world.pools(tree.low) == 29
    world.check()
