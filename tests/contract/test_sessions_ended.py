"""Sessions end for every reason that there is, and people learn why one does not work."""

from functools import partial
from typing import Any

import pytest
from sqlalchemy import Select, text

from gateway.domain.instants import DAY_MS, MINUTE_MS, SECOND_MS
from gateway.jobs import sessions
from gateway.operations import telling
from gateway.operations.sessions import _wanted_of
from gateway.storage.schema import session
from gateway.storage.transaction import Transaction
from tests.contract.tunnel import S, Tunnel, usage
from tests.contract.world import World
from wire.commands import Outcome
from wire.endings import Ended
from wire.session_commands import LinkState

pytestmark = pytest.mark.either_engine

# The sweep


def ended_after(tunnel: Tunnel, made: str) -> str | None:
    tunnel.sweep()
    found: str | None = tunnel.show(made)["ended_because"]
    return found


def test_time_is_up(tunnel: Tunnel) -> None:
    made, longer = tunnel.open(minutes=5)["id"], tunnel.open(minutes=6)["id"]
    tunnel.world.now_ms += 5 * MINUTE_MS - 1
    assert ended_after(tunnel, made) is None
    tunnel.world.now_ms += 1
    assert ended_after(tunnel, made) == "expired"
    assert ended_after(tunnel, longer) is None
    assert tunnel.entries(subject=made)[-1]["detail"]["duration_s"] == 300


def test_unregistering_ends_sessions_in_the_same_breath(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.world.do("devices.unregister", serial=S)
    assert tunnel.row(made).ended_because == "unregistered"
    assert tunnel.revoked() == [(1, made, "unregistered")]
    assert tunnel.entries(subject=made)[-1]["actor"] == "Olga (user:1)"
    # Woken up, it does not get its sessions back.
    tunnel.world.register(S, tunnel.acme, True)
    tunnel.sign_in_anew()
    assert tunnel.orders() == []


def test_a_released_device_does_not_get_the_former_ones_sessions(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.world.join(S, secret="c")  # another box claims the serial
    assert ended_after(tunnel, made) is None
    tunnel.world.do("devices.release", serial=S)
    assert tunnel.row(made).ended_because == "released"


def test_no_service_no_session(tunnel: Tunnel) -> None:
    made = tunnel.open(minutes=720)["id"]
    tunnel.world.do("devices.change", serial=S, auto_extend=False)
    tunnel.world.write(lambda tx: tx.run(text("UPDATE session SET expires_at = expires_at * 2")))
    tunnel.world.live(31 * DAY_MS)
    assert tunnel.world.service(S)[0] != "active"
    assert ended_after(tunnel, made) == "service_unpaid"


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ("UPDATE company SET suspended_at = 1 WHERE id = 1", "company_suspended"),
        ("UPDATE device SET state = 'unpaid'", "service_unpaid"),
        ("UPDATE device SET state = 'off'", "service_unpaid"),
        ("UPDATE device SET registered = false", "unregistered"),
        ("UPDATE device SET ended_at = 1", "unregistered"),
        ("UPDATE session SET company_id = 2", "moved"),
        ("DELETE FROM membership WHERE person_id = 2", "right_lost"),
        ("UPDATE membership SET role = 'billing' WHERE person_id = 2", "right_lost"),
        ("UPDATE membership SET company_id = 2 WHERE person_id = 2", "right_lost"),
    ],
)
def test_whatever_takes_the_ground_away_ends_a_session(
    tunnel: Tunnel, change: str, because: str
) -> None:
    tunnel.world.company("Other")
    tunnel.world.one_person(2, tunnel.acme, "administrator")
    given = {"serial": S, "protocol": "tcp", "target": "192.168.1.60:7777"}
    made = tunnel.world.do("sessions.open", person=2, **given)["id"]
    assert ended_after(tunnel, made) is None
    tunnel.world.write(lambda tx: tx.run(text(change)))
    tunnel.sweep()
    assert tunnel.row(made).ended_because == because
    assert tunnel.revoked() == [(1, made, because)]
    assert Ended(because)
    tunnel.mend()


def test_a_right_from_above_counts_as_long_as_the_tree_stands(world: World) -> None:
    top = world.company("Top")
    world.grant(top, 5)
    tunnel = Tunnel(world)
    world.one_person(2, top, "administrator")
    world.do("companies.move", company_id=tunnel.acme, parent_id=top)
    given = {"serial": S, "protocol": "http"}
    made = world.do("sessions.open", person=2, **given)["id"]
    assert ended_after(tunnel, made) is None
    world.do("companies.move", company_id=tunnel.acme)
    tunnel.sweep()
    assert tunnel.row(made).ended_because == "right_lost"


def test_final_counts_reach_the_audit(tunnel: Tunnel) -> None:
    made, quiet = tunnel.open()["id"], tunnel.open()["id"]
    tunnel.state(usage(made, 10, 20))
    for one in (made, quiet):
        tunnel.world.do("sessions.close", session_id=one)
    tunnel.state(usage(made, 30, 40, link=False))
    tunnel.sweep()
    assert not tunnel.row(made).settled
    tunnel.world.now_ms += 10 * SECOND_MS
    tunnel.sweep()
    assert tunnel.row(made).settled and tunnel.row(quiet).settled
    last = tunnel.entries(subject=made)[-1]
    assert (last["verb"], last["detail"]["bytes_out"], last["detail"]["bytes_in"]) == (
        "session.counted",
        30,
        40,
    )
    assert last["detail"]["ended_because"] == "closed"
    assert tunnel.entries(subject=quiet)[-1]["verb"] == "session.ended"
    assert tunnel.show(made)["bytes_out"] == 30


