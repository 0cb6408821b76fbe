"""Sessions on a real store: who may open which, and who sees what."""

import re
import sqlite3
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from gateway.domain.instants import MINUTE_MS
from gateway.domain.sessions import SESSIONS_OF_DEVICE_MAX, SESSIONS_OF_PERSON_MAX
from gateway.operations import newest_first
from gateway.operations import sessions as session_operations
from tests.contract.tunnel import RELAY, S, Tunnel, usage
from tests.contract.world import World
from tests.relay_row import one_relay

# Opening


def test_a_session_as_scripts_see_it(tunnel: Tunnel) -> None:
    made = tunnel.open(reason="  the   PLC is stuck ")
    host = made["host"].removesuffix(".localhost")
    assert re.fullmatch("s-[a-z2-7]{26}", host) and re.fullmatch("[0-9a-f]{32}", made["id"])
    assert made == {
        **made,
        "serial": S,
        "company_id": tunnel.acme,
        "target": "127.0.0.1:80",
        "target_name": "",
        "protocol": "http",
        "state": "waiting",
        "person": "Olga",
        "person_id": "1",
        "reason": "the PLC is stuck",
        "created_at": "2027-01-15T00:00:00.000Z",
        "expires_at": "2027-01-15T01:00:00.000Z",
        "url": f"http://{host}.localhost:8885/",
        "others": [],
        "bytes_in": 0,
        "bytes_out": 0,
        "ended_because": None,
    }
    assert tunnel.show(made["id"]) == made
    tunnel.state(usage(made["id"], 10, 20))
    assert tunnel.show(made["id"]) == {
        **made,
        "state": "open",
        "link_since": "2027-01-15T00:00:00.000Z",
        "last_used_at": "2027-01-15T00:00:00.000Z",
        "bytes_out": 10,
        "bytes_in": 20,
    }


def test_url_says_how_the_relay_is_reached(tunnel: Tunnel) -> None:
    tunnel.register_relay(tls=True, port=443)
    made = tunnel.open(protocol="https")
    assert made["url"] == f"https://{made['host']}/"
    assert tunnel.open(protocol="ssh")["url"] is None


def test_no_record_no_session(tunnel: Tunnel) -> None:
    """What cannot be put on record does not happen."""
    before = tunnel.counts()
    refuse = {
        "sqlite": "CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END",
        "postgresql": "ALTER TABLE audit ADD CONSTRAINT no CHECK (false) NOT VALID",
    }
    tunnel.world.write(lambda tx: tx.run(text(refuse[tx.connection.dialect.name])))
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        tunnel.open()
    assert tunnel.counts() == before


def test_who_may_not_and_what_cannot(tunnel: Tunnel) -> None:
    world = tunnel.world
    other = world.company("Other")
    world.one_person(2, other, "administrator")
    world.one_person(3, tunnel.acme, "billing")
    given = {"serial": S, "protocol": "http"}
    assert world.ask("sessions.open", person=2, **given) == "not_found"
    assert world.ask("sessions.open", person=3, **given) == "forbidden"
    for minutes in (0, 721):
        with pytest.raises(Exception, match="minutes"):
            tunnel.open(minutes=minutes)
    with pytest.raises(Exception, match="reason"):
        tunnel.open(reason="x" * 201)
    assert tunnel.refused(reason="bell\x07") == "validation"
    assert tunnel.open(minutes=720)["expires_at"] == "2027-01-15T12:00:00.000Z"
    assert tunnel.refused("9876543210") == "not_found"


