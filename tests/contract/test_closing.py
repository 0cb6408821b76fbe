"""Closing a company: devices, companies below, credits and rights, and what is left: reading."""

from typing import Any

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.domain.refusals import Code, Refused
from gateway.operations import moving
from gateway.storage.schema import company_place, join_code, membership, recheck
from tests.contract import invited
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

A, B = "6003600301", "6003600302"


@pytest.fixture
def parent(world: World) -> str:
    return world.company("Parent")


@pytest.fixture
def leaving(world: World, parent: str) -> str:
    """A company with lots of its own, two devices and a company below."""
    made = world.company("Leaving", parent)
    world.grant(made, 3, expires_on="2027-05-01", free=True)
    world.grant(made, 2)
    world.register(A, made, True)
    world.join(A)
    world.heartbeat(A)
    world.register(B, made, "later")
    world.company("Child", made, use_parent_credits=True)
    world.one_person(2, made, "administrator")
    return made


def child_of(world: World, parent: str | None) -> list[str]:
    items = world.do("companies.list", limit=500)["items"]
    return sorted(c["name"] for c in items if c["parent_id"] == parent)


def test_not_too_many_devices_go_at_once(
    world: World, leaving: str, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "DEVICES_MAX", 1)
    all_of_it: dict[str, Any] = {"from_company_id": leaving, "company_id": parent}
    one: dict[str, Any] = {"company_id": leaving}
    for name, field, given in (
        ("companies.close", "company_id", one),
        ("devices.move-many", "from_company_id", all_of_it),
    ):
        with pytest.raises(Refused, match="more than 1 devices; move some") as refused:
            world.do(name, **given)
        assert (refused.value.code, refused.value.field) == (Code.VALIDATION, field)
    world.do("devices.move-many", serials=[B], company_id=parent)
    assert world.ask("companies.close", company_id=leaving) == "ok"


def test_everything_goes_to_the_parent(world: World, parent: str, leaving: str) -> None:
    before = world.device(A)["service"]
    row = world.row(A).id
    done = world.do("companies.close", company_id=leaving)
    assert {name: value for name, value in done.items() if name != "company"} == {
        "devices_moved": 2,
        "devices_unregistered": 0,
        "companies_moved": 1,
        "days_moved": 120,
        "days_forfeited": 0,
    }
    assert done["company"]["closed_at"] is not None
    assert (world.device(A)["company_id"], world.row(A).id) == (parent, row)
    assert world.device(A)["service"]["paid_until"] == before["paid_until"]
    assert child_of(world, parent) == ["Child", "Leaving"]
    # Each lot is what it was: expiry, free or paid.
    assert world.balance(f"pool:{parent}:2027-05-01:free:given") == 60
    assert world.balance(f"pool:{parent}:never:paid:given") == 60
    assert world.pools(leaving) == 0
    world.live(MINUTE_MS)
    world.heartbeat(A)
    assert world.service(A) == ("active", "paid")


def test_nobody_is_anything_in_it_any_more(world: World, leaving: str) -> None:
    world.do("join-codes.create", company_id=leaving, uses=5, register=True)
    invited.invite(world, leaving, "basic", email="new@example.org")
    access = {"company_id": leaving, "minutes": 60, "reason": "No signal."}
    world.do("support-access.grant", person=2, **access)
    world.do("companies.close", company_id=leaving)
    assert world.ask("companies.show", person=2, company_id=leaving) == "not_found"
    [invitation] = world.do("invitations.list", company=leaving)["items"]
    assert invitation["state"] == "closed"
    [let_in] = world.do("support-access.list", company_id=leaving)["items"]
    assert (let_in["in_force"], let_in["ended_by"]) == (False, "user:1")
    left = world.read(
        lambda tx: (
            tx.all(select(membership).where(membership.c.company_id == int(leaving))),
            tx.all(select(join_code).where(join_code.c.company_id == int(leaving))),
        )
    )
    assert left == ([], [])


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("companies.close", {}),
    ("companies.change", {"name": "Again"}),
    ("companies.change", {"use_parent_credits": True}),
    ("companies.suspend", {"reason": "late"}),
    ("companies.resume", {}),
    ("companies.move", {"parent_id": "{parent}"}),
    ("join-codes.create", {}),
    ("members.create", {"email": "person2@example.org", "role": "administrator"}),
]


