"""Moving credits in the tree: who may, which lots, and who sees what of it."""

from typing import Any

import pytest

from gateway.domain.refusals import Refused
from tests.contract.credit_tree import CreditTree, day, lots, notices
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = "1100000001"


@pytest.fixture
def tree(world: World) -> CreditTree:
    return CreditTree(world)


def test_days_keep_their_lots_and_the_soonest_go_first(tree: CreditTree) -> None:
    world = tree.world
    world.do("credits.grant", company_id=tree.top, days=20, expires_on=day(world, 40))
    world.do("credits.grant", company_id=tree.top, days=50, free=True)
    world.do("credits.grant", company_id=tree.top, days=50)
    moved = world.do("credits.move", source=tree.top, target=tree.low, days=80, note="spring")
    assert (moved["days"], moved["credits"], len(moved["transfers"])) == (80, 2, 3)
    assert lots(world, tree.low) == [
        (day(world, 40), False, 20),
        (None, True, 50),
        (None, False, 10),
    ]
    assert lots(world, tree.top) == [(None, False, 40)]
    # Both ends see the rows, and a child sees little of who is far above.
    seen = world.do("ledger.list", person=3, kind="move")["items"]
    assert len(seen) == 3 and {row["from_account"] for row in seen} == {"above"}
    assert all("a company above" in row["sentence"] for row in seen)
    assert len(world.do("ledger.list", kind="move")["items"]) == 3
    world.check()


@pytest.mark.parametrize(
    ("person", "source", "target", "code"),
    [
        (2, "mid", "low", "ok"),
        (5, "mid", "low", "ok"),  # billing
        (2, "low", "mid", "ok"),
        (3, "low", "mid", "ok"),  # one's own, to the company right above
        (3, "low", "top", "not_found"),
        (3, "mid", "low", "not_found"),  # nobody helps himself
        (2, "top", "mid", "not_found"),
        (4, "mid", "other", "not_found"),
        (2, "mid", "other", "not_found"),
        (1, "mid", "other", "ok"),
        (1, "low", "other", "ok"),
    ],
)
def test_who_may_move_what(
    tree: CreditTree, person: int, source: str, target: str, code: str
) -> None:
    world = tree.world
    for one in (tree.top, tree.mid, tree.low, tree.other):
        world.grant(one, 5)
    before = tree.pools()
    ends = {"source": getattr(tree, source), "target": getattr(tree, target)}
    assert world.ask("credits.move", person=person, **ends, credits=2) == code
    changed = {
        name: now - then
        for name, now, then in zip(
            ("top", "mid", "other", "low"), tree.pools(), before, strict=True
        )
        if now != then
    }
    assert changed == ({source: -60, target: 60} if code == "ok" else {})
    world.check()


def test_beside_one_another_both_see_their_half(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.low, 3)
    world.do("credits.move", source=tree.low, target=tree.other, credits=3)
    assert tree.pools() == [0, 0, 90, 0]
    for person, ends in ((3, "low"), (4, "other")):
        (row,) = world.do("ledger.list", person=person, kind="move")["items"]
        assert row["company_id"] == getattr(tree, ends)
    assert notices(world, tree.low) == ["credits_moved_up"]
    world.check()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"target": "{mid}"}, "target"),
        ({"target": "{elsewhere}"}, "target"),
        ({"credits": 1, "days": 30}, "credits"),
        ({"credits": None}, "credits"),
    ],
)
def test_what_is_no_move(tree: CreditTree, given: dict[str, Any], field: str) -> None:
    world = tree.world
    names = {"mid": tree.mid, "elsewhere": world.company("Elsewhere")}
    world.grant(tree.mid, 5)
    words: dict[str, Any] = {"source": tree.mid, "target": tree.low, "credits": 1} | given
    asked: dict[str, Any] = {
        k: v.format(**names) if isinstance(v, str) else v for k, v in words.items()
    }
    with pytest.raises(Refused) as refused:
        world.write(world.work("credits.move", **asked))
    assert (refused.value.code.value, refused.value.field) == ("validation", field)
    assert world.ask("credits.move", source=tree.mid, target=tree.low, days=151) == (
        "credits_insufficient"
    )
    assert world.pools(tree.mid) == 150


def test_what_a_child_redeemed_only_its_own_people_move_up(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.other, 2)
    code = world.do("credit-codes.create", person=4, company_id=tree.other, credits=2)["code"]
    world.do("credit-codes.redeem", person=3, code=code, company_id=tree.low)
    world.grant(tree.low, 1)
    up: dict[str, Any] = {"source": tree.low, "target": tree.mid}
    assert world.ask("credits.move", person=2, **up, days=31) == "credits_insufficient"
    assert world.ask("credits.move", person=2, **up, days=30) == "ok"
    assert world.ask("credits.move", person=3, **up, days=60) == "ok"
    assert (world.pools(tree.low), world.pools(tree.mid)) == (0, 90)
    assert notices(world, tree.low) == ["credits_moved_up"]  # of the first alone
    world.check()


def test_a_move_pays_for_what_waited(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.top, 1)
    world.register(S, tree.low)
    world.join(S)
    world.heartbeat(S)
    assert world.service(S) == ("unpaid", "no_credit")
    world.do("credits.move", source=tree.top, target=tree.low, credits=1)
    world.jobs()
    assert world.service(S) == ("active", "paid")
    world.check()


def test_what_a_child_is_told_names_nobody_beyond_its_parent(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.low, 6)
    for target, known in ((tree.mid, True), (tree.top, False), (tree.other, False)):
        world.do("credits.move", source=tree.low, target=target, credits=1, note="rent")
        told = world.do("notices.list", person=3, company_id=tree.low)["items"][0]
        assert told["detail"] == {"days": 30, "note": "rent"} | ({"to": target} if known else {})
    # Whoever does it himself needs not be told.
    world.do("credits.move", person=3, source=tree.low, target=tree.mid, credits=1)
    assert notices(world, tree.low) == ["credits_moved_up"] * 3


@pytest.mark.parametrize("field", ["source", "target"])
@pytest.mark.parametrize("company", ["elsewhere", "9999", "x", "", "-1"])
def test_which_company_is_not_there_is_said(tree: CreditTree, field: str, company: str) -> None:
    """And the same of one that is somebody else's."""
    world = tree.world
    world.grant(tree.mid, 2)
    named = world.company("Elsewhere") if company == "elsewhere" else company
    ends = {"source": tree.mid, "target": tree.low} | {field: named}
    with pytest.raises(Refused) as refused:
        world.do("credits.move", person=2, **ends, days=1)
    assert (refused.value.code.value, refused.value.field) == ("not_found", field)
    assert world.pools(tree.mid) == 60


def test_a_closed_company_gets_nothing_and_a_suspended_one_does(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 3)
    given: dict[str, Any] = {"source": tree.mid, "target": tree.low, "credits": 1}
    world.do("companies.suspend", company_id=tree.low, reason="late")
    assert world.ask("credits.move", **given) == "ok"
    world.do("companies.close", company_id=tree.low)
    assert world.pools(tree.mid) == 90
    assert world.ask("credits.move", **given) == "company_closed"
    assert world.ask("credits.give", company_id=tree.low, days=1) == "company_closed"
    assert world.ask("credit-codes.create", company_id=tree.low, days=1) == "company_closed"
    assert world.ask("credit-requests.create", company_id=tree.low, days=1) == "company_closed"
    assert world.pools(tree.mid) == 90
