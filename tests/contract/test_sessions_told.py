"""Sessions as wanted state: devices and relays that come and go are told again."""

import pytest
from sqlalchemy import select, text

from gateway.domain.instants import MINUTE_MS, SECOND_MS
from gateway.operations import telling
from gateway.storage.schema import outbox, relay, session_usage
from tests.contract.test_session_access import claims
from tests.contract.tunnel import EPOCH, RELAY, S, Tunnel, usage
from wire.commands import Outcome
from wire.relay_control import REVOCATIONS_MAX, Happening, decode_lease, encode
from wire.session_commands import LinkState
from wire.tickets import Party, Way

pytestmark = pytest.mark.either_engine

# The device


def test_the_command_carries_a_ticket_made_when_it_goes_out(tunnel: Tunnel) -> None:
    made = tunnel.open(protocol="ssh")
    stored = tunnel.world.read(lambda tx: tx.scalar(select(outbox.c.args)))
    assert stored == f'{{"session": "{made["id"]}"}}'
    tunnel.world.now_ms += 3 * SECOND_MS
    (order,) = tunnel.orders()
    assert order._replace(ticket="") == (
        made["id"],
        EPOCH,
        "",
        ("127.0.0.1",),
        8885,
        ("127.0.0.1", 22),
        3597,
    )
    said = claims(order.ticket)
    assert (said.party, said.way, said.session) == (Party.DEVICE, Way.LINK, made["id"])
    assert (said.epoch, said.issued_ms) == (EPOCH, tunnel.world.now_ms)
    assert said.until_ms == tunnel.row(made["id"]).expires_at