@pytest.mark.parametrize(("name", "more"), CHANGES)
def test_a_closed_company_is_read_and_never_changed(
    world: World, parent: str, leaving: str, name: str, more: dict[str, Any]
) -> None:
    world.do("companies.close", company_id=leaving)
    given: dict[str, Any] = {
        key: value.format(parent=parent) if isinstance(value, str) else value
        for key, value in more.items()
    }
    assert world.ask(name, company_id=leaving, **given) == "company_closed"
    assert world.ask("companies.show", company_id=leaving) == "ok"
    assert world.ask("companies.credits", company_id=leaving) == "ok"
    assert world.ask("ledger.list", company=leaving) == "ok"
    assert world.ask("audit.list", company=leaving) == "ok"


def test_nothing_comes_into_a_closed_company(world: World, parent: str, leaving: str) -> None:
    world.do("companies.close", company_id=leaving)
    free = world.company("Free", parent)
    assert world.ask("devices.register", serial="6003600399", company_id=leaving) == (
        "company_closed"
    )
    assert world.ask("devices.move", serial=A, company_id=leaving) == "company_closed"
    assert world.ask("companies.create", name="X", parent_id=leaving) == "company_closed"
    assert world.ask("companies.move", company_id=free, parent_id=leaving) == "company_closed"
    assert world.ask("credits.grant", company_id=leaving, credits=1) == "company_closed"
    assert world.ask("companies.close", company_id=free, to=leaving) == "company_closed"


def test_its_name_is_free_for_others(world: World, parent: str, leaving: str) -> None:
    world.do("companies.close", company_id=leaving)
    again = world.company("Leaving", parent)
    assert world.ask("companies.close", company_id=again) == "ok"
    assert child_of(world, parent) == ["Child", "Leaving", "Leaving"]


def test_open_codes_and_requests_end_first(world: World, parent: str, leaving: str) -> None:
    open_one = world.do("credit-codes.create", company_id=leaving, days=70)
    gone = world.do("credit-codes.create", company_id=leaving, days=10)
    world.do("credit-codes.redeem", company_id=parent, code=gone["code"])
    world.do("credit-requests.create", company_id=leaving, days=30)
    done = world.do("companies.close", company_id=leaving)
    assert done["days_moved"] == 110
    assert world.pools(parent) == 120
    assert world.balance("code:") == 0
    # The free days that the open code held are free again, and expire when they did.
    assert world.balance(f"pool:{parent}:2027-05-01:free:given") == 60
    told = world.ask("credit-codes.redeem", company_id=parent, code=open_one["code"])
    assert told == "credit_code_used"
    assert [r["state"] for r in world.do("credit-requests.list")["items"]] == ["withdrawn"]


def test_devices_are_unregistered(world: World, parent: str, leaving: str) -> None:
    world.live(10 * DAY_MS)
    done = world.do("companies.close", company_id=leaving, devices="unregister")
    assert (done["devices_unregistered"], done["days_forfeited"]) == (2, 20)
    assert world.login(A) is None
    # It sleeps: the parent wakes it from the desk.
    assert world.register(A, parent)["joined_at"] is not None


def test_days_of_a_device_never_heard_go_up_as_well(world: World, parent: str) -> None:
    leaving = world.company("Leaving", parent)
    world.grant(leaving, 1, expires_on="2027-05-01")
    world.register(A, leaving, True)
    done = world.do("companies.close", company_id=leaving, devices="unregister")
    assert (done["days_moved"], done["days_forfeited"]) == (30, 0)
    assert world.balance(f"pool:{parent}:2027-05-01:paid:given") == 30


def test_devices_are_released(world: World, parent: str, leaving: str) -> None:
    other = world.company("Other")
    world.do("companies.close", company_id=leaving, devices="release")
    assert world.register(A, other)["joined_at"] is None
    assert world.ask("devices.forget", serial=B) == "not_found"


