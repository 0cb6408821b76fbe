"""Statements: what a company got, spent and has left, and that it never changes afterwards."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.jobs import months
from tests.contract.world import World

S = [f"11000000{n:02d}" for n in range(20)]
BOSS, CHILD = 2, 3


def statement(
    world: World, company: str, first: str = "2027-01", last: str = "", **more: Any
) -> Any:
    given = {"company_id": company, "from": first, "to": last, **more}
    return world.do("companies.statement", **given)


def close_months(world: World) -> None:
    """As the schedule does it."""
    while world.write(months.close):
        pass
    while world.write(months.roll_up):
        pass


def adds_up(figures: dict[str, int]) -> bool:
    came = "granted received redeemed codes_returned given_back companies_joined"
    went = (
        "moved_out taken_back spent_by_itself spent_for_below courtesy codes_made expired "
        "written_off companies_left"
    )
    change = sum(figures[n] for n in came.split()) - sum(figures[n] for n in went.split())
    return figures["opening"] + change == figures["closing"]


def some(figures: dict[str, int]) -> dict[str, int]:
    """The figures that are not 0."""
    return {name: days for name, days in figures.items() if days}


def test_a_month_of_one_company(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 3)
    world.grant(acme, 1, free=True)
    world.register(S[0], acme)
    for _ in range(4):
        world.heartbeat(S[0])
        world.live(DAY_MS)
    found = statement(world, acme)
    assert not found["complete"]
    assert some(found["paid"]) == {"granted": 90, "closing": 90}
    # Free days are spent first.
    assert some(found["free"]) == {"granted": 30, "spent_by_itself": 30, "prepaid": 30}
    assert some(found["total"])["closing"] == 90
    assert adds_up(found["total"])
    (one,) = found["devices"]
    assert (one["serial"], one["days_free"], one["days_paid"]) == (S[0], 30, 0)
    assert (one["days_heard"], one["credits"], one["company_id"]) == (4, 1, acme)
    world.live(40 * DAY_MS)
    later = statement(world, acme, "2027-02")
    assert later["total"]["opening"] == 90
    assert later["complete"] is False
    january = statement(world, acme)
    assert january["complete"]
    assert january | {"complete": False} == found | {"devices": january["devices"]}


def test_children_and_own_are_the_whole(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True, reference="K-17")
    deep = world.company("Deep", low, use_parent_credits=True)
    own = world.company("Own", top)
    world.grant(top, 20)
    world.do("credits.move", source=top, target=own, credits=4)
    for serial, company in zip(S, (top, low, deep, own), strict=False):
        world.register(serial, company, activate=True)
        world.heartbeat(serial)
    found = statement(world, top, group_by="child")
    lines = [found["own"], *found["children"]]
    assert [line["company_id"] for line in lines] == [top, low, own]
    for side in ("total", "paid", "free"):
        for name, days in found[side].items():
            assert days == sum(line[side][name] for line in lines), name
        assert adds_up(found[side])
    by_id = {line["company_id"]: line for line in lines}
    assert by_id[low]["reference"] == "K-17"
    assert some(by_id[low]["total"]) == {"paid_from_here": 60, "prepaid": 60}
    assert some(by_id[own]["total"]) == {
        "received": 120,
        "spent_by_itself": 30,
        "closing": 90,
        "prepaid": 30,
    }
    assert by_id[top]["total"]["spent_for_below"] == 60
    assert by_id[top]["total"]["moved_out"] == 120
    # What the child sees of the same: paid above, by whom is not said.
    world.one_person(BOSS, low, "administrator")
    seen = world.do(
        "companies.statement", person=BOSS, company_id=low, group_by="child", **{"from": "2027-01"}
    )
    assert seen["total"]["spent_by_above"] == 60
    assert "Top" not in str(seen)
    given = {"company_id": top, "from": "2027-01"}
    assert world.ask("companies.statement", person=BOSS, **given) == "not_found"


def test_a_company_that_moves_counts_where_it_stood(world: World) -> None:
    top = world.company("Top")
    one, two = world.company("One", top), world.company("Two", top)
    world.grant(one, 10)
    firm = world.company("Firm", one, use_parent_credits=True)
    world.grant(firm, 5)
    world.register(S[0], firm, activate=True)
    world.heartbeat(S[0])
    world.live(2 * DAY_MS)
    world.do("companies.move", company_id=firm, parent_id=two, use_parent_credits=True)
    world.register(S[1], firm, activate=True)
    world.heartbeat(S[1])
    found = statement(world, top, group_by="child")
    lines = {line["company_id"]: line["total"] for line in found["children"]}
    assert some(lines[one]) == {
        "granted": 450,
        "spent_by_itself": 30,
        "companies_left": 120,
        "closing": 300,
    }
    assert some(lines[two]) == {
        "companies_joined": 120,
        "spent_by_itself": 30,
        "closing": 90,
        "prepaid": 60,
    }
    assert found["total"]["closing"] == 390
    # Who had it before sees what it did there, and no more.
    before = statement(world, one, group_by="child")
    assert before["children"][0]["total"]["companies_left"] == 120


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_a_device_that_moves_takes_its_days_along(world: World, history: str) -> None:
    top = world.company("Top")
    one, two = world.company("One", top), world.company("Two", top)
    world.grant(one, 2)
    world.register(S[0], one, activate=True)
    world.heartbeat(S[0])
    world.live(3 * DAY_MS)
    assert statement(world, one)["total"]["prepaid"] == 30
    january = statement(world, one)
    world.live(20 * DAY_MS)
    assert statement(world, one) == january | {"complete": True}
    world.do("devices.move", serial=S[0], company_id=two, history=history)
    assert statement(world, one)["total"] == january["total"]
    assert statement(world, one, "2027-02")["total"]["prepaid"] == 0
    assert statement(world, two, "2027-02")["total"]["prepaid"] == 30
    assert statement(world, two, "2027-01")["total"]["prepaid"] == 0
    assert statement(world, top, "2027-01", "2027-02", group_by="child")["total"]["prepaid"] == 30


def test_a_closed_month_stays_as_it_is_whatever_the_clock_does(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 9)
    for serial in S[:3]:
        world.register(serial, acme)
        world.heartbeat(serial)
    world.live(16 * DAY_MS + 23 * HOUR_MS)
    world.heartbeat(S[0])
    world.live(2 * HOUR_MS)
    before = statement(world, acme)
    close_months(world)
    assert statement(world, acme) == before
    assert before["complete"]
    world.now_ms -= 5 * DAY_MS
    world.heartbeat(S[1])
    world.do("credits.grant", company_id=acme, credits=7)
    world.register(S[5], acme, activate=True)
    assert statement(world, acme) == before
    assert statement(world, acme, "2027-02")["total"]["granted"] == 210
    world.live(40 * DAY_MS)
    close_months(world)
    assert statement(world, acme) == before
    assert statement(world, acme, "2027-02")["total"]["granted"] == 210
    assert statement(world, acme, "2027-01", "2027-02")["total"]["granted"] == 480


def test_a_month_before_there_was_anything_stays_empty(world: World) -> None:
    acme = world.company("Acme")
    close_months(world)
    before = statement(world, acme, "2026-10", "2026-12")
    world.now_ms -= 20 * DAY_MS
    world.grant(acme, 9)
    world.register(S[0], acme)
    world.heartbeat(S[0])
    assert statement(world, acme, "2026-10", "2026-12") == before
    assert before["total"]["closing"] == 0
    world.live(20 * DAY_MS)
    assert statement(world, acme, "2026-10", "2026-12") == before
    assert statement(world, acme, "2027-01")["total"]["granted"] == 270


def test_months_are_closed_once_and_rolled_up_as_they_were(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 30)
    for serial in S[:5]:
        world.register(serial, acme)
    for day in range(50):
        for serial in S[: 1 + day % 5]:
            world.heartbeat(serial)
        world.live(DAY_MS)
    plain = [statement(world, acme, month) for month in ("2027-01", "2027-02", "2027-03")]
    close_months(world)
    assert [statement(world, acme, m) for m in ("2027-01", "2027-02", "2027-03")] == plain
    assert not world.write(months.close)
    both = statement(world, acme, "2027-01", "2027-03")
    heard = {one["serial"]: one["days_heard"] for one in both["devices"]}
    assert heard == {serial: 50 - 10 * n for n, serial in enumerate(S[:5])}


BAD = [
    ({"from": "2027-13"}, "from"),
    ({"from": "2027-1"}, "from"),
    ({"from": "2027-02", "to": "2027-01"}, "to"),
    ({"from": "1970-01", "to": "2030-01"}, "to"),
    ({"from": "2027-01", "to": "x"}, "to"),
]


@pytest.mark.parametrize(("given", "field"), BAD)
def test_months_that_are_none_are_refused(world: World, given: dict[str, Any], field: str) -> None:
    acme = world.company("Acme")
    assert world.ask("companies.statement", company_id=acme, **given) == "validation", field


def test_csv_is_neutral_and_whole(world: World) -> None:
    acme = world.company("=cmd()", reference="+1;2")
    low = world.company("@Low", acme, reference="-3")
    world.grant(acme, 1)
    world.register(S[0], acme, activate=True)
    world.do("devices.change", serial=S[0], name='=HYPERLINK("x")', reference="a,b")
    given: dict[str, Any] = {"company_id": acme, "from": "2027-01"}
    plain = world.do("companies.statement", format="csv", **given)
    lines = plain["text"].split("\r\n")
    assert (plain["content_type"], len(lines)) == ("text/csv", 3)
    assert lines[0].startswith("from,to,complete,serial,name,reference,company_id,days_paid")
    assert f'2027-01,2027-01,false,{S[0]},"\'=HYPERLINK(""x"")","a,b",{acme},30,0' in lines[1]
    excel = world.do("companies.statement", format="csv-excel", group_by="child", **given)
    assert excel["text"].startswith("\ufeffline;company_id;name;reference;from;to;complete;opening")
    assert f"\r\nown;{acme};'=cmd();\"'+1;2\";2027-01" in excel["text"]
    assert f"\r\nchild;{low};'@Low;'-3;2027-01" in excel["text"]


def test_days_of_the_plan_daily_are_paid_and_heard_one_by_one(world: World) -> None:
    acme = world.company("Acme", plan="daily")
    world.grant(acme, 2)
    world.grant(acme, 1, free=True, expires_on="2027-01-18")
    for serial in S[:2]:
        world.register(serial, acme)
    for day in range(30):
        world.heartbeat(S[0])
        if day % 2:
            world.heartbeat(S[1])
        world.live(DAY_MS)
    asked = ("2027-01", "2027-02")
    found = statement(world, acme, *asked)
    days = {
        one["serial"]: (one["days_heard"], one["days_paid"], one["days_free"])
        for one in found["devices"]
    }
    # Until the 18th the free lot pays: four days of one, two of the other.
    assert days == {S[0]: (30, 26, 4), S[1]: (15, 13, 2)}
    assert found["total"]["spent_by_itself"] == found["total"]["served"] == 45
    assert found["free"]["expired"] == 24
    close_months(world)
    assert statement(world, acme, *asked) == found
