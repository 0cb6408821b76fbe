"""Importing devices from a file, and undoing it: all of it or nothing."""

from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from gateway.domain.importing import LinesRefused
from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Code, Refused
from gateway.operations.importing import (
    ImportDevices,
    admitted,
    begin_import,
    check_part,
    drop_import,
    note_progress,
    note_refused,
)
from gateway.operations.registry import Call
from gateway.storage.schema import account, device, device_live, transfer
from gateway.storage.transaction import Transaction
from tests.contract.world import SITE, World

pytestmark = pytest.mark.either_engine

A, B, C, D = (f"000000000{n}" for n in range(1, 5))


def text(*lines: str, header: str = "serial") -> str:
    return "\n".join([header, *lines, ""])


def refusal(world: World, company_id: str, csv: str, **more: Any) -> Refused:
    """Why nothing of a file is registered."""
    before = rows(world)
    with pytest.raises(Refused) as caught:
        world.do("devices.import", company_id=company_id, csv=csv, **more)
    assert rows(world) == before, "something was kept"
    return caught.value


def bad(world: World, company_id: str, csv: str, **more: Any) -> list[tuple[int, str, str | None]]:
    refused = refusal(world, company_id, csv, **more)
    assert isinstance(refused, LinesRefused), refused
    return [(one.line, one.code.value, one.field) for one in refused.lines]


def rows(world: World) -> list[int]:
    def count(tx: Transaction) -> list[int]:
        tables = (device, device_live, account, transfer)
        return [int(tx.scalar(select(func.count()).select_from(table))) for table in tables]

    return world.read(count)


def test_a_file_registers_what_it_says(world: World) -> None:
    top = world.company("Top")
    child = world.company("Child", top)
    made = world.do(
        "devices.import",
        company_id=top,
        file_name="spring.csv",
        csv=text(
            f'{A},"Pump, north",pump,001e42000001,{child},b|a,"two\nlines",A-1,no,later',
            f"{B},,,,,,,,,",
            header="serial,name,alias,mac,company,tags,notes,reference,auto_extend,activate",
        ),
    )
    assert (made["state"], made["lines"], made["new"], made["days_paid"]) == ("done", 2, 2, 0)
    assert made["report"] == [
        {"line": 2, "serial": A, "company_id": child, "outcome": "new"},
        {"line": 4, "serial": B, "company_id": top, "outcome": "new"},
    ]
    shown = world.device(A)
    assert (shown["name"], shown["alias"], shown["company_id"]) == ("Pump, north", "pump", child)
    assert (shown["mac"], shown["tags"]) == ("00:1E:42:00:00:01", ["a", "b"])
    assert (shown["notes"], shown["reference"], shown["auto_extend"]) == (
        "two\nlines",
        "A-1",
        False,
    )
    assert world.row(A).start == "later" and world.row(B).start == "on_contact"
    assert world.service(B) == ("off", "not_activated")
    listed = world.do("imports.list", company=top)["items"]
    assert [(one["id"], one["file_name"]) for one in listed] == [(made["id"], "spring.csv")]
    entry = world.do("audit.list", verb="devices.imported")["items"][0]
    assert (entry["subject"], entry["detail"]["new"]) == (made["id"], 2)


def test_an_imported_device_lives_as_any_other(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 1)
    world.do("devices.import", company_id=top, csv=text(A))
    world.join(A)
    world.heartbeat(A)
    assert world.service(A) == ("active", "paid")
    assert world.prepaid(A) == 30


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_marks_and_line_ends_are_recognised(world: World, delimiter: str) -> None:
    top = world.company("Top")
    lines = [["Name", " SERIAL "], ["a", A], [], ["b", B]]
    csv = "\ufeff" + "\r\n".join(delimiter.join(line) for line in lines)
    made = world.do("devices.import", company_id=top, csv=csv)
    assert [one["line"] for one in made["report"]] == [2, 4]
    assert world.device(B)["name"] == "b"


