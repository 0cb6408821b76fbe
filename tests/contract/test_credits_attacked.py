"""Attempts to lose, double or lengthen days, or to take what is somebody else's."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.operations import courtesies
from tests.contract.credit_tree import LOW_ADMIN, MID_ADMIN, CreditTree, day, lots, notices
from tests.contract.faulty_clock import Watched
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S, S2 = "1100000001", "1100000002"


@pytest.fixture
def tree(world: World) -> CreditTree:
    return CreditTree(world)


def redeem(tree: CreditTree, credits: int) -> None:
    """The customer bought credits elsewhere."""
    world = tree.world
    shop = world.company("Shop")
    world.grant(shop, credits)
    code = world.do("credit-codes.create", company_id=shop, credits=credits)["code"]
    world.do("credit-codes.redeem", person=LOW_ADMIN, code=code, company_id=tree.low)


def give(tree: CreditTree, days: int) -> str:
    """The reseller's gift for `S`; the transfer's id."""
    given = tree.world.do("credits.give", person=MID_ADMIN, serial=S, days=days)
    return str(given["transfers"][0]["id"])


def test_what_a_child_redeemed_goes_up_by_no_detour(tree: CreditTree) -> None:
    world = tree.world
    redeem(tree, 2)
    into_code: dict[str, Any] = {"person": MID_ADMIN, "company_id": tree.low, "days": 1}
    assert world.ask("credit-codes.create", **into_code) == "credits_insufficient"
    # Down they may go; there they are still not to be had from above.
    branch = world.do("companies.create", person=MID_ADMIN, name="Branch", parent_id=tree.low)["id"]
    down: dict[str, Any] = {"source": tree.low, "target": branch}
    assert world.ask("credits.move", person=MID_ADMIN, **down, days=40) == "ok"
    into_code["company_id"] = branch
    assert world.ask("credit-codes.create", **into_code) == "credits_insufficient"
    for target in (tree.low, tree.mid):
        up: dict[str, Any] = {"person": MID_ADMIN, "source": branch, "target": target}
        assert world.ask("credits.move", **up, days=1) == "credits_insufficient"
    # What its own people give to a company below is given.
    assert world.ask("credits.move", person=LOW_ADMIN, **down, days=20) == "ok"
    assert world.ask("credits.move", **up, days=21) == "credits_insufficient"
    assert world.ask("credits.move", **up, days=20) == "ok"
    assert world.pools(branch) == 40
    world.check()


def test_a_root_decides_about_what_it_redeemed(tree: CreditTree) -> None:
    """Nobody is above it who could take it."""
    world = tree.world
    shop = world.company("Shop")
    world.grant(tree.top, 1)
    code = world.do("credit-codes.create", company_id=tree.top, credits=1)["code"]
    world.do("credit-codes.redeem", code=code, company_id=shop)
    made = world.do("credit-codes.create", company_id=shop, days=30)
    assert made["days_left"] == 30 and notices(world, shop) == []


def test_who_makes_a_code_of_credits_below_is_told_there(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.low, 2)
    made: dict[str, Any] = {"company_id": tree.low, "days": 30, "comment": "fair"}
    world.do("credit-codes.create", person=LOW_ADMIN, **made)
    assert notices(world, tree.low) == []
    world.do("credit-codes.create", person=MID_ADMIN, **made)
    (told,) = world.do("notices.list", person=LOW_ADMIN, company_id=tree.low)["items"]
    assert told["sentence"] == (
        "1 credit were put into a credit code by the company above; note: fair."
    )


def test_codes_of_a_closed_company_can_be_read(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.low, 2)
    made = world.do("credit-codes.create", company_id=tree.low, days=30)
    world.do("companies.close", company_id=tree.low)
    (listed,) = world.do("credit-codes.list", person=MID_ADMIN, company=tree.low)["items"]
    assert listed["state"] == "deleted"
    assert world.ask("credit-codes.delete", code_id=made["id"]) == "company_closed"
    assert world.ask("credit-codes.list", person=LOW_ADMIN, company=tree.low) == "not_found"


def test_days_of_a_payer_that_was_closed_go_where_its_credits_went(tree: CreditTree) -> None:
    world = tree.world
    world.do("credits.grant", company_id=tree.mid, days=60, expires_on=day(world, 90))
    world.set_company(tree.low, use_parent_credits=True)
    world.register(S, tree.low, activate=True)
    world.register(S2, tree.low, activate="later")
    given: dict[str, Any] = {"person": MID_ADMIN, "serial": S2, "days": 5}
    gift = world.do("credits.give", **given)["transfers"][0]["id"]
    world.do("companies.close", company_id=tree.mid)
    assert world.ask("credits.reverse", transfer=gift) == "company_closed"
    assert world.do("devices.unregister", serial=S)["days_returned"] == 30
    assert lots(world, tree.top) == [(day(world, 90), False, 55)]
    world.check()
    world.do("companies.close", company_id=tree.top, devices="unregister")
    # Nobody is left who could get them.
    ended = world.do("devices.unregister", person=LOW_ADMIN, serial=S2)
    assert ended["days_returned"] == 0
    (row,) = world.do("ledger.list", person=LOW_ADMIN, serial=S2, kind="forfeit")["items"]
    assert row["days"] == 5
    world.check()


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("forget", "nothing_to_reverse"),
        ("leave", "nothing_to_reverse"),
        ("replace", "nothing_to_reverse"),
        ("suspend", "ok"),
        ("switch-off", "ok"),
    ],
)
def test_a_gift_is_taken_back_where_it_is_or_not_at_all(
    tree: CreditTree, how: str, answer: str
) -> None:
    world = tree.world
    world.grant(tree.mid, 2)
    world.register(S, tree.low, activate="later")
    gift = give(tree, 9)
    match how:
        case "forget" | "switch-off":
            world.do(f"devices.{how}", serial=S)
        case "leave":
            world.do("devices.move", serial=S, company_id=tree.mid, history="leave")
        case "suspend":
            world.do("companies.suspend", company_id=tree.low, reason="late")
        case "replace":
            world.do("devices.replace", broken=S, serial=S2)
    before = world.balance("prepaid:")
    back: dict[str, Any] = {"person": MID_ADMIN, "transfer": gift, "days": 2}
    assert world.ask("credits.reverse", **back) == answer
    assert world.balance("prepaid:") == before - (2 if answer == "ok" else 0)
    world.check()


def test_a_gift_of_a_lot_that_is_over_comes_back_to_nobody(tree: CreditTree) -> None:
    world = tree.world
    world.do("credits.grant", company_id=tree.mid, days=30, expires_on=day(world, 1))
    world.register(S, tree.low, activate="later")
    gift = give(tree, 9)
    world.live(3 * DAY_MS)
    assert world.do("credits.reverse", person=MID_ADMIN, transfer=gift)["days"] == 6
    assert world.ask("credit-codes.create", company_id=tree.mid, days=1) == "credits_insufficient"
    world.jobs()
    assert world.pools(tree.mid) == 0
    assert world.kinds(S) == [("courtesy", 9), ("reverse", 6), ("serve", 3)]
    world.check()


def test_a_gift_ends_in_a_year_that_can_be_said(tree: CreditTree) -> None:
    world = tree.world
    world.do("credits.grant", company_id=tree.mid, days=10_000_000)
    world.register(S, tree.low, activate="later")
    most = courtesies.AHEAD_DAYS_MAX
    for days, answer in ((10_000_000, "validation"), (most, "ok"), (1, "validation")):
        assert world.ask("credits.give", serial=S, days=days) == answer
    assert world.device(S)["service"]["days_left"] == most
    assert world.pools(tree.mid) == 10_000_000 - most
    world.check()


# ---- while the clock may be wrong


def test_a_code_loses_nothing_to_a_clock_that_may_be_wrong(world: World) -> None:
    watched = Watched(world)
    tree = CreditTree(world)
    watched.agree()
    world.do("credits.grant", company_id=tree.mid, days=30, expires_on=day(world, 1))
    world.grant(tree.mid, 1)
    code = world.do("credit-codes.create", company_id=tree.mid, days=60)["code"]
    asked: dict[str, Any] = {"person": LOW_ADMIN, "company_id": tree.low, "code": code}
    world.now_ms += 3 * DAY_MS
    watched.restart()
    with pytest.raises(Refused, match="part of this code") as refused:
        world.do("credit-codes.redeem", **asked)
    assert refused.value.code.value == "clock_in_doubt"
    world.now_ms -= 3 * DAY_MS
    watched.restart()
    assert world.do("credit-codes.redeem", **asked)["days"] == 60
    world.check()


def test_what_the_clock_does_not_decide_goes_on_while_it_is_in_doubt(world: World) -> None:
    watched = Watched(world)
    tree = CreditTree(world)
    watched.agree()
    world.grant(tree.mid, 9)
    world.register(S, tree.low, activate="later")
    gift = give(tree, 9)
    made = world.do("credit-codes.create", company_id=tree.mid, days=30)
    watched.step(DAY_MS)
    watched.look()
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("credits.give", "clock_in_doubt", {"serial": S, "days": 1}),
        ("credits.reverse", "clock_in_doubt", {"transfer": gift}),
        (
            "credit-codes.redeem",
            "clock_in_doubt",
            {"code": made["code"], "company_id": tree.low},
        ),
        ("credits.move", "ok", {"source": tree.mid, "target": tree.low, "days": 1}),
        ("credit-codes.delete", "ok", {"code_id": made["id"]}),
    ]
    for name, answer, given in asks:
        assert world.ask(name, **given) == answer, name
    world.check()