def test_what_is_over_or_cannot_be_reached_is_not_sent(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.world.do("sessions.close", session_id=made)
    assert {one.why for one in tunnel.sent()} == {"session_over", ""}
    tunnel.open(minutes=1)
    tunnel.world.now_ms += 59 * SECOND_MS
    assert [order.left_s for order in tunnel.orders()] == [1]
    tunnel.open(minutes=1)
    tunnel.world.write(lambda tx: tx.run(text("UPDATE relay SET epoch = ''")))
    assert [one.why for one in tunnel.sent()] == ["relay_away"]


def test_each_sign_in_of_the_device_is_told_anew_and_only_once(tunnel: Tunnel) -> None:
    first, second = tunnel.open()["id"], tunnel.open()["id"]
    tunnel.world.do("sessions.close", session_id=tunnel.open()["id"])
    tickets = {order.ticket for order in tunnel.orders()}
    tunnel.sign_in_anew()
    again = tunnel.orders()
    assert {order.session for order in again} == {first, second}
    assert not tickets & {order.ticket for order in again}
    tunnel.world.up(S)  # the same connection says it again
    assert tunnel.orders() == []
    tunnel.world.up(S, connection=1)  # an older one means nothing
    tunnel.world.up(S, up=False)
    assert tunnel.orders() == []
    # A heartbeat came before the `up` of its connection.
    tunnel.world.router(S).connection += 1
    tunnel.world.heartbeat(S)
    assert tunnel.orders() == []
    tunnel.world.up(S)
    assert len(tunnel.orders()) == 2
    tunnel.world.router(S).restart(tunnel.world.new_run())
    tunnel.world.up(S)
    assert len(tunnel.orders()) == 2


def test_an_agent_that_is_unknown_to_the_relay_gets_a_new_ticket(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.orders()
    tunnel.world.now_ms += 1_999
    tunnel.report(made, LinkState.UNKNOWN)
    assert tunnel.orders() == []  # it was told a moment ago
    tunnel.sweep()
    assert tunnel.orders() == []
    tunnel.world.now_ms += 1
    tunnel.sweep()  # but it is not forgotten
    assert len(tunnel.orders()) == 1
    tunnel.world.now_ms += 2_000
    tunnel.sweep()
    assert tunnel.orders() == []  # once is enough
    tunnel.report(made, LinkState.UNKNOWN)
    assert len(tunnel.orders()) == 1
    for state in (LinkState.UP, LinkState.LOST, LinkState.FAILED, LinkState.OVER):
        tunnel.world.now_ms += MINUTE_MS
        tunnel.report(made, state, "no route")
        row = tunnel.row(made)
        assert (row.link_state, row.link_error, row.link_at) == (
            state.value,
            "no route",
            tunnel.world.now_ms,
        )
        assert tunnel.orders() == []


def test_a_device_says_nothing_of_another_ones_sessions(tunnel: Tunnel) -> None:
    tunnel.device("9876543210")
    made = tunnel.open()["id"]
    tunnel.sent()
    tunnel.world.now_ms += MINUTE_MS
    tunnel.report(made, LinkState.UNKNOWN, serial="9876543210")
    assert tunnel.row(made).link_at is None and tunnel.sent() == []
    tunnel.world.do("sessions.close", session_id=made)
    tunnel.report(made, LinkState.UP)
    assert tunnel.row(made).link_at is None


def test_a_damaged_report_is_put_aside(tunnel: Tunnel) -> None:
    payload = b'{"id":"session:x","outcome":"done","result":{"link":"up","error":""}}'
    outcome = tunnel.world.deliver((S, "ans", payload))
    assert outcome.malformed == 1


@pytest.mark.parametrize(
    ("outcome", "error", "again"),
    [
        (Outcome.FAILED, "dial_failed", True),
        (Outcome.REFUSED, "busy", True),
        (Outcome.REFUSED, "expired", True),
        (Outcome.REFUSED, "not_allowed", False),
        (Outcome.DONE, "", False),
    ],
)
def test_what_had_no_effect_is_said_again(
    tunnel: Tunnel, outcome: Outcome, error: str, again: bool
) -> None:
    made = tunnel.open()["id"]
    tunnel.orders()
    tunnel.answer(made, outcome, error=error)
    tunnel.world.now_ms += 14_999
    tunnel.sweep()
    assert tunnel.orders() == []
    tunnel.world.now_ms += 1
    tunnel.sweep()
    assert len(tunnel.orders()) == again
    tunnel.state(usage(made))
    tunnel.world.now_ms += MINUTE_MS
    tunnel.sweep()
    assert tunnel.orders() == []  # it has its link


# The relay


def test_a_new_life_of_the_relay_makes_every_device_dial_anew(tunnel: Tunnel) -> None:
    ids = {tunnel.open()["id"] for _ in range(3)}
    over = tunnel.open()["id"]
    tunnel.world.do("sessions.close", session_id=over)
    tunnel.sent()
    tunnel.state(*(usage(one, 5, 6) for one in ids), applied=1)
    tunnel.world.now_ms += MINUTE_MS
    tunnel.state(epoch="epoch-2")
    orders = tunnel.orders()
    assert {order.session for order in orders} == ids
    assert {order.epoch for order in orders} == {claims(o.ticket).epoch for o in orders}
    assert {order.epoch for order in orders} == {"epoch-2"}
    for one in ids:
        row = tunnel.row(one)
        assert (row.linked, row.linked_at) == (False, tunnel.world.now_ms)
    # Counts of both lives are added, and a late word of the former life changes nothing.
    tunnel.state(*(usage(one, 1, 1) for one in ids), epoch="epoch-2")
    tunnel.state(*(usage(one, 100, 100, link=False) for one in ids), epoch=EPOCH)
    assert tunnel.lease().epoch == "epoch-2" and tunnel.orders() == []
    for one in ids:
        row = tunnel.row(one)
        assert (row.bytes_to_device, row.bytes_from_device, row.linked) == (6, 7, True)


def test_a_relay_with_many_sessions_is_not_told_of_all_at_once(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "TOLD_AT_ONCE", 2)
    ids = {tunnel.open()["id"] for _ in range(5)}
    tunnel.sent()
    tunnel.state(epoch="epoch-2")
    assert len(first := tunnel.orders()) == 2
    tunnel.sweep()
    assert {order.session for order in first + tunnel.orders()} == ids


def test_counts_are_absolute_and_never_shrink(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]

    def counted() -> tuple[int, int]:
        row = tunnel.row(made)
        return row.bytes_to_device, row.bytes_from_device

    for given, expected in (
        ((10, 20), (10, 20)),
        ((10, 20), (10, 20)),
        ((15, 20), (15, 20)),
        ((12, 25), (15, 25)),
        ((0, 0), (15, 25)),
    ):
        tunnel.world.now_ms += 1
        tunnel.state(usage(made, *given))
        assert counted() == expected
    assert tunnel.row(made).used_at == tunnel.world.now_ms - 1
    rows = tunnel.world.read(lambda tx: tx.all(select(session_usage)))
    assert [(row.to_device, row.from_device) for row in rows] == [(15, 25)]


def test_happenings_are_taken_once_and_in_order(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    at = tunnel.world.now_ms
    both = (
        Happening(2, made, "link_lost", "", at),
        Happening(1, made, "link_up", "", at),
    )
    tunnel.state(happened=both)
    assert tunnel.row(made).linked is False and tunnel.lease().taken == 2
    tunnel.state(happened=both[1:])
    assert tunnel.row(made).linked is False  # it was taken before
    tunnel.state(happened=(Happening(3, made, "link_up", "", at),))
    assert tunnel.row(made).linked is True and tunnel.lease().taken == 3
    tunnel.world.now_ms += 5
    visit = Happening(4, made, "visitor", "", at)
    tunnel.state(happened=(visit, Happening(5, made, "refused", "timed_out", at)))
    row = tunnel.row(made)
    assert (row.refused_reason, row.refused_at) == ("timed_out", at + 5)
    tunnel.state(happened=(Happening(6, made, "something new", "", at),))
    tunnel.state(happened=(Happening(7, "f" * 32, "link_up", "", at),))
    assert tunnel.lease().taken == 7
    tunnel.state(epoch="epoch-2", happened=(Happening(1, made, "link_up", "", at),))
    assert tunnel.row(made).linked is True and tunnel.lease().taken == 1


@pytest.mark.parametrize(
    ("said", "because"),
    [("idle_streams", "idle_streams"), ("control_link_lost",) * 2, ("what?", "over")],
)
def test_what_the_relay_ends_has_ended(tunnel: Tunnel, said: str, because: str) -> None:
    made = tunnel.open()["id"]
    ended = (tunnel.happening(made, "ended", said),)
    tunnel.state(usage(made, 3, 4, link=False), happened=ended)
    assert tunnel.show(made)["ended_because"] == because
    entry = tunnel.entries(subject=made, verb="session.ended")[0]
    assert entry["actor"] == f"relay:{RELAY}"
    assert (entry["detail"]["bytes_out"], entry["detail"]["bytes_in"]) == (3, 4)


def test_revocations_are_repeated_until_they_are_applied(tunnel: Tunnel) -> None:
    ids = [tunnel.open()["id"] for _ in range(3)]
    for one in ids:
        tunnel.world.do("sessions.close", session_id=one)
    assert [one.session for one in tunnel.lease().revoked] == ids
    tunnel.state(applied=2)
    assert [one.number for one in tunnel.lease().revoked] == [3]
    assert [number for number, _, _ in tunnel.revoked()] == [3]
    tunnel.state(epoch="epoch-2")  # it forgot, and learns again what it had not confirmed
    assert [one.number for one in tunnel.lease().revoked] == [3]
    tunnel.state(epoch="epoch-2", applied=3)
    assert tunnel.lease().revoked == () and tunnel.lease().newest == 3
    assert decode_lease(encode(tunnel.lease())) == tunnel.lease()


def test_a_lease_has_its_limits(tunnel: Tunnel) -> None:
    columns = ("relay_id", "number", "session_id", "reason", "at")
    many = [(RELAY, number, f"{number:032x}", "closed", 0) for number in range(1, 601)]
    tunnel.world.write(lambda tx: tx.add_rows("revocation", columns, many))
    tunnel.world.write(lambda tx: tx.run(text("UPDATE relay SET newest = 600")))
    lease = tunnel.lease()
    assert (len(lease.revoked), lease.newest) == (REVOCATIONS_MAX, 600)
    assert lease.revoked[-1].number == REVOCATIONS_MAX
    assert decode_lease(encode(lease)) == lease


def test_after_a_backup_was_restored_nothing_lives_on_unseen(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    unknown = "ab" * 16
    tunnel.state(usage(unknown), applied=40)  # the relay is ahead of this database
    tunnel.state(usage(unknown), applied=40)
    assert tunnel.revoked() == [(41, unknown, "over")]
    tunnel.world.do("sessions.close", session_id=made)
    assert [one.number for one in tunnel.lease().revoked] == [41, 42]


def test_a_revocation_that_the_relay_would_take_for_an_old_one_is_renumbered(
    tunnel: Tunnel,
) -> None:
    made = tunnel.open()["id"]
    tunnel.world.do("sessions.close", session_id=made)
    tunnel.state(applied=40)
    assert tunnel.revoked() == [(41, made, "closed")] and tunnel.lease().newest == 41


def test_a_relay_that_nobody_set_up_is_nobody(tunnel: Tunnel) -> None:
    tunnel.world.write(lambda tx: tx.run(text("DELETE FROM relay")))
    tunnel.state()
    assert tunnel.world.read(lambda tx: tx.all(select(relay))) == []


def test_configuration_changes_leave_what_the_relay_said(tunnel: Tunnel) -> None:
    tunnel.register_relay(tls=True, port=443)
    row = tunnel.world.read(lambda tx: tx.one(select(relay)))
    assert row is not None and (row.epoch, row.public_port, row.tls) == (EPOCH, 443, True)
