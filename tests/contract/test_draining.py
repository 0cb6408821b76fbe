"""A relay is taken out of service: nothing new goes there, what lives goes on, then it leaves."""

import pytest

from gateway.api.tunnel_status import count_tunnels
from gateway.operations.relays import take_state
from tests.contract.tunnel import RELAY, Tunnel
from tests.contract.world import World
from tests.relay_row import one_relay
from wire.relay_control import State

OTHER = "relay-2"
OTHER_EPOCH = "epoch-2"


def other(world: World) -> None:
    world.write(lambda tx: one_relay(tx, OTHER))
    world.write(lambda tx: take_state(tx, OTHER, State(OTHER_EPOCH, 0, 0, 0, 0)))


def drained(world: World) -> dict[str, tuple[bool, int]]:
    found = world.read(count_tunnels).relays
    return {one.id: (one.draining, one.sessions) for one in found}


def test_what_is_open_goes_on_and_new_sessions_go_elsewhere(tunnel: Tunnel) -> None:
    world = tunnel.world
    old = tunnel.open()["id"]
    other(world)
    assert world.do("relays.drain", relay_id=RELAY) == {
        "id": RELAY,
        "draining": True,
        "sessions": 1,
    }
    # It has fewer sessions than the other one, and is heard later.
    for _ in range(2):
        assert tunnel.row(tunnel.open()["id"]).relay_id == OTHER
    assert tunnel.row(old).relay_id == RELAY and tunnel.ticket(old) == "ok"
    assert drained(world) == {RELAY: (True, 1), OTHER: (False, 2)}
    assert not tunnel.lease().leave
    world.do("sessions.close", session_id=old)
    assert tunnel.lease().leave
    # Its next life takes sessions again.
    tunnel.state(epoch="epoch-3")
    assert not tunnel.lease().leave
    assert drained(world)[RELAY] == (False, 0)
    assert tunnel.row(tunnel.open()["id"]).relay_id == RELAY


def test_where_every_relay_is_drained_a_session_is_refused_until_one_is_put_back(
    tunnel: Tunnel,
) -> None:
    world = tunnel.world
    for _ in range(2):  # twice is not too often
        world.do("relays.drain", relay_id=RELAY)
    assert tunnel.refused() == "unavailable"
    assert tunnel.lease().leave
    assert not world.do("relays.drain", relay_id=RELAY, drain=False)["draining"]
    assert not tunnel.lease().leave
    tunnel.open()
    said = [one["detail"]["drain"] for one in tunnel.entries() if one["verb"] == "relays.drain"]
    assert said == [True, True, False]


@pytest.mark.parametrize("relay_id", ["relay-9", "", "'; drop table relay"])
def test_an_unknown_relay_is_not_found(tunnel: Tunnel, relay_id: str) -> None:
    assert tunnel.world.ask("relays.drain", relay_id=relay_id) == "not_found"


def test_a_relay_that_was_never_heard_is_not_drained(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.write(lambda tx: one_relay(tx, OTHER))
    assert world.ask("relays.drain", relay_id=OTHER) == "unavailable"
    assert world.ask("relays.drain", relay_id=OTHER, drain=False) == "ok"
    assert drained(world)[OTHER] == (False, 0)
