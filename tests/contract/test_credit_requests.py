"""A company asks the one above it for credits; one answer ends the request."""

from collections import Counter
from typing import Any

import pytest

from gateway.domain.refusals import Refused
from tests.contract.credit_tree import (
    LOW_ADMIN,
    MID_ADMIN,
    MID_BILLING,
    OTHER_ADMIN,
    CreditTree,
    notices,
)
from tests.contract.world import World


@pytest.fixture
def tree(world: World) -> CreditTree:
    return CreditTree(world)


def test_a_request_is_answered_once(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 5)
    asked = world.do("credit-requests.create", person=3, company_id=tree.low, credits=2, note="May")
    assert (asked["state"], asked["parent_id"], asked["days"]) == ("open", tree.mid, 60)
    assert world.ask("credit-requests.create", person=3, company_id=tree.low, credits=1) == (
        "request_open"
    )
    assert notices(world, tree.mid) == ["credits_requested"]
    assert world.ask("credit-requests.accept", person=3, request_id=asked["id"]) == "forbidden"
    assert world.ask("credit-requests.accept", person=4, request_id=asked["id"]) == "not_found"
    done = world.do("credit-requests.accept", person=5, request_id=asked["id"], days=45)
    assert (done["request"]["state"], done["moved"]["days"]) == ("accepted", 45)
    assert world.ask("credit-requests.accept", person=2, request_id=asked["id"]) == (
        "request_answered"
    )
    assert world.ask("credit-requests.refuse", person=2, request_id=asked["id"]) == (
        "request_answered"
    )
    assert (world.pools(tree.mid), world.pools(tree.low)) == (105, 45)
    assert notices(world, tree.low) == ["request_answered"]
    again = world.do("credit-requests.create", person=3, company_id=tree.low, credits=2)
    told = world.do("credit-requests.refuse", person=2, request_id=again["id"], answer="pay first")
    assert (told["state"], told["answer"]) == ("refused", "pay first")
    listed = world.do("credit-requests.list", person=3)["items"]
    assert [one["state"] for one in listed] == ["refused", "accepted"]
    assert world.do("credit-requests.list", person=4)["items"] == []
    world.check()


def test_what_cannot_be_given_stays_open(tree: CreditTree) -> None:
    world = tree.world
    asked = world.do("credit-requests.create", person=3, company_id=tree.low, credits=2)
    assert world.ask("credit-requests.accept", person=2, request_id=asked["id"]) == (
        "credits_insufficient"
    )
    assert world.do("credit-requests.list", state="open")["items"][0]["id"] == asked["id"]
    assert world.ask("credit-requests.create", company_id=tree.top, credits=1) == "validation"


def test_a_request_does_not_outlive_the_parent_that_was_asked(tree: CreditTree) -> None:
    world = tree.world
    for one in (tree.mid, tree.other):
        world.grant(one, 5)
    asked = world.do("credit-requests.create", person=LOW_ADMIN, company_id=tree.low, credits=2)
    world.do("companies.move", company_id=tree.low, parent_id=tree.other)
    for verb in ("accept", "refuse"):
        answer = world.ask(f"credit-requests.{verb}", person=MID_ADMIN, request_id=asked["id"])
        assert answer == "request_answered"
    again = world.do("credit-requests.create", person=LOW_ADMIN, company_id=tree.low, credits=1)
    assert again["parent_id"] == tree.other
    (mine,) = world.do("credit-requests.list", person=MID_ADMIN)["items"]
    assert (mine["state"], mine["parent_id"]) == ("withdrawn", tree.mid)
    done = world.do("credit-requests.accept", person=OTHER_ADMIN, request_id=again["id"])
    assert done["moved"]["source"] == tree.other
    assert tree.pools() == [0, 150, 120, 30]


def test_of_many_answers_at_once_one_counts(tree: CreditTree) -> None:
    world = tree.world
    world.grant(tree.mid, 9)
    ask: dict[str, Any] = {"person": LOW_ADMIN, "company_id": tree.low, "credits": 2}
    asked = world.together([world.work("credit-requests.create", **ask) for _ in range(4)])
    (made,) = [one for one in asked if not isinstance(one, Refused)]
    given: dict[str, Any] = {"person": MID_ADMIN, "request_id": made.id}
    works = [world.work("credit-requests.accept", **given) for _ in range(3)]
    works += [world.work("credit-requests.refuse", **given) for _ in range(3)]
    found = world.together(works)
    codes = sorted(one.code.value if isinstance(one, Refused) else "ok" for one in found)
    assert codes == ["ok"] + ["request_answered"] * 5
    state = world.do("credit-requests.list")["items"][0]["state"]
    assert world.pools(tree.low) == (60 if state == "accepted" else 0)
    told = Counter(notices(world, tree.low) + notices(world, tree.mid))
    assert told == {"credits_requested": 1, "request_answered": 1}


def test_billing_asks_as_well_and_others_see_nothing_of_it(tree: CreditTree) -> None:
    world = tree.world
    asked = world.do("credit-requests.create", person=MID_BILLING, company_id=tree.mid, credits=2)
    assert asked["parent_id"] == tree.top
    for person in (LOW_ADMIN, OTHER_ADMIN):
        assert world.do("credit-requests.list", person=person)["items"] == []
        given: dict[str, Any] = {"person": person, "request_id": asked["id"]}
        assert world.ask("credit-requests.accept", **given) == "not_found"
        assert world.ask("credit-requests.create", person=person, company_id=tree.mid, days=1) == (
            "not_found"
        )
