"""Taking back grants, moves and given days, as far as they are still there."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from tests.contract.credit_tree import (
    LOW_ADMIN,
    MID_ADMIN,
    MID_BILLING,
    OTHER_ADMIN,
    CreditTree,
    day,
    notices,
)
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = "1100000001"


@pytest.fixture
def tree(world: World) -> CreditTree:
    return CreditTree(world)


def test_a_grant_and_a_move_are_taken_back_as_far_as_they_are_there(tree: CreditTree) -> None:
    world = tree.world
    granted = world.do("credits.grant", company_id=tree.top, days=100)["id"]
    (move,) = world.do("credits.move", source=tree.top, target=tree.low, days=60)["transfers"]
    world.register(S, tree.low, activate=True)
    assert world.ask("credits.reverse", person=3, transfer=move["id"]) == "forbidden"
    assert world.ask("credits.reverse", person=4, transfer=move["id"]) == "not_found"
    back = world.do("credits.reverse", transfer=move["id"], days=10)
    assert (back["kind"], back["days"]) == ("reverse", 10)
    assert world.ask("credits.reverse", transfer=move["id"], days=21) == "nothing_to_reverse"
    assert world.do("credits.reverse", transfer=move["id"])["days"] == 20
    assert world.ask("credits.reverse", transfer=move["id"]) == "nothing_to_reverse"
    world.grant(tree.low, 5)
    # Never more than the transfer had, though there are days again.
    assert world.do("credits.reverse", transfer=move["id"])["days"] == 30
    assert world.ask("credits.reverse", transfer=move["id"]) == "nothing_to_reverse"
    assert tree.pools() == [100, 0, 0, 120]
    assert world.ask("credits.reverse", person=2, transfer=granted) == "not_found"
    assert world.do("credits.reverse", transfer=granted)["days"] == 100
    assert notices(world, tree.low) == ["credits_taken_back"] * 3
    paid = world.ledger(serial=S)[0]["id"]
    assert world.ask("credits.reverse", transfer=paid) == "nothing_to_reverse"
    assert world.ask("credits.reverse", transfer="nobody") == "not_found"
    world.check()


def test_nobody_takes_from_above_what_was_given_up(tree: CreditTree) -> None:
    """The days of a half of the way are in the pool above, among days that are its own."""
    world = tree.world
    for one in (tree.top, tree.mid, tree.low):
        world.grant(one, 9)
    world.do("credits.move", person=LOW_ADMIN, source=tree.low, target=tree.mid, credits=2)
    world.do("credits.move", source=tree.low, target=tree.other, credits=3)
    rows = world.do("ledger.list", person=LOW_ADMIN, kind="move")["items"]
    assert len(rows) == 2 and {row["company_id"] for row in rows} == {tree.low}
    before = tree.pools()
    for row in rows:
        for person in (LOW_ADMIN, OTHER_ADMIN):
            assert world.ask("credits.reverse", person=person, transfer=row["id"]) in (
                "forbidden",
                "not_found",
            )
    assert tree.pools() == before
    # Those above may: it is theirs, and they decide.
    up = next(row for row in rows if row["days"] == 60)
    assert world.ask("credits.reverse", person=MID_BILLING, transfer=up["id"]) == "ok"
    assert notices(world, tree.mid) == []
    assert tree.pools() == [before[0], before[1] - 60, before[2], before[3] + 60]


def test_an_expired_lot_gives_nothing_back(tree: CreditTree) -> None:
    world = tree.world
    world.do("credits.grant", company_id=tree.mid, days=30, expires_on=day(world, 1))
    (move,) = world.do("credits.move", source=tree.mid, target=tree.low, days=30)["transfers"]
    world.live(2 * DAY_MS, jobs=False)
    assert world.ask("credits.reverse", transfer=move["id"]) == "nothing_to_reverse"


# ---- given days


def given_days(tree: CreditTree, days: int) -> str:
    """The id of the transfer of days that the reseller gave."""
    given = tree.world.do("credits.give", person=MID_ADMIN, serial=S, days=days)
    (row,) = given["transfers"]
    assert row["operation_id"] == given["operation_id"]
    return str(row["id"])


def taken(tree: CreditTree, id_: str, **more: object) -> int:
    return int(tree.world.do("credits.reverse", person=MID_BILLING, transfer=id_, **more)["days"])


@pytest.fixture
def shop(tree: CreditTree) -> CreditTree:
    """A customer's device without service, and a reseller with credits."""
    tree.world.grant(tree.mid, 4)
    tree.world.register(S, tree.low, activate="later")
    return tree