def test_a_device_that_is_unpaid_stopped_or_unknown_to_the_server(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.register("9876543210", tunnel.acme, True)
    assert tunnel.refused("9876543210") == "not_joined"
    world.register("later-device", tunnel.acme, "later")
    assert tunnel.refused("later-device") == "service_unpaid"
    world.do("companies.suspend", company_id=tunnel.acme, reason="unpaid bills")
    assert tunnel.refused() == "company_suspended"
    world.do("companies.resume", company_id=tunnel.acme)
    assert tunnel.refused() == "ok"


def test_without_a_relay_there_is_no_session(world: World) -> None:
    made = Tunnel.__new__(Tunnel)
    made.world, made.acme = world, world.company("Acme")
    world.grant(made.acme, 1)
    made.device(S)
    assert made.refused() == "unavailable"
    made.register_relay()
    assert made.refused() == "ok"  # it may be heard yet


def test_a_relay_that_was_heard_is_preferred(tunnel: Tunnel) -> None:
    tunnel.world.write(lambda tx: one_relay(tx, "relay-0"))
    assert tunnel.row(tunnel.open()["id"]).relay_id == RELAY


def test_a_device_that_is_away_is_told_when_it_comes(tunnel: Tunnel) -> None:
    tunnel.world.up(S, up=False)
    tunnel.world.write(
        lambda tx: tx.run(text("UPDATE device_live SET presence = 'offline', nonce = NULL"))
    )
    made = tunnel.open()
    assert made["state"] == "waiting"
    assert [one.why for one in tunnel.sent()] == ["signed_out"]
    tunnel.sign_in_anew()
    (order,) = tunnel.orders()
    assert order.session == made["id"]


def test_limits_of_a_device_and_of_a_person(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [tunnel.open()["id"] for _ in range(SESSIONS_OF_DEVICE_MAX)]
    assert tunnel.refused() == "too_many_sessions"
    tunnel.world.do("sessions.close", session_id=ids[0])
    assert tunnel.refused() == "ok"
    monkeypatch.setattr(session_operations, "SESSIONS_OF_PERSON_MAX", SESSIONS_OF_DEVICE_MAX + 1)
    assert SESSIONS_OF_PERSON_MAX == 50
    tunnel.device("9876543210")
    assert tunnel.refused("9876543210") == "ok"
    assert tunnel.refused("9876543210") == "too_many_sessions"
    # What is over does not count, even before the job comes by.
    tunnel.world.now_ms += 61 * MINUTE_MS
    assert tunnel.refused("9876543210") == "ok"


def test_a_race_for_the_last_place_has_one_winner(tunnel: Tunnel) -> None:
    work = [tunnel.world.work("sessions.open", serial=S, protocol="http") for _ in range(20)]
    results = tunnel.world.together(work)
    made = [one.id for one in results if hasattr(one, "id")]
    assert len(made) == SESSIONS_OF_DEVICE_MAX == len(set(made))


# Seeing


def test_others_at_the_same_target_are_named(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.one_person(2, tunnel.acme, "administrator")
    first = tunnel.open()
    second = world.do("sessions.open", person=2, serial=S, protocol="https", target="127.0.0.1:80")
    tunnel.open(protocol="ssh")
    since = "2027-01-15T00:00:00.000Z"
    assert second["others"] == [{"person": "Olga", "protocol": "http", "since": since}]
    shown = tunnel.show(first["id"])["others"]
    assert shown == [{"person": "P", "protocol": "https", "since": since}]
    world.do("sessions.close", session_id=second["id"])  # an administrator may
    assert tunnel.show(first["id"])["others"] == []
    assert tunnel.show(second["id"])["ended_by"] == "user:1"


def test_lists_hold_what_one_may_see(tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tunnel.world
    below = world.company("Below", tunnel.acme)
    world.one_person(2, below, "administrator")
    world.one_person(3, tunnel.acme, "administrator")
    mine = tunnel.open()["id"]
    world.now_ms += 1
    theirs = world.do("sessions.open", person=3, serial=S, protocol="ssh")["id"]
    tunnel.state(usage(theirs))

    def listed(person: int = 1, **where: Any) -> list[str]:
        return [row["id"] for row in world.do("sessions.list", person=person, **where)["items"]]

    assert listed() == listed(serial=S) == listed(company=tunnel.acme) == [theirs, mine]
    assert listed(mine=True) == listed(state="waiting") == [mine]
    assert listed(state="open") == [theirs]
    assert listed(serial="9876543210") == listed(company=below) == listed(person=2) == []
    assert world.ask("sessions.list", person=2, company=tunnel.acme) == "not_found"
    assert world.ask("sessions.show", person=2, session_id=mine) == "not_found"
    assert world.ask("sessions.close", person=2, session_id=mine) == "not_found"
    assert world.ask("sessions.show", session_id="0" * 32) == "not_found"
    assert world.ask("sessions.show", session_id="../x") == "not_found"
    world.do("sessions.close", session_id=mine)
    assert listed(state="ended") == [mine]
    page = world.do("sessions.list", limit=1)
    assert [row["id"] for row in page["items"]] == [theirs]
    assert listed(cursor=page["next_cursor"]) == [mine]
    assert world.ask("sessions.list", cursor="x") == "validation"
    # However many companies one sees, the answer is the same.
    monkeypatch.setattr(newest_first, "COMPANIES_FEW", 0)
    assert listed() == listed(company=tunnel.acme) == [theirs, mine] and listed(person=2) == []
    # One's own are seen for ever, others' only with the right.
    tunnel.dismiss(3)
    assert listed(person=3) == [theirs]
