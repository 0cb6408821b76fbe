"""Devices change hands while the server's clock is in doubt: nothing is charged by it."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS
from tests.contract.faulty_clock import Watched
from tests.contract.world import World

S, NEW = "6003600501", "6003600502"


@pytest.fixture
def watched(world: World) -> Watched:
    return Watched(world)


def test_a_period_that_seems_over_goes_along_as_it_is(world: World, watched: Watched) -> None:
    old, new = world.company("Old"), world.company("New")
    world.grant(old, 2)
    world.grant(new, 2)
    world.register(S, old)
    world.join(S)
    world.heartbeat(S)
    until = world.device(S)["service"]["paid_until"]
    watched.step(40 * DAY_MS)
    watched.look()
    assert watched.guard.told().doubt
    world.do("devices.move", serial=S, company_id=new, history="keep")
    assert world.device(S)["service"]["paid_until"] == until
    assert (world.pools(old), world.pools(new), world.prepaid(S)) == (30, 60, 30)
    # What books days waits until people or time say that the clock is right.
    for name, given in (
        ("devices.move", {"serial": S, "company_id": old, "history": "leave"}),
        ("devices.replace", {"broken": S, "serial": NEW}),
        ("devices.forget", {"serial": S}),
        ("companies.close", {"company_id": new, "devices": "unregister"}),
    ):
        assert world.ask(name, **_any(given)) == "clock_in_doubt", name
    assert world.prepaid(S) == 30
    watched.step(-40 * DAY_MS)
    watched.look()
    world.do("clock.accept")
    watched.agree()
    watched.live(HOUR_MS)
    world.heartbeat(S)
    watched.live(30 * DAY_MS - 2 * HOUR_MS)
    world.heartbeat(S)
    watched.live(HOUR_MS)
    assert (world.pools(old), world.pools(new)) == (30, 30)
    assert world.service(S) == ("active", "paid")


def _any(given: dict[str, str]) -> dict[str, Any]:
    return dict(given)
