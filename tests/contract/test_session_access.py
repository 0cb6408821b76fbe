"""Tickets to sessions, closing them, and the audit of both, on a real store."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import HOUR_MS, MINUTE_MS, SECOND_MS
from gateway.operations.session_ends import end_session
from gateway.storage.schema import outbox
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.tunnel import EPOCH, RELAY, S, Tunnel, usage
from tests.contract.world import SITE
from wire.endings import Ended
from wire.tickets import Claims, Party, Way, claims_of

pytestmark = pytest.mark.either_engine

PUBLIC = SITE.tickets._key.public_key()
STATE = hashlib.sha256(b"cookie").hexdigest()


def claims(ticket: str) -> Claims:
    """As a relay reads it: the expiry is the test's business, which has its own clock."""
    assert jwt.get_unverified_header(ticket) == {"alg": "EdDSA", "kid": "test", "typ": "JWT"}
    read = jwt.decode(
        ticket,
        PUBLIC,
        algorithms=["EdDSA"],
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims_of(read)


# Tickets


def test_a_connect_ticket_says_all_that_a_relay_needs(tunnel: Tunnel) -> None:
    made = tunnel.open("0123456789", protocol="ssh", minutes=2)
    given = {"session_id": made["id"], "way": "connect"}
    ticket = tunnel.world.do("sessions.ticket", **given)
    assert ticket == {
        "ticket": ticket["ticket"],
        "expires_at": "2027-01-15T00:01:00.000Z",
        "relay": {"hosts": ["127.0.0.1"], "port": 8885, "tls": False, "name": made["host"]},
    }
    now_ms = tunnel.world.now_ms
    said = claims(ticket["ticket"])
    assert said == Claims(
        jti=said.jti,
        session=made["id"],
        party=Party.VISITOR,
        way=Way.CONNECT,
        relay=RELAY,
        epoch=EPOCH,
        device=S,
        company=tunnel.acme,
        target="127.0.0.1:22",
        protocol="ssh",
        person="1",
        host=made["host"].partition(".")[0],
        until_ms=now_ms + 2 * MINUTE_MS,
        idle_streams_s=900,
        idle_bytes_s=3600,
        state="",
        issued_ms=now_ms,
        expires_ms=now_ms + MINUTE_MS,
    )
    tunnel.world.now_ms += 90 * SECOND_MS
    tunnel.state()
    again = tunnel.world.do("sessions.ticket", **given)
    assert claims(again["ticket"]).jti != said.jti
    assert claims(again["ticket"]).expires_ms == now_ms + 2 * MINUTE_MS  # never longer than it


def test_a_web_ticket_is_bound_to_a_browser(tunnel: Tunnel) -> None:
    made = tunnel.open()
    ticket = tunnel.world.do("sessions.ticket", session_id=made["id"], way="web", state=STATE)
    assert ticket.keys() == {"ticket", "expires_at", "url"} and ticket["url"] == made["url"]
    said = claims(ticket["ticket"])
    assert (said.way, said.state, said.party) == (Way.WEB, STATE, Party.VISITOR)
    for state in ("", "x" * 64, STATE[1:]):
        assert tunnel.ticket(made["id"], way="web", state=state) == "validation"
    assert tunnel.ticket(made["id"], state=STATE) == "validation"
    plain = tunnel.open(protocol="ssh")["id"]
    assert tunnel.ticket(plain, way="web", state=STATE) == "validation"


def test_only_the_sessions_own_person_gets_tickets(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.one_person(2, tunnel.acme, "administrator")
    world.one_person(3, world.company("Other"), "administrator")
    made = tunnel.open()["id"]
    given = {"session_id": made, "way": "connect"}
    assert world.ask("sessions.ticket", person=2, **given) == "forbidden"
    assert world.ask("sessions.ticket", person=3, **given) == "not_found"


def test_every_ticket_looks_at_everything_anew(tunnel: Tunnel) -> None:
    world = tunnel.world
    made = tunnel.open()["id"]
    assert tunnel.ticket(made) == "ok"

    def while_(change: str, back: str) -> str:
        world.write(lambda tx: tx.run(text(change)))
        try:
            return tunnel.ticket(made)
        finally:
            world.write(lambda tx: tx.run(text(back)))

    paid = "UPDATE device SET state = 'active'"
    assert while_("UPDATE device SET state = 'unpaid'", paid) == "service_unpaid"
    stopped = "UPDATE company SET suspended_at = 1", "UPDATE company SET suspended_at = NULL"
    assert while_(*stopped) == "company_suspended"
    billing = "UPDATE membership SET role = 'billing'"
    assert while_(billing, "UPDATE membership SET role = 'administrator'") == "forbidden"
    silent = f"UPDATE relay SET seen_at = seen_at - {15 * SECOND_MS + 1}"
    heard = f"UPDATE relay SET seen_at = {world.now_ms}"
    assert while_(silent, heard) == "unavailable"
    assert while_("UPDATE relay SET epoch = ''", f"UPDATE relay SET epoch = '{EPOCH}'") == (
        "unavailable"
    )
    assert tunnel.ticket(made) == "ok"
    world.now_ms += 60 * MINUTE_MS
    assert tunnel.ticket(made) == "session_over"  # whether or not a job came by
    tunnel.sweep()
    assert tunnel.ticket(made) == "session_over"


# Closing


def ending(row: AnyRow, reason: Ended) -> Callable[[Transaction], bool]:
    def end(tx: Transaction) -> bool:
        tx.lock_relay(row.relay_id)
        return end_session(tx, row, reason, "test")

    return end


def test_closing_tells_the_relay_the_agent_and_the_audit(tunnel: Tunnel) -> None:
    made = tunnel.open(reason="why not")["id"]
    tunnel.orders()
    tunnel.state(usage(made, 7, 9))
    tunnel.world.now_ms += 90 * SECOND_MS
    closed = tunnel.world.do("sessions.close", session_id=made)
    assert (closed["state"], closed["ended_because"], closed["ended_by"]) == (
        "ended",
        "closed",
        "user:1",
    )
    assert tunnel.revoked() == [(1, made, "closed")]
    assert tunnel.lease().revoked == ((1, made, "closed"),) and tunnel.lease().newest == 1
    (command,) = tunnel.commands()
    assert (command.verb, command.args) == ("close", {"session": made})
    opened, ended = tunnel.entries(subject=made)
    assert opened["verb"] == "session.opened" and opened["actor"] == "Olga (user:1)"
    assert opened["detail"] == {
        "target": "127.0.0.1:80",
        "target_name": "",
        "protocol": "http",
        "reason": "why not",
        "minutes": 60,
    }
    assert (ended["verb"], ended["owner"], ended["serial"]) == ("session.ended", "Olga", S)
    assert ended["detail"] == {
        **{name: opened["detail"][name] for name in ("target", "target_name", "protocol")},
        "reason": "why not",
        "ended_because": "closed",
        "duration_s": 90,
        "bytes_out": 7,
        "bytes_in": 9,
    }


def test_a_session_ends_once_whoever_ends_it(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    row = tunnel.row(made)
    closing = [tunnel.world.work("sessions.close", session_id=made) for _ in range(10)]
    tunnel.world.now_ms = row.expires_at
    results = tunnel.world.together([ending(row, Ended.EXPIRED), *closing, *closing])
    assert not [one for one in results if isinstance(one, Exception)]
    assert len(tunnel.revoked()) == 1
    assert [one["verb"] for one in tunnel.entries(subject=made)].count("session.ended") == 1
    asked = select(outbox.c.id).where(outbox.c.verb == "close")
    assert len(tunnel.world.read(lambda tx: tx.all(asked))) == 1
    # All who asked got the same answer: how it ended.
    assert {one.ended_because for one in results if hasattr(one, "ended_because")} <= {
        tunnel.show(made)["ended_because"]
    }
    # Closing is final.
    assert tunnel.world.do("sessions.close", session_id=made)["ended_at"] is not None
    assert len(tunnel.revoked()) == 1


def test_people_cannot_send_what_sessions_need(tunnel: Tunnel) -> None:
    for verb in ("open", "close"):
        args = {"session": "0" * 32}
        assert tunnel.world.ask("commands.send", serial=S, verb=verb, args=args) == "validation"
    made = tunnel.open()["id"]
    tunnel.orders()
    (shown,) = tunnel.world.do("commands.list", serial=S)["items"]
    assert shown["args"] == {"session": made}  # and no ticket


# The audit


def test_tickets_are_on_record_and_nothing_is_ever_changed(tunnel: Tunnel) -> None:
    world = tunnel.world
    made = tunnel.open()["id"]
    ticket = world.do("sessions.ticket", session_id=made, way="connect")["ticket"]
    entry = tunnel.entries(verb="session.ticket")[0]
    assert (entry["subject"], entry["detail"]["way"]) == (made, "connect")
    assert entry["detail"]["jti"] == claims(ticket).jti and ticket not in str(entry)
    assert entry["actor"] == "Olga (user:1)" and entry["owner"] == "Olga"
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(IntegrityError, match="never changed"):
            world.write(partial(Transaction.run, statement=text(statement)))
    first = world.do("audit.list", limit=1)
    assert [row["verb"] for row in first["items"]] == ["session.ticket"]
    rest = world.do("audit.list", cursor=first["next_cursor"])
    assert rest["items"][0]["verb"] == "session.opened"
    assert int(rest["items"][0]["id"]) < int(first["items"][0]["id"])


def test_the_audit_says_who_did_it_and_whose_session_it_was(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.one_person(2, tunnel.acme, "administrator")
    hers, ours, expired = (tunnel.open()["id"] for _ in range(3))
    world.do("sessions.close", person=2, session_id=hers)
    tunnel.happens(ours, "ended", "idle_bytes")
    world.now_ms += HOUR_MS
    tunnel.sweep()
    by, own = "P (user:2)", "Olga (user:1)"
    for session_id, actor in ((hers, by), (ours, f"relay:{RELAY}"), (expired, "gateway")):
        opened, ended = tunnel.entries(subject=session_id)
        assert (opened["actor"], opened["owner"]) == (own, "Olga")
        assert (ended["actor"], ended["owner"]) == (actor, "Olga")
    where = {"target": "192.168.1.50:80", "protocol": "http"}
    saved = world.do("targets.create", person=2, serial=S, name="PLC", **where)
    (created,) = tunnel.entries(subject=saved["id"], serial=S)
    assert (created["actor"], created["owner"]) == (by, None)  # targets are nobody's own


def test_the_audit_is_for_those_who_may_see_it(tunnel: Tunnel) -> None:
    world = tunnel.world
    below = world.company("Below", tunnel.acme)
    other = world.company("Other")
    world.one_person(2, below, "administrator")
    world.one_person(3, tunnel.acme, "billing")
    opened = tunnel.open()["id"]
    asked: tuple[dict[str, Any], ...] = ({"company": tunnel.acme}, {"serial": S}, {})
    for where in asked:
        entries = world.do("audit.list", verb="session.opened", **where)["items"]
        assert [entry["subject"] for entry in entries] == [opened]
    seen = world.do("audit.list", person=2)["items"]  # how the company below was made
    assert {entry["company_id"] for entry in seen} == {below}
    assert world.do("audit.list", person=3)["items"] == []
    assert {entry["subject"] for entry in world.do("audit.list", company=other)["items"]} == {other}
    assert world.ask("audit.list", person=3, company=tunnel.acme) == "forbidden"
    assert world.ask("audit.list", person=2, company=tunnel.acme) == "not_found"