def test_several_gateways_sweep_the_same_sessions(tunnel: Tunnel) -> None:
    ids = [tunnel.open(minutes=1)["id"] for _ in range(8)]
    tunnel.world.now_ms += MINUTE_MS
    results: list[Any] = tunnel.world.together([sessions.end_due] * 5)
    assert sum(results) == len(ids) == len(tunnel.revoked())


def _plan(tx: Transaction, made: Select[Any]) -> str:
    """How the engine would find the rows, were there many."""
    said = made.compile(tx.connection, compile_kwargs={"literal_binds": True})
    if tx.connection.dialect.name == "sqlite":
        return " ".join(row.detail for row in tx.all(text(f"EXPLAIN QUERY PLAN {said}")))
    tx.run(text("SET LOCAL enable_seqscan = off"))
    return " ".join(row[0] for row in tx.all(text(f"EXPLAIN {said}")))


def test_only_what_is_wanted_is_looked_at(tunnel: Tunnel) -> None:
    """The sweep asks each second; of sessions that are over there are many."""
    for made, index in (
        (sessions._due(1, 1), "ix_session_wanted_until"),
        (sessions._unsettled(1, 1), "ix_session_unsettled"),
        (telling._due(1), "ix_session_wanted"),
        (_wanted_of(session.c.device_id, 1, 1), "ix_session_wanted_device"),
        (_wanted_of(session.c.person_id, 1, 1), "ix_session_wanted_person"),
    ):
        whole = tunnel.world.read(partial(_plan, made=made))
        if tunnel.world.engine == "postgresql":
            index = "ix_session_"  # with few rows any of them will do
        assert index in whole and "SCAN outbox" not in whole, whole


# What visitors are told


def test_notes_say_what_the_diagnosis_says(tunnel: Tunnel) -> None:
    waiting, linked = tunnel.open()["id"], tunnel.open()["id"]
    tunnel.sent()
    tunnel.state(usage(linked))

    def note() -> tuple[str, str]:
        (found,) = tunnel.lease().notes
        assert found.session == waiting
        assert tunnel.hop(waiting) == (found.hop, found.code)
        return found.hop, found.code

    assert note() == ("agent", "open_sent")
    tunnel.answer(waiting, Outcome.REFUSED, error="not_allowed")
    assert note() == ("target", "not_allowed")
    tunnel.world.write(lambda tx: tx.run(text("UPDATE device_live SET presence = 'offline'")))
    assert note() == ("mqtt", "device_offline")
    tunnel.world.write(lambda tx: tx.run(text("UPDATE device SET state = 'unpaid'")))
    assert note() == ("gateway", "service_unpaid")
    tunnel.dismiss(1)
    (found,) = tunnel.lease().notes
    assert (found.hop, found.code) == ("person", "right_lost")
    tunnel.mend()


def test_a_lease_without_sessions_and_before_the_relay_was_heard(world: World) -> None:
    tunnel = Tunnel(world)
    assert tunnel.lease().notes == () and tunnel.lease().newest == 0
    world.write(lambda tx: tx.run(text("UPDATE relay SET epoch = ''")))
    with pytest.raises(AssertionError):
        tunnel.lease()


def test_a_diagnosis_from_opening_to_use(tunnel: Tunnel) -> None:
    made = tunnel.open(target="192.168.1.61:81")["id"]
    assert tunnel.hop(made) == ("agent", "open_waiting")
    tunnel.orders()
    assert tunnel.hop(made) == ("agent", "open_sent")
    tunnel.answer(made, Outcome.DONE)
    assert tunnel.hop(made) == ("agent", "dialling")
    tunnel.report(made, LinkState.FAILED, "Connection refused")
    assert tunnel.hop(made) == ("agent", "dial_failed")
    tunnel.report(made, LinkState.UP)
    tunnel.happens(made, "link_up")
    assert tunnel.hop(made) == (None, "")
    tunnel.happens(made, "refused", "timed_out")
    assert tunnel.hop(made) == ("target", "timed_out")
    tunnel.world.now_ms += 1
    tunnel.state(usage(made, 1, 1))
    assert tunnel.hop(made) == (None, "")
    tunnel.world.now_ms += 16 * SECOND_MS
    assert tunnel.hop(made) == ("relay", "relay_away")
    tunnel.state()
    tunnel.happens(made, "link_lost")
    tunnel.report(made, LinkState.LOST)
    assert tunnel.hop(made) == ("agent", "link_lost")
    tunnel.world.do("sessions.close", session_id=made)
    assert tunnel.hop(made) == ("person", "closed")
    shown = tunnel.world.do("sessions.diagnosis", session_id=made)
    assert shown["state"] == "ended" and "closed the session" in shown["advice"]


def test_a_device_that_left_is_signed_out_at_once(tunnel: Tunnel) -> None:
    """Long before it is late: its Last Will says that nobody hears commands there any more."""
    made = tunnel.open()["id"]
    tunnel.orders()
    tunnel.world.up(S, up=False)
    assert tunnel.hop(made) == ("mqtt", "device_signed_out")
    assert tunnel.orders() == []
    # It was there after all, as when an old connection's Will comes late.
    tunnel.world.heartbeat(S)
    assert tunnel.hop(made) == ("mqtt", "device_signed_out")
    tunnel.world.up(S)
    assert len(tunnel.orders()) == 1
    assert tunnel.hop(made) == ("agent", "open_sent")
