"""The ledger's list, its file, and requests of one company."""

import csv
import io
from typing import Any

import msgspec
import pytest

from tests.contract.world import World

SERIAL = "0123456789"
BOSS, BILLING, MEMBER = 2, 3, 3


def ledger(world: World, **given: Any) -> Any:
    return world.do("ledger.list", **given)["items"]


def test_one_operation_opens_the_rows_that_it_booked(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    world.grant(top, 1, free=True)
    world.grant(top, 2)
    moved = world.do("credits.move", source=top, target=low, days=50)
    rows = ledger(world, operation=moved["operation_id"])
    assert [row["id"] for row in reversed(rows)] == [one["id"] for one in moved["transfers"]]
    assert sorted((row["days"], row["free"]) for row in rows) == [(20, False), (30, True)]
    assert ledger(world, operation=moved["operation_id"], kind="grant") == []
    assert ledger(world, operation="x" * 60) == []
    page = world.do("ledger.list", operation=moved["operation_id"], limit=1)
    rest = ledger(world, operation=moved["operation_id"], cursor=page["next_cursor"])
    assert [row["id"] for row in (*page["items"], *rest)] == [row["id"] for row in rows]
    # Foreign rows of the same operation are not shown.
    other = world.company("Other")
    world.one_person(BOSS, other, "administrator")
    seen = world.do("ledger.list", operation=moved["operation_id"], person=BOSS)
    assert seen["items"] == []


def test_who_did_it_is_named_to_readers_of_the_audit(world: World) -> None:
    top = world.company("Top")
    world.one_person(BOSS, top, "administrator")
    world.one_person(BILLING, top, "billing")
    world.grant(top, 1)
    (row,) = ledger(world, person=BOSS)
    assert row["actor"].startswith("user:") and row["actor_name"]
    (row,) = ledger(world, person=BILLING)
    assert row["actor"].startswith("user:") and row["actor_name"] is None


@pytest.mark.parametrize("format_", ["csv", "csv-excel"])
def test_the_file_says_what_the_list_says_and_runs_nothing(world: World, format_: str) -> None:
    top = world.company("=cmd|' /C calc'!A0")
    low = world.company("Low", top)
    note = '@SUM(1;2),"x"\nsecond'
    world.do("credits.grant", company_id=top, credits=5, note=note)
    world.do("credits.move", source=top, target=low, credits=1)
    world.register(SERIAL, top, activate=True)
    made = world.do("ledger.export", format=format_)
    text = made["text"].removeprefix("\ufeff")
    lines = [*csv.DictReader(io.StringIO(text), delimiter=";" if "excel" in format_ else ",")]
    said = ledger(world)
    assert [line["id"] for line in lines] == [row["id"] for row in said]
    assert [int(line["days"]) for line in lines] == [row["days"] for row in said]
    assert [line["kind"] for line in lines] == [row["kind"] for row in said]
    granted = lines[-1]
    assert granted["note"] == "'" + note
    assert granted["sentence"].startswith("'=cmd|' /C calc'!A0 was given 5 credits")
    assert {line["serial"] for line in lines} == {"", SERIAL}
    few = world.do("ledger.export", format="json", limit=2, company=low)
    assert [row["kind"] for row in few["items"]] == ["move"]
    kinds = world.do("ledger.export", format=format_, kind="activate", serial=SERIAL)
    assert kinds["text"].count(SERIAL) >= 2 and "grant" not in kinds["text"]
    with pytest.raises(msgspec.ValidationError):
        world.ask("ledger.export", limit=20_001)


def test_the_file_is_for_whoever_sees_credits(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    world.grant(top, 2)
    world.do("credits.move", source=top, target=low, credits=1)
    world.one_person(BOSS, low, "administrator")
    world.one_person(MEMBER, low, "advanced")
    seen = world.do("ledger.export", format="json", person=BOSS)["items"]
    assert [row["kind"] for row in seen] == ["move"]
    assert world.ask("ledger.export", company=top, person=BOSS) == "not_found"
    assert world.ask("ledger.export", company=low, person=MEMBER) == "forbidden"


def test_requests_of_one_company_are_those_it_made_or_was_asked(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    lowest = world.company("Lowest", low)
    for company in (low, lowest):
        world.do("credit-requests.create", company_id=company, credits=1)

    def of(company: str, **more: Any) -> list[str]:
        found = world.do("credit-requests.list", company=company, **more)["items"]
        return [one["company_id"] for one in found]

    assert of(top) == [low]
    assert of(low) == [lowest, low]
    assert of(lowest, state="open") == [lowest]
    assert of(lowest, state="accepted") == []
    assert of("") == [lowest, low]
    world.one_person(BOSS, low, "administrator")
    assert world.ask("credit-requests.list", company=top, person=BOSS) == "not_found"
    world.one_person(MEMBER, low, "advanced")
    assert world.ask("credit-requests.list", company=low, person=MEMBER) == "forbidden"
