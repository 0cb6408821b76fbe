"""The audit as people read it: filters, pages, sentences, files, and who may."""

import csv
import io
from functools import partial
from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, instant_text
from gateway.operations.audit_writing import Personal, record
from gateway.storage.transaction import Transaction
from tests.contract.world import BEGIN_MS, World

pytestmark = pytest.mark.either_engine

A, B = "1100000001", "1100000002"


@pytest.fixture
def tree(world: World) -> dict[str, str]:
    """Two companies, one below the other, and one beside; each has an administrator."""
    top = world.company("Top")
    ids = {"top": top, "low": world.company("Low", top), "beside": world.company("Beside")}
    for person, company in ((2, "top"), (3, "low"), (4, "beside")):
        world.one_person(person, ids[company], "administrator")
    world.register(A, ids["low"], "later")
    world.live(DAY_MS)
    world.register(B, ids["beside"], "later")
    return ids


def listed(world: World, **given: Any) -> list[tuple[str, str]]:
    items = world.do("audit.list", **given)["items"]
    return [(item["verb"], item["subject"]) for item in items]


def test_each_filter_finds_what_it_names(world: World, tree: dict[str, str]) -> None:
    made, registered = "companies.create", "devices.register"
    whole = listed(world)
    assert [one for one in whole if one[0] == registered] == [(registered, B), (registered, A)]
    assert listed(world, verb=made) == [(made, tree[one]) for one in ("beside", "low", "top")]
    assert listed(world, company=tree["top"], verb=made) == [
        (made, tree["low"]),
        (made, tree["top"]),
    ]
    assert listed(world, serial=A) == [(registered, A)]
    assert listed(world, subject=tree["low"], verb=made) == [(made, tree["low"])]
    later = instant_text(BEGIN_MS + DAY_MS)
    assert listed(world, **{"from": later}) == [(registered, B)]
    assert (registered, B) not in listed(world, to=later) and listed(world, to=later)
    world.do("devices.change", person=3, serial=A, name="Mine")
    for actor in ("user:3", "3"):
        assert listed(world, actor=actor) == [("devices.change", A)]
    assert listed(world, actor="user:1") == listed(world, actor="1") == whole


@pytest.mark.parametrize(
    "given", [{"from": "yesterday"}, {"to": "2027-13-01T00:00:00Z"}, {"cursor": "x"}]
)
def test_what_is_no_filter_is_refused(world: World, given: dict[str, Any]) -> None:
    assert world.ask("audit.list", **given) == "validation"


def test_pages_hold_everything_once(world: World, tree: dict[str, str]) -> None:
    whole = [item["id"] for item in world.do("audit.list", limit=500)["items"]]
    page = world.do("audit.list", limit=2)
    found = [item["id"] for item in page["items"]]
    while page["next_cursor"]:
        page = world.do("audit.list", limit=2, cursor=page["next_cursor"])
        found += [item["id"] for item in page["items"]]
    assert found == whole and len(whole) >= 5
    part = world.do("audit.export", format="json", limit=3)
    assert [item["id"] for item in part["items"]] == whole[:3]
    rest = world.do("audit.export", format="json", cursor=part["next_cursor"])
    assert [item["id"] for item in rest["items"]] == whole[3:] and rest["next_cursor"] is None


def test_each_sees_what_was_done_in_companies_of_theirs(world: World, tree: dict[str, str]) -> None:
    of = {
        person: {item["company_id"] for item in world.do("audit.list", person=person)["items"]}
        for person in (2, 3, 4)
    }
    assert of == {2: {tree["top"], tree["low"]}, 3: {tree["low"]}, 4: {tree["beside"]}}
    for name in ("audit.list", "audit.export"):
        assert world.ask(name, person=4, company=tree["top"]) == "not_found"
        assert world.ask(name, person=3, company=tree["top"]) == "not_found"
        assert world.ask(name, person=2, company=tree["low"]) == "ok"
    for role in ("advanced", "basic", "read_only", "billing"):
        world.write(partial(set_all_roles, role=role))
        assert world.do("audit.list", person=3)["items"] == []
        assert world.ask("audit.list", person=3, company=tree["low"]) == "forbidden"


def set_all_roles(tx: Transaction, role: str) -> None:
    tx.change("UPDATE membership SET role = ?", (role,))


def signed_in(tx: Transaction, user_agent: str) -> None:
    record(
        tx,
        "people.sign_in",
        actor="user:2",
        owner_id=None,
        company_id=None,
        device_id=None,
        serial=None,
        subject="2",
        detail={},
        personal=[Personal("user_agent", user_agent, 2)],
    )


def test_what_belongs_to_no_company_is_for_operators(world: World, tree: dict[str, str]) -> None:
    world.write(partial(signed_in, user_agent="=cmd()"))
    assert listed(world, verb="people.sign_in") == [("people.sign_in", "2")]
    assert listed(world, verb="people.sign_in", company=tree["top"]) == []
    assert listed(world, verb="people.sign_in", person=2) == []  # its own, even


def test_entries_are_sentences(world: World, tree: dict[str, str]) -> None:
    said = [item["sentence"] for item in world.do("audit.list", company=tree["top"])["items"]]
    assert f"Olga (user:1) registered {A}." in said
    assert f"Olga (user:1) made the company {tree['low']}." in said
    world.write(lambda tx: tx.change("UPDATE person SET erased_at = 1 WHERE id = 1", ()))
    item = world.do("audit.list", serial=A)["items"][0]
    assert (item["actor"], item["sentence"]) == (
        "erased (user:1)",
        f"erased (user:1) registered {A}.",
    )


@pytest.mark.parametrize(("format_", "delimiter"), [("csv", ","), ("csv-excel", ";")])
def test_no_cell_is_run_by_a_spreadsheet(
    world: World, tree: dict[str, str], format_: str, delimiter: str
) -> None:
    world.write(lambda tx: tx.change("UPDATE person SET name = '=cmd()|x' WHERE id = 1", ()))
    world.do("companies.change", company_id=tree["low"], name="@SUM(1)")
    made = world.do("audit.export", format=format_)
    assert (made["content_type"], made["file_name"]) == ("text/csv", "audit.csv")
    heading, *lines = csv.reader(io.StringIO(made["text"].lstrip("\ufeff")), delimiter=delimiter)
    assert heading[:4] == ["id", "at", "actor", "verb"] and heading[-1] == "detail"
    assert len(lines) == len(world.do("audit.list", limit=500)["items"])
    assert {len(line) for line in lines} == {len(heading)}
    for line in lines:
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert {line[2] for line in lines} == {"'=cmd()|x (user:1)"}
    assert '"name": "@SUM(1)"' in lines[0][-1]


def test_a_part_of_an_export_is_limited(world: World) -> None:
    for limit in (0, 20_001):
        with pytest.raises(ValueError, match="limit"):
            world.do("audit.export", limit=limit)
    assert world.ask("audit.export", limit=20_000) == "ok"
