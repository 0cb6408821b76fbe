"""Members: who may change and remove whom, and that no company loses its last administrator."""

from typing import Any

import msgspec
import pytest

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.refusals import Refused
from gateway.operations.registry import execute
from gateway.people.accounts import make_operator
from gateway.storage.transaction import Transaction
from tests.contract import invited
from tests.contract.gateways import TwoGateways
from tests.contract.invited import accept, person, roles, token_of
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

ROUNDS = 6
OPERATOR = 1


class Tree3:
    """Three levels, with an administrator in each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.top = world.company("Top")
        self.middle = world.company("Middle", self.top)
        self.low = world.company("Low", self.middle)
        self.above = person(world, "above@example.org", self.top, "administrator")
        self.boss = person(world, "boss@example.org", self.middle, "administrator")
        self.below = person(world, "below@example.org", self.low, "administrator")

    def member(self, name: str, role: str, company_id: str = "", **more: Any) -> int:
        return person(self.world, f"{name}@example.org", company_id or self.middle, role, **more)

    def membership(self, person_id: int, company_id: str = "") -> str:
        listed = self.world.do("members.list", company_id=company_id or self.middle)["items"]
        (found,) = [one["id"] for one in listed if one["person_id"] == str(person_id)]
        return str(found)


@pytest.fixture
def tree(world: World) -> Tree3:
    return Tree3(world)


def outcome(tree: Tree3, name: str, by: int, **given: Any) -> str:
    """`ok`, or the code of the refusal."""
    try:
        tree.world.do(name, person=by, **given)
    except Refused as refused:
        return refused.code.value
    return "ok"


GIVING = [
    # who, whose role before, and after; what becomes of it
    ("boss", "basic", "read_only", "ok"),
    ("boss", "basic", "administrator", "ok"),
    ("boss", "billing", "administrator", "ok"),
    ("above", "basic", "administrator", "ok"),
    ("advanced", "basic", "read_only", "ok"),
    ("advanced", "read_only", "basic", "ok"),
    ("advanced", "basic", "advanced", "forbidden"),
    ("advanced", "basic", "administrator", "forbidden"),
    ("advanced", "billing", "basic", "forbidden"),
    ("advanced", "advanced", "basic", "forbidden"),
    ("basic", "read_only", "basic", "not_found"),
    ("billing", "read_only", "basic", "not_found"),
    ("read_only", "basic", "read_only", "not_found"),
    ("below", "basic", "read_only", "not_found"),
    ("beside", "basic", "read_only", "not_found"),
    ("operator", "basic", "read_only", "not_found"),
]


@pytest.mark.parametrize(("by", "before", "after", "wanted"), GIVING)
def test_a_role_is_changed_by_whoever_may_give_both(
    tree: Tree3, by: str, before: str, after: str, wanted: str
) -> None:
    if by in ("boss", "above", "below"):
        caller = int(getattr(tree, by))
    elif by == "beside":
        beside = tree.world.company("Beside", tree.top)
        caller = tree.member("beside", "administrator", beside)
    elif by == "operator":
        caller = tree.world.write(_other_operator)
    else:
        caller = tree.member("caller", by)
    ann = tree.member("ann", before)
    number = tree.membership(ann)
    assert outcome(tree, "members.change", caller, membership_id=number, role=after) == wanted
    now = after if wanted == "ok" else before
    assert roles(tree.world, ann) == {int(tree.middle): now}
    removed = outcome(tree, "members.remove", caller, membership_id=number)
    may = wanted if now == after or wanted == "not_found" else None
    if may is None:
        # What may not be given may be taken only if the role before was theirs to give.
        may = "ok" if by == "advanced" and before in ("basic", "read_only") else wanted
    assert removed == may


def _other_operator(tx: Transaction) -> int:
    return make_operator(tx, "second@example.org", "Second", "-")


@pytest.mark.parametrize("role", invited.ROLES)
def test_nobody_raises_or_changes_themselves_but_everybody_may_leave(
    tree: Tree3, role: str
) -> None:
    ann = tree.member("ann", role)
    number = tree.membership(ann)
    until = instant_text(tree.world.now_ms + 400 * DAY_MS)
    for change in (
        {"role": "administrator"},
        {"role": "read_only"},
        {"until": None},
        {"until": until},
    ):
        refused = outcome(tree, "members.change", ann, membership_id=number, **change)
        assert refused == "forbidden"
        assert roles(tree.world, ann) == {int(tree.middle): role}
    assert outcome(tree, "members.remove", ann, membership_id=number) == "ok"
    assert roles(tree.world, ann) == {}
    assert outcome(tree, "members.remove", ann, membership_id=number) == "not_found"
    assert tree.world.do("me.show", person=ann)["memberships"] == []


def test_the_last_administrator_stays_whoever_asks(tree: Tree3) -> None:
    world, number = tree.world, tree.membership(tree.boss)
    soon = instant_text(world.now_ms + DAY_MS)
    asked: list[tuple[str, int, dict[str, Any]]] = [
        ("members.remove", tree.boss, {}),
        ("members.remove", tree.above, {}),
        ("members.change", tree.above, {"role": "advanced"}),
        ("members.change", tree.above, {"until": soon}),
    ]
    for name, by, change in asked:
        assert outcome(tree, name, by, membership_id=number, **change) == "last_administrator"
    # Somebody who is invited is none yet, and whoever is one only for a while does not count.
    made = invited.invite(world, tree.middle, "administrator", email="next@example.org")
    brief = tree.member("brief", "administrator", until=world.now_ms + 5 * DAY_MS)
    for name, by, change in asked:
        assert outcome(tree, name, by, membership_id=number, **change) == "last_administrator"
    short = tree.membership(brief)
    assert outcome(tree, "members.remove", tree.boss, membership_id=short) == "ok"
    assert accept(world, token_of(made))["role"] == "administrator"
    assert outcome(tree, "members.change", tree.above, membership_id=number, until=soon) == "ok"
    assert outcome(tree, "members.remove", tree.boss, membership_id=number) == "ok"


def test_a_membership_ends_by_itself_and_can_be_prolonged_until_then(tree: Tree3) -> None:
    world = tree.world
    ann = tree.member("ann", "basic")
    number = tree.membership(ann)
    until = instant_text(world.now_ms + DAY_MS)
    shown = world.do("members.change", person=tree.boss, membership_id=number, until=until)
    assert (shown["until"], shown["role"]) == (until, "basic")
    for wrong in (instant_text(world.now_ms), "tomorrow", "2500-01-01T00:00:00Z", ""):
        with pytest.raises(Refused) as refused:
            world.do("members.change", person=tree.boss, membership_id=number, until=wrong)
        assert refused.value.field == "until"
    assert outcome(tree, "companies.show", ann, company_id=tree.middle) == "ok"
    world.live(DAY_MS)
    assert outcome(tree, "companies.show", ann, company_id=tree.middle) == "not_found"
    listed = world.do("members.list", company_id=tree.middle)["items"]
    assert str(ann) not in [one["person_id"] for one in listed]
    changed = outcome(tree, "members.change", tree.boss, membership_id=number, until=None)
    assert changed == "not_found"
    # Whoever is invited again gets the role anew.
    again = invited.invite(world, tree.middle, "advanced", email="ann@example.org")
    assert accept(world, token_of(again), ann)["role"] == "advanced"


def test_a_closed_company_changes_no_more(tree: Tree3) -> None:
    ann = tree.member("ann", "basic", tree.low)
    number = tree.membership(ann, tree.low)
    tree.world.do("companies.close", person=tree.above, company_id=tree.low)
    for name in ("members.remove", "members.change"):
        refused = outcome(tree, name, tree.above, membership_id=number)
        assert refused in ("company_closed", "not_found")
    assert roles(tree.world, ann) in ({}, {int(tree.low): "basic"})


def test_two_administrators_who_remove_each_other_at_once(two: TwoGateways) -> None:
    world = two.world
    for number in range(ROUNDS):
        top = world.company(f"Top {number}")
        child = world.company("Child", top)
        pair = [
            person(world, f"{name}{number}@example.org", child, "administrator")
            for name in ("ann", "bob")
        ]
        listed = world.do("members.list", company_id=child)["items"]
        ids = {int(one["person_id"]): one["id"] for one in listed}

        def removing(by: int, whose: int, membership_ids: dict[int, str] = ids) -> Any:
            op = OPERATIONS["members.remove"]
            given = msgspec.convert({"membership_id": membership_ids[whose]}, op.input)

            def work(tx: Transaction) -> Any:
                return execute(tx, op, world.principal(tx, by), SITE, given)

            return work

        ann, bob = pair
        works = [removing(ann, bob), removing(bob, ann), removing(ann, ann), removing(bob, bob)]
        found = two.at_once(works, tree=OPERATIONS["members.remove"].tree)
        assert sum(not isinstance(one, BaseException) for one in found) == 1
        assert all(isinstance(one, Refused) for one in found if isinstance(one, BaseException))
        left = [one for one in pair if roles(world, one)]
        assert len(left) == 1


def test_who_is_named_administrator_of_a_new_company_is_invited(world: World) -> None:
    ann = person(world, "ann@example.org")
    made = world.do("companies.create", name="Top", administrator_email="Ann@example.org")
    assert world.do("members.list", company_id=made["id"])["items"] == []
    assert accept(world, made["link"].rpartition("/")[2], ann)["role"] == "administrator"
    child = world.do(
        "companies.create",
        person=ann,
        name="Child",
        parent_id=made["id"],
        administrator_email="new@example.org",
    )
    done = accept(world, child["link"].rpartition("/")[2])
    assert (done["role"], done["company_name"]) == ("administrator", "Child")
    plain = world.do("companies.create", name="Own")
    assert "link" not in plain and "invitation_id" not in plain
    (own,) = world.do("members.list", company_id=plain["id"])["items"]
    assert (own["person_id"], own["role"]) == (str(OPERATOR), "administrator")
    with pytest.raises(Refused) as refused:
        world.do("companies.create", name="Wrong", administrator_email="nobody")
    assert refused.value.field == "administrator_email"
    names = [one["name"] for one in world.do("companies.list")["items"]]
    assert "Wrong" not in names