def test_all_lines_that_do_not_fit_are_told_at_once_and_nothing_is_kept(world: World) -> None:
    top, other = world.company("Top"), world.company("Other")
    world.register(C, other)
    world.do("devices.register", serial="taken-1", company_id=top, alias="pump")
    csv = text(
        f"{A},,,",
        "12,,,",
        f"{A},,,",
        f"{B},PUMP!,,",
        f"{C},,,",
        f"{D},pump,,",
        "abcdef1,x,,",
        "abcdef2,x,,",
        "abcdef3,,999,",
        "abcdef4,,,maybe",
        "abcdef5,,,,surplus",
        header="serial,alias,company,activate",
    )
    assert bad(world, top, csv) == [
        (3, "validation", "serial"),
        (4, "validation", "serial"),
        (5, "validation", "alias"),
        (6, "serial_unavailable", "serial"),
        (7, "name_taken", "alias"),
        (9, "name_taken", "alias"),
        (10, "not_found", "company"),
        (11, "validation", "activate"),
        (12, "validation", None),
    ]
    assert refusal(world, top, text(C)).code is Code.SERIAL_UNAVAILABLE


def test_whoever_holds_a_serial_is_not_told(world: World) -> None:
    top, other = world.company("Top"), world.company("Other")
    world.register(A, other)
    world.register(B, top)
    refused = refusal(world, top, text(A, B))
    assert isinstance(refused, LinesRefused)
    assert refused.lines[0].detail == refused.lines[1].detail


def test_credits_are_taken_line_by_line_and_what_is_missing_is_told(world: World) -> None:
    top = world.company("Top")
    child = world.company("Child", top, use_parent_credits=True)
    world.grant(child, 1, free=True)
    world.grant(top, 2)
    csv = text(f"{A},yes", f"{B},true", f"{C},TRUE", header="serial,activate")
    made = world.do("devices.import", company_id=child, csv=csv)
    assert made["days_paid"] == 90
    assert [world.service(serial) for serial in (A, B, C)] == [("active", "paid")] * 3
    assert world.kinds(A) == [("activate", 30)]
    assert world.ledger(serial=A)[0]["free"] and not world.ledger(serial=B)[0]["free"]
    assert "registered from a file" in world.ledger(serial=C)[0]["sentence"]
    assert world.pools(child) == world.pools(top) == 0
    world.grant(top, 1)
    more = text("abcdef1", "abcdef2", "abcdef3")
    assert bad(world, child, more, activate=True) == [
        (3, "credits_insufficient", "activate"),
        (4, "credits_insufficient", "activate"),
    ]
    refused = refusal(world, child, more, activate=True)
    assert "2 credits are missing" in refused.detail
    assert world.pools(top) == 30


@pytest.mark.parametrize("at_top", [{"credits": 2}, {"credits": 9, "parent_limit": 3}])
def test_what_a_company_above_has_is_not_told(world: World, at_top: dict[str, int]) -> None:
    """Neither which line is the first that it does not pay, nor how many there are, may say it."""
    top = world.company("Top")
    parent = world.company("Parent", top, use_parent_credits=True)
    child = world.company("Child", parent, use_parent_credits=True)
    below = world.company("Below", child, use_parent_credits=True)
    world.set_company(parent, parent_limit=at_top.get("parent_limit"))
    world.grant(top, at_top["credits"])
    world.grant(child, 1)
    code = "parent_limit_reached" if "parent_limit" in at_top else "credits_insufficient"
    lines = [f"abcdef{n},true,{below if n % 2 else child}" for n in range(6)]
    csv = text(*lines, header="serial,activate,company")
    world.one_person(2, child, "administrator")
    told = bad(world, child, csv, person=2)
    # Its own credit pays for the first; of the others no line differs from another.
    assert told == [(line, code, "activate") for line in range(3, 8)]
    refused = refusal(world, child, csv, person=2)
    assert isinstance(refused, LinesRefused)
    assert len({one.detail for one in refused.lines}) == 1
    assert "missing" not in refused.detail


def test_limits_suspension_and_plans_hold_for_each_line(world: World) -> None:
    top = world.company("Top")
    limited = world.company("Limited", top, use_parent_credits=True, parent_limit=1)
    stopped = world.company("Stopped", top, use_parent_credits=True)
    daily = world.company("Daily", top, use_parent_credits=True, plan="daily")
    world.grant(top, 10)
    world.do("companies.suspend", company_id=stopped, reason="unpaid")
    csv = text(f"{A},{limited}", f"{B},{limited}", f"{C},{stopped}", header="serial,company")
    assert bad(world, top, csv, activate=True) == [
        (3, "parent_limit_reached", "activate"),
        (4, "company_suspended", "activate"),
    ]
    csv = text(f"{A},{limited}", f"{B},{stopped}", f"{C},{daily}", header="serial,company")
    csv = csv.replace(f"{B},{stopped}", f"{D},{top}")
    made = world.do("devices.import", company_id=top, csv=csv, activate=True)
    assert made["days_paid"] == 60
    assert world.service(C)[0] == "off" and world.row(C).start == "on_contact"


