"""The tree of companies says of each what its devices, its credits and its forecast say."""

from typing import Any

from tests.contract.world import World

SERIALS = [f"11000000{number:02}" for number in range(8)]
PEOPLE = {2: "administrator", 3: "advanced", 4: "basic", 5: "billing"}


def overview(world: World, **asked: Any) -> dict[str, Any]:
    """By the company's name."""
    found = world.do("companies.overview", **asked)
    return {one["company"]["name"]: one for one in found["items"]}


def grown(world: World) -> dict[str, str]:
    """A root, two companies below it, and one below these; one is paid for from above."""
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    side = world.company("Side", top)
    deep = world.company("Deep", low, use_parent_credits=True, plan="daily")
    world.grant(top, 9)
    world.do("credits.move", source=top, target=side, credits=3)
    for number, serial in enumerate(SERIALS):
        world.register(
            serial, (top, low, side, deep)[number % 4], activate=True if number < 6 else "later"
        )
        if number % 3 == 0:
            world.up(serial)
        world.heartbeat(serial)
    return {"Top": top, "Low": low, "Side": side, "Deep": deep}


def test_every_row_says_what_the_single_operations_say(world: World) -> None:
    made = grown(world)
    found = overview(world)
    assert set(found) == set(made)
    for name, company in made.items():
        row, counts = found[name], world.do("devices.counts", company=company)
        shown = world.do("companies.show", company_id=company)
        forecast = world.do("companies.forecast", company_id=company)
        assert row["company"] == shown
        assert row["devices"] == {
            "total": counts["total"],
            "online": counts["presence"]["online"],
            "unpaid": counts["service"]["unpaid"],
        }
        for fact in ("days", "credits", "lasts_until", "covered_by"):
            assert row[fact] == forecast[fact], (name, fact)
    assert {name: row["children"] for name, row in found.items()} == {
        "Top": 2,
        "Low": 1,
        "Side": 0,
        "Deep": 0,
    }
    assert found["Deep"]["covered_by"] == "above" and found["Side"]["lasts_until"]


def test_a_branch_a_name_and_the_top_are_asked_for(world: World) -> None:
    made = grown(world)
    assert set(overview(world, top=True)) == {"Top"}
    assert set(overview(world, parent=made["Top"])) == {"Low", "Side"}
    assert set(overview(world, q="dee")) == {"Deep"}
    first = world.do("companies.overview", limit=3)
    assert len(first["items"]) == 3
    rest = world.do("companies.overview", limit=3, cursor=first["next_cursor"])
    assert [one["company"]["name"] for one in rest["items"]] == ["Deep"]
    assert rest["next_cursor"] is None
    names = []
    cursor: str | None = ""
    while cursor is not None:
        page = world.do("companies.overview", sort="name", limit=1, cursor=cursor)
        names += [one["company"]["name"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert names == ["Deep", "Low", "Side", "Top"]
    # A cursor is no way to ask where a name that one does not see would stand.
    world.one_person(2, made["Side"], "administrator")
    asked = {"sort": "name", "cursor": made["Deep"]}
    assert world.ask("companies.overview", person=2, **asked) == "validation"
    assert world.do("companies.overview", q="nobody") == {"items": [], "next_cursor": None}


def test_each_role_is_told_what_it_may_know(world: World) -> None:
    made = grown(world)
    for person, role in PEOPLE.items():
        world.one_person(person, made["Low"], role)
    told = {role: overview(world, person=person) for person, role in PEOPLE.items()}
    for role in ("administrator", "advanced", "billing"):
        assert set(told[role]) == {"Low", "Deep"}
    assert set(told["basic"]) == {"Low"}
    low = {role: rows["Low"] for role, rows in told.items()}
    assert low["administrator"]["devices"]["total"] == 4
    assert low["advanced"]["days"] is None and low["advanced"]["knows_credits"]
    assert low["billing"]["devices"]["online"] is None and low["billing"]["days"] == 0
    # A basic user sees the devices of the company itself, and nothing of credits.
    assert low["basic"]["devices"]["total"] == 2 and not low["basic"]["knows_credits"]
    assert low["basic"]["children"] == 0


def test_the_members_of_many_companies_are_found_at_once(world: World) -> None:
    made = grown(world)
    for person, role in PEOPLE.items():
        world.one_person(person, made["Low"], role)
    world.one_person(6, made["Side"], "administrator")

    def found(person: int = 1, **asked: Any) -> list[tuple[str, str]]:
        items = world.do("members.find", person=person, **asked)["items"]
        return sorted((one["company_name"], one["email"][:7]) for one in items)

    low = [("Low", f"person{person}") for person in PEOPLE]
    assert found(2) == found(3) == low and found(6) == [("Side", "person6")]
    assert {*low, ("Side", "person6")} < set(found())
    assert found(company=made["Low"]) == low
    assert found(q="PERSON4@") == [("Low", "person4")] and found(q="%") == []
    first = world.do("members.find", person=2, limit=3)
    assert len(first["items"]) == 3 and first["next_cursor"]
    assert world.ask("members.find", person=5, company=made["Low"]) == "forbidden"
    assert world.ask("members.find", person=6, company=made["Low"]) == "not_found"
