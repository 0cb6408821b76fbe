"""Doing the same to many devices: all of it or nothing, and the refusal says of which."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

A, B, C = "0000000001", "0000000002", "0000000003"


@pytest.fixture
def fleet(world: World) -> tuple[str, str]:
    """A reseller who pays, and a customer with three devices that wait to be activated."""
    top = world.company("Reseller")
    low = world.company("Customer", top, use_parent_credits=True)
    world.grant(top, 10)
    for serial in (A, B, C):
        world.register(serial, low, "later")
    return top, low


def act(world: World, action: str, *serials: str, **more: Any) -> Any:
    return world.do("devices.act-many", action=action, serials=list(serials), **more)


def refused(world: World, action: str, *serials: str, **more: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as told:
        act(world, action, *serials, **more)
    return told.value.code.value, told.value.detail


def test_many_are_activated_and_extended_in_one_transaction(
    world: World, fleet: tuple[str, str]
) -> None:
    top, low = fleet
    told = world.dry_run("devices.act-many", action="activate", serials=[A, B], credits=2)
    assert told["transfer_count"] == 2
    assert [one["days"] for one in told["left"]] == [300 - 4 * 30]
    assert world.pools(top) == 300
    done = act(world, "activate", B, A, B, credits=2)
    assert (done["devices"], done["serials"]) == (2, [A, B])
    assert (world.pools(top), world.prepaid(A), world.prepaid(B)) == (180, 60, 60)
    act(world, "extend", A, B)
    assert [world.device(one)["service"]["days_left"] for one in (A, B)] == [90, 90]
    assert world.kinds(A) == [("activate", 60), ("extend", 30)]
    # Each has an entry of its own, as if it had been asked for alone.
    entries = world.do("audit.list", company=low, verb="devices.extend")["items"]
    assert {(one["serial"], one["detail"]["credits"]) for one in entries} == {(A, 1), (B, 1)}
    world.check()


def test_one_that_cannot_be_stops_them_all_and_is_named(
    world: World, fleet: tuple[str, str]
) -> None:
    top, _ = fleet
    act(world, "activate", B)
    code, detail = refused(world, "activate", A, B, C)
    assert code == "already_active" and detail.startswith(f"'{B}': A period is running")
    assert refused(world, "extend", A, B)[0] == "not_active"
    code, detail = refused(world, "activate", A, C, credits=5)
    assert code == "credits_insufficient" and C in detail
    assert refused(world, "activate", A, "0000000099")[0] == "not_found"
    assert world.pools(top) == 270 and world.prepaid(A) == 0
    assert world.service(A) == ("off", "not_activated")


def test_extending_what_ran_out_unseen_is_like_extending_one(
    world: World, fleet: tuple[str, str]
) -> None:
    act(world, "activate", A, B)
    world.now_ms += 31 * DAY_MS  # and no job came by
    assert refused(world, "extend", A, B)[0] == "not_active"
    act(world, "activate", A, B)
    assert world.kinds(A)[-1] == ("activate", 30)
    world.check()


def test_switches_and_wishes_touch_only_what_is_otherwise(
    world: World, fleet: tuple[str, str]
) -> None:
    act(world, "activate", A, B)
    world.do("devices.switch-off", serial=A)
    assert act(world, "switch-off", A, B)["serials"] == [B]
    assert world.service(B) == ("off", "switched_off")
    assert act(world, "switch-on", A, B)["devices"] == 2
    assert world.service(A) == ("active", "paid")
    assert act(world, "auto-extend-off", A, B)["devices"] == 2
    assert act(world, "auto-extend-off", A, B)["devices"] == 0
    assert not world.device(A)["auto_extend"]
    assert act(world, "auto-extend-on", A)["serials"] == [A]


def test_tags_come_and_go_whatever_their_case(world: World, fleet: tuple[str, str]) -> None:
    world.do("devices.change", serial=A, tags=["Port", "north"])
    assert act(world, "add-tag", A, B, tag=" port ")["serials"] == [B]
    assert world.device(B)["tags"] == ["port"]
    found = world.do("devices.list", tag="PORT")["items"]
    assert [one["serial"] for one in found] == [A, B]
    assert act(world, "remove-tag", A, B, C, tag="port")["serials"] == [A, B]
    assert world.device(A)["tags"] == ["north"]
    assert refused(world, "add-tag", A, tag=" ")[0] == "validation"
    world.do("devices.change", serial=C, tags=[f"t{n}" for n in range(20)])
    code, detail = refused(world, "add-tag", A, C, tag="new")
    assert code == "validation" and C in detail
    assert world.device(A)["tags"] == ["north"]


def test_many_are_unregistered_and_what_they_lose_is_told_before(
    world: World, fleet: tuple[str, str]
) -> None:
    top, _ = fleet
    act(world, "activate", A, B)
    world.join(A)
    world.heartbeat(A)
    told = world.dry_run("devices.act-many", action="unregister", serials=[A, B, C])["would"]
    done = act(world, "unregister", A, B, C)
    assert done == told
    # One was never heard: its days go back. The other's are forfeited.
    assert (done["devices"], done["days_returned"]) == (3, 30)
    assert done["days_forfeited"] in (29, 30)
    assert world.pools(top) == 300 - 30
    assert world.do("devices.list")["items"] == []
    world.check()
