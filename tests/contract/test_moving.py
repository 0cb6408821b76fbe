"""Moving devices between companies: days, runs, names and history, one or many."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.operations.joining import join
from gateway.storage.schema import heartbeat, membership, monitored_day
from gateway.storage.transaction import Transaction
from tests.contract.world import SITE, World
from wire.join import JoinRequest, decode_join_string

pytestmark = pytest.mark.either_engine

S = "6003600101"
OTHER = 2  # a person who is administrator of one company alone


@pytest.fixture
def tree(world: World) -> tuple[str, str, str]:
    """A reseller with credits, and two customers who have none of their own."""
    top = world.company("Reseller")
    left = world.company("Left", top, use_parent_credits=True)
    right = world.company("Right", top, use_parent_credits=True)
    world.grant(top, 10)
    return top, left, right


def served(world: World, company: str, serial: str = S) -> None:
    """A device that joined and was heard in its period."""
    world.register(serial, company, True)
    world.join(serial)
    world.up(serial)
    world.heartbeat(serial)


def stored(world: World) -> list[int]:
    """The numbers of all samples kept, of whatever tenure."""
    statement = select(heartbeat.c.number).order_by(heartbeat.c.number)
    return [row.number for row in world.read(lambda tx: tx.all(statement))]


def test_kept_history_goes_along_and_the_period_with_it(
    world: World, tree: tuple[str, str, str]
) -> None:
    _, left, right = tree
    served(world, left)
    before = world.device(S)["service"]
    row = world.row(S)
    moved = world.do("devices.move", serial=S, company_id=right)
    assert moved["company_id"] == right
    assert moved["service"]["paid_until"] == before["paid_until"]
    assert world.row(S).id == row.id
    assert world.kinds(S) == [("activate", 30)]
    world.live(MINUTE_MS)
    outcome = world.heartbeat(S)
    assert (outcome.stored, outcome.unknown) == (1, 0)
    assert len(world.do("devices.heartbeats", serial=S)["items"]) == 2


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_the_next_charge_is_the_new_payers(world: World, history: str) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 5)
    world.grant(new, 5)
    served(world, old)
    world.do("devices.move", serial=S, company_id=new, history=history)
    assert (world.pools(old), world.pools(new)) == (120, 150)
    world.live(29 * DAY_MS)
    world.heartbeat(S)
    world.live(DAY_MS + MINUTE_MS)
    assert (world.pools(old), world.pools(new)) == (120, 120)
    assert world.service(S) == ("active", "paid")
    assert world.prepaid(S) == 30


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_a_period_that_was_over_is_settled_before_and_the_next_is_the_new_payers(
    world: World, history: str
) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 5)
    world.grant(new, 5)
    served(world, old)
    world.live(30 * DAY_MS - MINUTE_MS)
    world.heartbeat(S)
    world.live(2 * MINUTE_MS, jobs=False)
    shown = world.do("devices.move", serial=S, company_id=new, history=history)
    assert (world.pools(old), world.pools(new)) == (120, 120)
    assert shown["service"]["state"] == "active"
    assert shown["service"]["payer_company_id"] == new
    assert world.balance("prepaid:") == 30


def test_a_sold_device_begins_empty_and_does_not_notice(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    served(world, old)
    world.do("devices.change", serial=S, alias="pump", name="Pump", notes="secret", tags=["a"])
    world.do("targets.create", serial=S, name="PLC", target="192.168.1.2:502", protocol="tcp")
    world.one_person(OTHER, new, "administrator")
    run = world.row(S).run
    days = world.device(S)["service"]["days_left"]
    world.live(2 * DAY_MS)
    world.heartbeat(S, 3)
    moved = world.do("devices.move", serial=S, company_id=new)  # sold: no common company above
    assert (moved["alias"], moved["name"], moved["notes"], moved["tags"]) == (None, "", "", [])
    assert moved["latest"] == {} and moved["counters"]["repeats"] == 0
    assert moved["service"]["days_left"] == days - 2
    assert moved["presence"]["state"] == "online"
    assert moved["alerts"] == ["secret_to_rotate"]
    assert world.do("targets.list", person=OTHER, serial=S)["items"] == []
    assert world.do("devices.heartbeats", person=OTHER, serial=S)["items"] == []
    assert world.row(S).run == run
    # The next number is the next: nothing is asked again, nothing is stored twice.
    outcome = world.heartbeat(S)
    assert (outcome.stored, outcome.repeated, outcome.unknown) == (1, 0, 0)
    assert world.router(S).receipts[-1].full
    again = world.router(S).message(2, number=3)
    assert world.deliver((S, "hb", again)).repeated == 2
    assert stored(world) == [1, 2, 3, 4, 5]
    assert len(world.do("devices.heartbeats", person=OTHER, serial=S)["items"]) == 1


def test_the_former_company_goes_on_seeing_its_own_history_and_nothing_else(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    served(world, old)
    world.one_person(2, old, "administrator")
    world.one_person(3, new, "administrator")
    world.do("devices.move", serial=S, company_id=new)
    world.live(MINUTE_MS)
    world.heartbeat(S)
    assert [s["number"] for s in world.do("devices.heartbeats", person=2, serial=S)["items"]] == [1]
    assert [s["number"] for s in world.do("devices.heartbeats", person=3, serial=S)["items"]] == [2]
    counted = world.do("devices.series", person=2, serial=S, fields=["uptime"])["fields"][0]
    assert counted["count"] == [1]
    for name in ("devices.show", "devices.activate", "devices.unregister", "devices.join"):
        assert world.ask(name, person=2, serial=S) == "not_found"


def test_what_a_sold_device_had_kept_back_is_its_sellers(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    served(world, old)
    world.one_person(2, old, "administrator")
    world.one_person(3, new, "administrator")
    world.live(HOUR_MS)
    world.do("devices.move", serial=S, company_id=new)
    world.live(HOUR_MS)
    # Two samples of before the sale, which it could not send then, and one of now.
    router = world.router(S)
    late = router.message(2, low=1, age_ms=90 * MINUTE_MS, values={"rssi": -50})
    world.deliver((S, "hb", late))
    world.heartbeat(S, values={"uptime": 9})
    assert [s["number"] for s in world.do("devices.heartbeats", person=3, serial=S)["items"]] == [4]
    seen = world.do("devices.heartbeats", person=2, serial=S)["items"]
    assert sorted(s["number"] for s in seen) == [1, 2, 3]
    assert "rssi" not in world.do("devices.show", person=3, serial=S)["latest"]


def test_a_lot_is_found_again_after_the_device_was_sold(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 1, expires_on="2027-01-20")
    world.register(S, old, True)
    world.do("devices.move", serial=S, company_id=new, history="leave")
    assert world.kinds(S) == [("activate", 30), ("carry", 30)]
    assert world.do("devices.unregister", serial=S)["days_returned"] == 30
    assert world.balance(f"pool:{old}:2027-01-20:paid:given") == 30
    world.live(10 * DAY_MS)
    assert world.pools(old) == 0 and world.pools(new) == 0


def test_lots_that_expired_meanwhile_stay_expired(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 1, expires_on="2027-01-20")
    world.register(S, old, True)
    world.do("devices.move", serial=S, company_id=new, history="leave")
    world.do("devices.move", serial=S, company_id=old, history="leave")
    world.live(10 * DAY_MS)
    assert world.do("devices.unregister", serial=S)["days_returned"] == 30
    assert world.pools(old) == 0


def test_a_day_is_counted_once_on_the_day_of_the_sale(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    served(world, old)
    world.do("devices.move", serial=S, company_id=new)
    world.heartbeat(S)
    world.live(DAY_MS)
    world.heartbeat(S)
    days = world.read(lambda tx: tx.all(select(monitored_day).order_by(monitored_day.c.day)))
    assert [str(day.company_id) for day in days] == [old, new]


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_grace_goes_along_and_is_paid_for(world: World, history: str) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 1)
    served(world, old)
    world.live(30 * DAY_MS - MINUTE_MS)
    world.heartbeat(S)
    world.live(2 * MINUTE_MS)
    world.live(2 * DAY_MS)
    assert world.service(S) == ("active", "grace")
    until = world.device(S)["service"]["paid_until"]
    world.do("devices.move", serial=S, company_id=new, history=history)
    assert world.device(S)["service"]["paid_until"] == until
    world.grant(new, 1)
    world.heartbeat(S)
    world.live(MINUTE_MS)
    assert world.service(S) == ("active", "paid")
    assert world.device(S)["service"]["days_left"] == 27


def test_an_unpaid_device_is_served_by_a_company_that_can_pay(world: World) -> None:
    poor, rich = world.company("Poor"), world.company("Rich")
    world.grant(rich, 1)
    world.register(S, poor)
    world.join(S)
    world.heartbeat(S)
    assert world.service(S) == ("unpaid", "no_credit")
    world.do("devices.move", serial=S, company_id=rich, history="leave")
    world.jobs()
    assert world.service(S) == ("active", "paid")


def test_history_is_kept_within_one_subtree_of_the_movers(
    world: World, tree: tuple[str, str, str]
) -> None:
    top, left, right = tree
    served(world, left)
    row = world.row(S).id
    for target in (top, left, right):
        world.do("devices.move", serial=S, company_id=target)
        assert world.row(S).id == row
    # Administrator of both, and of nothing above both: sold.
    world.one_person(2, left, "administrator")
    world.write(lambda tx: _add_member(tx, 2, int(right)))
    world.do("devices.move", person=2, serial=S, company_id=left)
    assert world.row(S).id != row


def _add_member(tx: Transaction, person: int, company: int) -> None:
    tx.run(
        insert(membership),
        {"person_id": person, "company_id": company, "role": "administrator", "created_at": 0},
    )


def test_who_is_not_administrator_in_both_moves_nothing(
    world: World, tree: tuple[str, str, str]
) -> None:
    top, left, right = tree
    served(world, left)
    world.one_person(2, left, "administrator")
    world.one_person(3, right, "administrator")
    world.one_person(4, top, "billing")
    assert world.ask("devices.move", person=2, serial=S, company_id=right) == "not_found"
    assert world.ask("devices.move", person=3, serial=S, company_id=right) == "not_found"
    assert world.ask("devices.move", person=4, serial=S, company_id=right) == "forbidden"
    assert world.ask("devices.move", person=2, serial=S, company_id=top) == "not_found"
    assert world.ask("devices.move", serial=S, company_id=left) == "validation"
    assert world.ask("devices.move", serial="9999999999", company_id=left) == "not_found"
    assert world.ask("devices.move", serial=S, company_id="77") == "not_found"
    assert world.device(S)["company_id"] == left


def test_many_move_or_none(world: World, tree: tuple[str, str, str]) -> None:
    top, left, right = tree
    serials = [f"60036001{n:02}" for n in range(10, 15)]
    for serial in serials:
        world.register(serial, left, "later")
    world.do("devices.change", serial=serials[-1], alias="pump")
    world.register("6003600199", right, "later")
    world.do("devices.change", serial="6003600199", alias="pump")
    assert world.ask("devices.move-many", serials=serials, company_id=right) == "name_taken"
    assert world.ask("devices.move-many", serials=[*serials, "6003600198"], company_id=top) == (
        "not_found"
    )
    assert world.ask("devices.move-many", company_id=top) == "validation"
    assert {world.device(serial)["company_id"] for serial in serials} == {left}
    world.do("devices.move-many", serials=serials[:2], company_id=right)
    done = world.do("devices.move-many", from_company_id=left, company_id=top)
    assert (done["moved"], done["serials"]) == (3, serials[2:])
    assert world.device(serials[0])["company_id"] == right


def test_join_strings_of_the_seller_end(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.register(S, old, "later")
    code = decode_join_string(world.do("devices.join", serial=S)["join"]).code
    world.do("devices.move", serial=S, company_id=new, history="leave")
    request = JoinRequest(code, S, "00:1E:42:00:00:01", "a" * 64, "b" * 64)
    with pytest.raises(Refused):
        world.write(lambda tx: join(tx, SITE, request, "test"))
    world.join(S)
    assert world.login(S) is not None
    assert world.device(S)["alerts"] == []


def test_the_login_of_a_sold_device_goes_on_until_it_joins_anew(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 1)
    served(world, old)
    login = world.login(S)
    world.do("devices.move", serial=S, company_id=new)
    assert world.login(S) == login is not None
    world.join(S, secret="c")
    assert world.device(S)["alerts"] == ["waits_for_release", "secret_to_rotate"]
    world.do("devices.release", serial=S)
    assert world.login(S) != login
    assert world.device(S)["alerts"] == []


def test_both_companies_read_who_moved_it(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.register(S, old, "later")
    world.do("devices.move", serial=S, company_id=new)
    entries = world.do("audit.list", verb="device.moved", serial=S)["items"]
    assert {(e["company_id"], e["detail"]["went"]) for e in entries} == {
        (old, "away"),
        (new, "here"),
    }


def test_a_sold_device_can_be_sold_back_and_its_old_history_is_still_there(world: World) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    served(world, old)
    world.do("devices.move", serial=S, company_id=new)
    world.live(HOUR_MS)
    world.heartbeat(S)
    world.do("devices.move", serial=S, company_id=old)
    world.live(HOUR_MS)
    assert world.heartbeat(S).stored == 1
    assert stored(world) == [1, 2, 3]
    assert world.prepaid(S) == 30
    assert world.device(S)["service"]["days_left"] == 29


UNFIT: list[dict[str, Any]] = [
    {"company_id": "2", "history": "forget", "serial": S},
    {"company_id": "-1", "serial": S},
    {"company_id": "2", "serial": "x' OR 1=1 --"},
    {"company_id": "2", "serial": ""},
]


@pytest.mark.parametrize("given", UNFIT)
def test_what_does_not_fit_moves_nothing(
    world: World, tree: tuple[str, str, str], given: dict[str, Any]
) -> None:
    top, _, _ = tree
    world.register(S, top, "later")
    try:
        told = world.ask("devices.move", **given)
    except msgspec.ValidationError as error:
        told = str(error)
    assert told == "not_found" or "history" in told
    assert world.device(S)["company_id"] == top


def test_a_list_may_name_a_device_twice_and_not_too_many(
    world: World, tree: tuple[str, str, str]
) -> None:
    top, left, right = tree
    world.register(S, left, "later")
    done = world.do("devices.move-many", serials=[S, S], company_id=right)
    assert (done["moved"], done["serials"]) == (1, [S])
    with pytest.raises(msgspec.ValidationError):
        world.ask("devices.move-many", serials=[S] * 1_001, company_id=left)
    both: dict[str, Any] = {"serials": [S], "from_company_id": right}
    assert world.ask("devices.move-many", company_id=top, **both) == "validation"
    same: dict[str, Any] = {"from_company_id": right, "company_id": right}
    assert world.ask("devices.move-many", **same) == "validation"
    empty = world.do("devices.move-many", from_company_id=left, company_id=top)
    assert empty["moved"] == 0