def test_a_dry_run_says_the_same_and_keeps_nothing(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 3)
    csv = text(A, B)
    before = rows(world)
    tried = world.dry_run("devices.import", company_id=top, csv=csv, activate=True)
    assert rows(world) == before
    assert world.do("imports.list")["items"] == []
    assert tried["transfer_count"] == 2
    assert tried["left"] == [{"company_id": top, "days": 30, "credits": 1}]
    real = world.do("devices.import", company_id=top, csv=csv, activate=True)
    assert tried["would"]["report"] == real["report"]
    with pytest.raises(LinesRefused):
        world.dry_run("devices.import", company_id=top, csv=csv)


def test_only_who_may_imports_and_only_below(world: World) -> None:
    top = world.company("Top")
    child, other = world.company("Child", top), world.company("Other")
    world.one_person(2, child, "administrator")
    world.one_person(3, top, "billing")
    assert world.ask("devices.import", person=2, company_id=child, csv=text(A)) == "ok"
    assert world.ask("devices.import", person=2, company_id=top, csv=text(B)) == "not_found"
    assert world.ask("devices.import", person=3, company_id=top, csv=text(B)) == "forbidden"
    header = "serial,company"
    for named, code in ((top, "not_found"), (other, "not_found"), ("x", "not_found")):
        csv = text(f"{B},{named}", header=header)
        assert world.ask("devices.import", person=2, company_id=child, csv=csv) == code
    csv = text(f"{B},{top}", header=header)
    assert bad(world, child, csv) == [(2, "validation", "company")]
    shown = world.do("imports.list", person=2)["items"][0]["id"]
    assert world.ask("imports.show", person=3, import_id=shown) == "ok"
    assert world.ask("imports.undo", person=3, import_id=shown) == "forbidden"
    mine = world.do("devices.import", company_id=other, csv=text(B))["id"]
    for name in ("imports.show", "imports.undo"):
        assert world.ask(name, person=2, import_id=mine) == "not_found"
        assert world.ask(name, person=2, import_id="999") == "not_found"
    assert [one["id"] for one in world.do("imports.list", person=2)["items"]] == [shown]


def test_dormant_devices_wake_up_and_unused_registrations_are_taken_over(world: World) -> None:
    top, other = world.company("Top"), world.company("Other")
    world.grant(other, 1)
    world.grant(top, 5)
    world.register(A, top)
    world.join(A)
    world.do("devices.unregister", serial=A)
    world.register(B, other, activate=True)
    world.live(31 * DAY_MS)
    world.register(C, other)
    world.do("devices.unregister", serial=C)  # never joined: nobody's
    hashed = world.row(A)
    assert world.login(A) is None
    made = world.do("devices.import", company_id=top, csv=text(A, B, C), activate=True)
    outcomes = [one["outcome"] for one in made["report"]]
    assert outcomes == ["woken", "taken_over", "new"]
    assert world.row(A).id == hashed.id
    assert world.login(A) is not None
    assert [world.service(serial)[0] for serial in (A, B, C)] == ["active"] * 3
    assert world.pools(top) == 60


def test_an_import_is_undone_while_its_devices_were_never_heard(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 2)
    world.register(D, top)
    world.join(D)
    world.do("devices.unregister", serial=D)
    world.now_ms += 1_000
    csv = text(f"{A},true", f"{B},true", f"{C},later", f"{D},later", header="serial,activate")
    made = world.do("devices.import", company_id=top, csv=csv)
    world.join(A)
    world.heartbeat(A)
    world.join(C)
    undone = world.do("imports.undo", import_id=made["id"])
    assert undone == {
        "import_id": made["id"],
        "undone": 3,
        "days_returned": 30,
        "kept": [{"serial": A, "because": "heard"}],
    }
    assert world.pools(top) == 30 and world.prepaid(A) == 30
    assert world.ask("devices.show", serial=B) == "not_found"
    assert world.login(C) is None and world.login(D) is None
    assert world.ask("imports.undo", import_id=made["id"]) == "too_late"
    assert world.do("imports.show", import_id=made["id"])["state"] == "undone"
    # The serials are nobody's, but for the one that slept before: it sleeps again.
    other = world.company("Other")
    made = world.do("devices.import", company_id=other, csv=text(B, C))
    assert made["new"] == 2
    assert world.do("devices.import", company_id=top, csv=text(D))["woken"] == 1


