"""Open sessions, commands and the agent's connection when a device changes hands."""

import pytest

from tests.contract.tunnel import S, Tunnel
from tests.contract.world import World


@pytest.mark.parametrize("history", ["keep", "leave"])
def test_sessions_end_and_the_agent_is_told_to_close_them(tunnel: Tunnel, history: str) -> None:
    world = tunnel.world
    opened = tunnel.open()
    tunnel.sent()
    other = world.company("Other")
    world.do("devices.move", serial=S, company_id=other, history=history)
    assert tunnel.show(opened["id"])["ended_because"] == "moved"
    # In its number and on its connection: the device goes on as if nothing had happened.
    assert [command.verb for command in tunnel.commands()] == ["close"]
    again = tunnel.open()
    assert again["state"] != "ended"
    assert [command.verb for command in tunnel.commands()] == ["open"]


def test_commands_of_the_seller_are_not_sent_any_more(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.do("commands.send", serial=S, verb="refresh")
    other = world.company("Other")
    world.do("devices.move", serial=S, company_id=other, history="leave")
    assert tunnel.sent() == []
    assert world.do("commands.list", serial=S)["items"] == []


def test_sessions_of_a_replaced_router_end(tunnel: Tunnel) -> None:
    world = tunnel.world
    opened = tunnel.open()
    world.do("devices.replace", broken=S, serial="0123456790")
    assert tunnel.show(opened["id"])["ended_because"] == "unregistered"
    assert tunnel.sent() == []


def test_sessions_of_a_company_that_closes_end(tunnel: Tunnel) -> None:
    world: World = tunnel.world
    opened = tunnel.open()
    world.do("companies.close", company_id=tunnel.acme, devices="unregister")
    assert tunnel.show(opened["id"])["ended_because"] == "unregistered"
