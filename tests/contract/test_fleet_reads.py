"""What the fleet's page reads besides the list: names of companies, tables, counts, forecasts."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

A, B, C = "0000000001", "0000000002", "0000000003"


def test_companies_are_read_by_their_ids_as_far_as_one_sees_them(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    other = world.company("Other")
    world.one_person(2, top, "administrator")
    found = world.do("companies.list", person=2, ids=[low, other, top])["items"]
    assert [one["name"] for one in found] == ["Top", "Low"]
    assert world.ask("companies.list", ids=["x"]) == "not_found"


def test_an_export_is_narrowed_as_the_list_is(world: World) -> None:
    top = world.company("Top")
    for serial, tags in ((A, ["north"]), (B, ["south"]), (C, ["north"])):
        world.do("devices.register", serial=serial, company_id=top, tags=tags, activate="later")
    narrowed: list[dict[str, Any]] = [
        {"tag": "north"},
        {"q": "0000002"},
        {"state": "active"},
        {"presence": "never"},
    ]
    for given in narrowed:
        listed = world.do("devices.list", **given)["items"]
        exported = world.do("devices.export", format="json", **given)["items"]
        assert [one["serial"] for one in exported] == [one["serial"] for one in listed]
    part = world.do("devices.export", format="json", tag="north", limit=1)
    assert ([one["serial"] for one in part["items"]], part["next_cursor"]) == ([A], A)


def test_what_ends_soon_is_counted_as_the_list_finds_it(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 10)
    for serial in (A, B):
        world.register(serial, top, True)
    world.register(C, top, "later")
    assert world.do("devices.counts")["ending"] == 0
    world.now_ms += 25 * DAY_MS
    world.do("devices.extend", serial=B)
    assert world.do("devices.counts")["ending"] == 1
    found = world.do("devices.list", days_left_max=7)["items"]
    assert [one["serial"] for one in found] == [A]


def test_a_forecast_counts_devices_of_a_day_together(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    world.grant(top, 10)
    for serial, company in ((A, top), (B, low), (C, low)):
        world.register(serial, company, True)
        world.join(serial)
        world.heartbeat(serial)
    forecast = world.do("companies.forecast", company_id=top)
    assert forecast["devices"] == 3
    # Seven credits are left: two more for each of three devices, in 30 and in 60 days.
    assert forecast["ahead"][-1]["days"] == 3 * 30 * 2
    assert forecast["lasts_until"] is not None