def test_what_was_registered_again_or_sold_since_is_not_undone(world: World) -> None:
    top, other = world.company("Top"), world.company("Other")
    world.one_person(2, top, "administrator")
    made = world.do("devices.import", company_id=top, csv=text(A, B, C))
    world.join(A)
    world.do("devices.unregister", serial=A)
    world.now_ms += 1_000
    world.register(A, top)
    world.do("devices.move", serial=B, company_id=other, history="keep")
    undone = world.do("imports.undo", person=2, import_id=made["id"])
    assert undone["undone"] == 1
    assert undone["kept"] == [{"serial": B, "because": "elsewhere"}]
    assert world.device(A)["serial"] == A


def test_how_far_it_is_can_be_asked_and_a_gateway_that_stops_leaves_nothing(world: World) -> None:
    top = world.company("Top")
    given = msgspec.convert({"company_id": top, "csv": text(A)}, ImportDevices)

    def begin(tx: Transaction) -> int:
        call = Call(tx, world.principal(tx, 1), SITE)
        number, start = admitted(call, given)
        candidates, wrong = check_part(call, number, start, [])
        assert (candidates, wrong) == ([], [])
        return begin_import(tx, number, given, call.principal.name)

    first, second, third = (world.write(begin) for _ in range(3))
    world.write(lambda tx: note_progress(tx, first, 100, 40, 1))
    shown = world.do("imports.show", import_id=str(first))
    assert (shown["state"], shown["checked"], shown["lines"]) == ("checking", 40, 100)
    world.write(lambda tx: note_refused(tx, second, 3))
    world.write(partial(drop_import, import_id=third))
    world.now_ms += 2 * 60_000
    states = [one["state"] for one in world.do("imports.list")["items"]]
    assert states == ["refused", "failed"]
    assert world.ask("imports.undo", import_id=str(first)) == "too_late"
    assert world.do("devices.list")["items"] == []


def test_two_imports_of_the_same_serials_at_once_one_wins(world: World) -> None:
    left, right = world.company("Left"), world.company("Right")
    serials = [f"{n:010d}" for n in range(1, 41)]
    works = [
        world.work("devices.import", company_id=left, csv=text(*serials)),
        world.work("devices.import", company_id=right, csv=text(*reversed(serials))),
    ]
    told = world.together(works)
    refused = [one for one in told if isinstance(one, LinesRefused)]
    assert len(refused) == 1 and len(refused[0].lines) == 40
    assert {one.code for one in refused[0].lines} == {Code.SERIAL_UNAVAILABLE}
    assert len(world.do("devices.list", limit=500)["items"]) == 40


def test_an_import_and_a_registration_at_once_hold_each_serial_once(world: World) -> None:
    left, right = world.company("Left"), world.company("Right")
    serials = [f"{n:010d}" for n in range(1, 31)]
    told = world.together(
        [
            world.work("devices.import", company_id=left, csv=text(*serials)),
            world.work("devices.register", serial=serials[15], company_id=right),
        ]
    )
    refused = [one for one in told if isinstance(one, Refused)]
    assert len(refused) == 1 and refused[0].code is Code.SERIAL_UNAVAILABLE
    assert len(world.do("devices.list", limit=500)["items"]) in (1, 30)


def test_many_aliases_are_looked_at_as_few_are(world: World) -> None:
    top = world.company("Top")
    lines = [f"{n:010d},pump-{n}" for n in range(1, 602)]
    world.do("devices.import", company_id=top, csv=text(*lines, header="serial,alias"))
    again = [f"1{n:09d},pump-{n}" for n in range(600, 1_202)]
    csv = text(*again, header="serial,alias")
    assert bad(world, top, csv) == [(2, "name_taken", "alias"), (3, "name_taken", "alias")]


def test_a_credit_that_expires_is_given_back_to_its_own_lot(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 1, expires_on="2027-02-20", free=True)
    made = world.do("devices.import", company_id=top, csv=text(A), activate=True)
    world.do("imports.undo", import_id=made["id"])
    (pool,) = world.do("companies.credits", company_id=top)["pools"]
    assert (pool["expires_on"], pool["free"], pool["days"]) == ("2027-02-20", True, 30)
    made = world.do("devices.import", company_id=top, csv=text(A), activate=True)
    world.live(37 * DAY_MS)
    # Its period ran out, and nothing is left to give back; it goes all the same.
    undone = world.do("imports.undo", import_id=made["id"])
    assert (undone["undone"], undone["days_returned"]) == (1, 0)
