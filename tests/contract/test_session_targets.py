"""Saved targets, and what is meant by a target, on a real store."""

from typing import Any

import pytest

from gateway.domain.refusals import Code, Refused
from tests.contract.tunnel import S, Tunnel

pytestmark = pytest.mark.either_engine


@pytest.mark.parametrize(
    ("asked", "protocol", "found"),
    [
        ("", "https", "127.0.0.1:443"),
        ("", "ssh", "127.0.0.1:22"),
        ("127.0.0.1:8080", "http", "127.0.0.1:8080"),
        ("192.168.1.50", "http", "192.168.1.50:80"),
        ("192.168.1.60:7777", "tcp", "192.168.1.60:7777"),
        ("plc.lan", "vnc", "plc.lan:5900"),
        ("plc:81", "http", "plc:81"),
        ("fd00::1", "http", "[fd00::1]:80"),
        ("[fd00::1]:81", "http", "[fd00::1]:81"),
        # However an address is spelt, the router's own list decides.
        ("0x7f.1:80", "http", "0x7f.1:80"),
        ("0x7f.1", "http", "0x7f.1:80"),
        ("127.1:80", "http", "127.1:80"),
        ("::ffff:127.0.0.1", "http", "[::ffff:7f00:1]:80"),
        ("PLC.lan:81", "http", "plc.lan:81"),
        ("the PLC", "http", "192.168.1.50:8080"),
        ("The  plc", "", "192.168.1.50:8080"),
        ("", "tcp", None),
        ("192.168.1.50", "tcp", None),
        ("192.168.1.50", "", None),
        ("", "gopher", None),
        ("192.168.1.50:0", "http", None),
        ("192.168.1.50:65536", "http", None),
        ("192.168.1.50:", "http", None),
        ("a b", "http", None),
        ("http://192.168.1.50/", "http", None),
    ],
)
def test_what_is_meant_by_a_target(
    tunnel: Tunnel, asked: str, protocol: str, found: str | None
) -> None:
    where: dict[str, Any] = {"target": "192.168.1.50:8080", "protocol": "http"}
    tunnel.world.do("targets.create", serial=S, name="The PLC", **where)
    if found is None:
        assert tunnel.refused(target=asked, protocol=protocol) == "validation"
    else:
        made = tunnel.open(target=asked, protocol=protocol)
        assert made["target"] == found
        assert made["target_name"] == ("The PLC" if "PLC" in asked.upper() and " " in asked else "")


def test_a_misspelt_name_is_not_taken_for_a_hosts(tunnel: Tunnel) -> None:
    for asked, protocol in (("plcc", "http"), ("plcc", ""), ("the plc\x1b", "http")):
        given: dict[str, Any] = {"serial": S, "target": asked, "protocol": protocol}
        with pytest.raises(Refused) as caught:
            tunnel.world.do("sessions.open", **given)
        assert (caught.value.code, caught.value.field) == (Code.VALIDATION, "target")
        assert str(caught.value) == (
            f"target: there is no saved target {asked!r}; write host:port, or save it first"
        )


# Saved targets


def test_saved_targets(tunnel: Tunnel) -> None:
    world = tunnel.world
    given: dict[str, Any] = {
        "serial": S,
        "name": " The  PLC",
        "target": "192.168.1.50",
        "protocol": "http",
    }
    made = world.do("targets.create", **given)
    assert made == {
        **made,
        "serial": S,
        "name": "The PLC",
        "target": "192.168.1.50:80",
        "protocol": "http",
    }
    assert world.ask("targets.create", **{**given, "name": "the plc"}) == "name_taken"
    for wrong in ({"name": "a:b"}, {"name": ""}, {"target": "0x7f.1:1"}, {"protocol": "x"}):
        assert world.ask("targets.create", **{**given, "name": "b", **wrong}) == "validation"
    second = world.do("targets.create", **{**given, "name": "b", "target": "h.lan:1"})
    assert [row["name"] for row in world.do("targets.list", serial=S)["items"]] == ["The PLC", "b"]
    change: dict[str, Any] = {"target_id": second["id"]}
    assert world.ask("targets.change", **change, name="THE PLC") == "name_taken"
    changed = world.do("targets.change", **change, name="c", target="h.lan", protocol="ssh")
    assert (changed["name"], changed["target"], changed["protocol"]) == ("c", "h.lan:22", "ssh")
    world.one_person(2, world.company("Other"), "administrator")
    world.one_person(3, tunnel.acme, "billing")
    assert world.ask("targets.delete", person=2, **change) == "not_found"
    assert world.ask("targets.list", person=3, serial=S) == "forbidden"
    assert world.ask("targets.delete", target_id="x") == "not_found"
    world.do("targets.delete", **change)
    assert world.ask("targets.change", **change, name="d") == "not_found"
    # Something else may have the same number.
    verbs = [row["verb"] for row in tunnel.entries(subject=second["id"], serial=S)]
    assert verbs == ["target.created", "target.changed", "target.deleted"]


def test_a_session_to_a_saved_target_needs_the_lesser_right_for_good(tunnel: Tunnel) -> None:
    world = tunnel.world
    where: dict[str, Any] = {"target": "192.168.1.50:80", "protocol": "http"}
    saved = world.do("targets.create", serial=S, name="PLC", **where)
    rights = [
        tunnel.row(tunnel.open(target=asked)["id"]).right
        for asked in ("", "PLC", "192.168.1.50", "192.168.1.51")
    ]
    assert rights == ["reach", "reach", "reach", "reach_any"]
    world.do("targets.delete", target_id=saved["id"])
    tunnel.sweep()
    assert world.do("sessions.list", state="waiting")["items"][3]["ended_because"] is None
