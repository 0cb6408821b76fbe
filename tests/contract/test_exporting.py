"""Devices as a table: what is exported can be imported again, and shows what one may see."""

from typing import Any

from tests.contract.test_importing import A, B, text
from tests.contract.world import World


def test_what_is_exported_can_be_imported_again(world: World) -> None:
    top = world.company("Top")
    child = world.company("Child", top)
    world.do(
        "devices.register",
        serial="-abcdef",
        company_id=child,
        name="=cmd()|'x'!A1",
        alias="pump",
        tags=["a|b", "[c", "-d"],
        notes='two\nlines, "quoted";\tand more',
        reference="@home",
        activate="later",
    )
    world.do("devices.register", serial=A, company_id=top, name="'=quoted", tags=["a", "b"])
    world.do("devices.register", serial=B, company_id=top, name="  +1 ", auto_extend=False)
    for format_ in ("csv", "csv-excel"):
        exported = world.do("devices.export", company=top, format=format_)["text"]
        assert "'=cmd()|" in exported and "'@home" in exported and ",=" not in exported
        described = {one: known(world, one) for one in ("-abcdef", A, B)}
        for serial in described:
            world.do("devices.forget", serial=serial)
        made = world.do("devices.import", company_id=top, csv=exported)
        assert made["new"] == 3
        assert {one: known(world, one) for one in described} == described
        assert world.do("devices.export", company=top, format=format_)["text"] == exported


def known(world: World, serial: str) -> dict[str, Any]:
    names = "name alias mac company_id tags notes reference auto_extend".split()
    shown = world.device(serial)
    return {name: shown[name] for name in names} | {"start": world.row(serial).start}


def test_an_export_holds_what_one_may_see_in_parts_or_whole(world: World) -> None:
    top = world.company("Top")
    child = world.company("Child", top, use_parent_credits=True)
    world.grant(top, 1)
    world.one_person(2, child, "billing")
    world.do("devices.import", company_id=top, csv=text(f"{A},{child}", B, header="serial,company"))
    world.join(A)
    world.heartbeat(A)
    whole = world.do("devices.export", format="json")
    assert [one["serial"] for one in whole["items"]] == [A, B]
    assert whole["items"][0]["payer"] == top and whole["items"][0]["presence"] == "online"
    mine = world.do("devices.export", person=2, format="json")["items"]
    assert [one["serial"] for one in mine] == [A]
    assert world.ask("devices.export", person=2, company=top) == "not_found"
    part = world.do("devices.export", format="json", limit=1)
    assert part["next_cursor"] == A
    assert world.do("devices.export", format="csv", limit=1, cursor=A)["text"].count("\r\n") == 2
    assert world.do("devices.export", company=top, descendants=False)["text"].count(B) == 1
    assert A not in world.do("devices.export", company=top, descendants=False)["text"]