def test_a_begun_day_is_used_the_first_as_well(shop: CreditTree) -> None:
    world = shop.world
    gift = given_days(shop, 10)
    assert world.ask("credits.reverse", person=LOW_ADMIN, transfer=gift) == "forbidden"
    assert world.ask("credits.reverse", person=OTHER_ADMIN, transfer=gift) == "not_found"
    assert world.ask("credits.reverse", transfer=gift, days=10) == "nothing_to_reverse"
    world.live(2 * DAY_MS + 1)
    assert taken(shop, gift, days=3, note="by mistake") == 3
    assert world.prepaid(S) == 7 and world.device(S)["service"]["days_left"] == 4
    assert taken(shop, gift) == 4
    assert world.ask("credits.reverse", transfer=gift) == "nothing_to_reverse"
    assert (world.prepaid(S), world.pools(shop.mid)) == (3, 117)
    told = world.do("notices.list", person=LOW_ADMIN, company_id=shop.low)["items"]
    assert [one["kind"] for one in told] == ["credits_taken_back"] * 2
    assert told[1]["sentence"] == f"3 days were taken back from {S}; note: by mistake."
    newest = world.ledger(serial=S)[0]
    assert (newest["kind"], newest["sentence"]) == ("reverse", f"4 days were taken back from {S}.")
    world.live(DAY_MS)
    assert world.kinds(S)[-1] == ("serve", 3)
    world.check()


@pytest.mark.parametrize(("first", "after", "left"), [(True, 4, 6), (False, 4, 10), (False, 34, 6)])
def test_days_are_used_in_the_order_of_payment(
    shop: CreditTree, first: bool, after: int, left: int
) -> None:
    world = shop.world
    world.grant(shop.low, 1, free=True)
    ways = [("extend" if first else "activate"), None]
    gift = ""
    for way in reversed(ways) if first else ways:
        if way is None:
            gift = given_days(shop, 10)
        else:
            world.do(f"devices.{way}", serial=S)
    world.live(after * DAY_MS)
    assert taken(shop, gift) == left
    assert world.prepaid(S) == 40 - left
    world.live(50 * DAY_MS)
    served = [(row["free"], row["days"]) for row in world.ledger(serial=S, kind="serve")]
    rest = [] if left == 10 else [(False, 10 - left)]
    assert sorted(served) == sorted([(True, 30), *rest])
    world.check()


def test_what_is_given_back_later_is_what_was_left(shop: CreditTree) -> None:
    world = shop.world
    gift = given_days(shop, 10)
    world.grant(shop.low, 1)
    world.do("devices.extend", serial=S)
    assert taken(shop, gift, days=4) == 4
    # It was never heard: all that is still there goes back to whoever paid.
    assert world.do("devices.unregister", serial=S)["days_returned"] == 36
    assert shop.pools() == [0, 120, 0, 30]
    assert world.ask("credits.reverse", transfer=gift) == "nothing_to_reverse"
    world.check()


def test_days_that_went_to_somebody_else_are_theirs(shop: CreditTree) -> None:
    world = shop.world
    gift = given_days(shop, 10)
    world.do("devices.move", serial=S, company_id=shop.other, history="keep")
    assert world.ask("credits.reverse", person=MID_ADMIN, transfer=gift) == "nothing_to_reverse"
    assert world.prepaid(S) == 10


def test_a_statement_counts_what_was_taken_back(shop: CreditTree) -> None:
    world = shop.world
    gift = given_days(shop, 10)
    assert taken(shop, gift, days=4) == 4
    january: dict[str, Any] = {"from": "2027-01"}
    above = world.do("companies.statement", company_id=shop.mid, group_by="child", **january)
    figures = above["total"]
    assert (figures["courtesy"], figures["given_back"], figures["closing"]) == (10, 4, 114)
    below = world.do("companies.statement", company_id=shop.low, **january)
    assert (below["total"]["courtesy_received"], below["total"]["prepaid"]) == (6, 6)
    assert [one["days_courtesy"] for one in below["devices"]] == [6]


def test_two_answers_at_once(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 9)
    asked = world.do("credit-requests.create", person=3, company_id=tree.low, credits=2)["id"]
    (move,) = world.do("credits.move", source=tree.mid, target=tree.low, days=30)["transfers"]
    works = [world.work("credit-requests.accept", request_id=asked) for _ in range(4)]
    works += [world.work("credits.reverse", transfer=move["id"], days=20) for _ in range(4)]

    found = world.together(works)
    codes = sorted(one.code.value if isinstance(one, Refused) else "ok" for one in found)
    assert codes == ["nothing_to_reverse"] * 3 + ["ok"] * 2 + ["request_answered"] * 3
    assert (world.pools(tree.mid), world.pools(tree.low)) == (270 - 60 - 10, 70)
    world.check()