def test_devices_go_where_they_are_told(world: World, parent: str, leaving: str) -> None:
    sister = world.company("Sister", parent)
    world.do("companies.close", company_id=leaving, to=sister)
    assert world.device(A)["company_id"] == sister
    assert world.pools(parent) == 120


def test_a_period_that_is_over_is_settled(world: World, parent: str, leaving: str) -> None:
    world.live(30 * DAY_MS - MINUTE_MS)
    world.heartbeat(A)
    world.live(2 * MINUTE_MS, jobs=False)
    world.grant(parent, 1)
    world.do("companies.close", company_id=leaving)
    world.jobs()
    assert world.service(A) == ("active", "paid")
    assert world.pools(parent) == 120


def test_a_name_that_is_taken_above_stops_it(world: World, parent: str, leaving: str) -> None:
    world.company("Child", parent)
    assert world.ask("companies.close", company_id=leaving) == "name_taken"
    assert world.device(A)["company_id"] == leaving
    assert world.pools(leaving) == 120


def test_an_alias_that_is_taken_above_stops_it(world: World, parent: str, leaving: str) -> None:
    world.do("devices.change", serial=A, alias="pump")
    world.register("6003600303", parent, "later")
    world.do("devices.change", serial="6003600303", alias="pump")
    assert world.ask("companies.close", company_id=leaving) == "name_taken"


def test_the_child_is_not_paid_for_by_the_parent_unless_told(
    world: World, parent: str, leaving: str
) -> None:
    world.do("companies.close", company_id=leaving)
    flags = {c["name"]: c["use_parent_credits"] for c in world.do("companies.list")["items"]}
    assert flags["Child"] is False


def test_the_child_may_be_paid_for_by_the_parent(world: World, leaving: str) -> None:
    world.do("companies.close", company_id=leaving, use_parent_credits=True)
    flags = {c["name"]: c["use_parent_credits"] for c in world.do("companies.list")["items"]}
    assert flags["Child"] is True


def test_only_from_above(world: World, parent: str, leaving: str) -> None:
    assert world.ask("companies.close", person=2, company_id=leaving) == "forbidden"
    assert world.ask("companies.close", person=2, company_id=parent) == "not_found"
    world.one_person(3, parent, "billing")
    assert world.ask("companies.close", person=3, company_id=leaving) == "forbidden"
    world.one_person(4, parent, "administrator")
    assert world.ask("companies.close", person=4, company_id=parent) == "forbidden"
    assert world.ask("companies.close", person=4, company_id=leaving) == "ok"


def test_a_root_is_closed_by_an_operator_and_its_credits_are_forfeited(world: World) -> None:
    root = world.company("Root")
    child = world.company("Below", root, use_parent_credits=True)
    world.grant(root, 4)
    world.register(A, root, "later")
    assert world.ask("companies.close", company_id=root) == "validation"  # where do devices go
    done = world.do("companies.close", company_id=root, devices="unregister")
    assert (done["days_moved"], done["days_forfeited"]) == (0, 120)
    assert world.do("companies.show", company_id=root)["closed_at"] is not None
    assert world.ask("companies.show", company_id=child) == "not_found"  # a root of its own now
    kinds = [(t["kind"], t["to_account"]) for t in world.ledger(company=root)]
    assert kinds[0] == ("close", "forfeited")


def test_where_companies_stood_is_noted(world: World, parent: str, leaving: str) -> None:
    child = next(c["id"] for c in world.do("companies.list")["items"] if c["name"] == "Child")
    world.do("companies.close", company_id=leaving)
    statement = (
        select(company_place.c.path)
        .where(company_place.c.company_id == int(child))
        .order_by(company_place.c.id)
    )
    paths = [row.path for row in world.read(lambda tx: tx.all(statement))]
    assert paths == [f"{parent}/{leaving}/{child}", f"{parent}/{child}"]
    assert world.read(lambda tx: tx.all(select(recheck.c.company_id))) != []


def test_a_closed_company_goes_up_when_its_parent_closes_too(world: World, parent: str) -> None:
    middle = world.company("Middle", parent)
    low = world.company("Low", middle)
    world.do("companies.close", company_id=low)
    world.do("companies.close", company_id=middle)
    assert world.do("companies.show", company_id=low)["parent_id"] == parent
