"""What is kept of sessions that are over, and for how long, on a real store."""

from typing import Any

from sqlalchemy import Table, func, insert, select, update

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.sessions import REVOCATION_KEPT_MS, SESSION_KEPT_MS, USAGE_KEPT_MS
from gateway.jobs import housekeeping
from gateway.storage.schema import audit, revocation, session, session_usage
from gateway.storage.transaction import Transaction
from tests.contract.tunnel import EPOCH, RELAY, Tunnel, usage


def clean(tunnel: Tunnel) -> list[int]:
    """All there is to delete; how many rows each step took."""
    steps = []
    while deleted := tunnel.world.write(housekeeping.clean):
        steps.append(deleted)
    return steps


def count(tunnel: Tunnel, table: Table) -> int:
    return int(tunnel.world.read(lambda tx: tx.scalar(select(func.count()).select_from(table))))


def counts(tunnel: Tunnel) -> tuple[int, int, int]:
    """Sessions, usages, revocations."""
    sessions, usages, revocations = (
        count(tunnel, table) for table in (session, session_usage, revocation)
    )
    return sessions, usages, revocations


def test_each_kind_has_its_time(tunnel: Tunnel) -> None:
    world = tunnel.world
    made, still = tunnel.open()["id"], tunnel.open()["id"]
    tunnel.state(usage(made, 7, 9), usage(still, 1, 1))
    world.do("sessions.close", session_id=made)
    closed_at = world.now_ms
    assert counts(tunnel) == (2, 2, 1)

    world.now_ms = closed_at + min(USAGE_KEPT_MS, REVOCATION_KEPT_MS)
    clean(tunnel)
    assert counts(tunnel) == (2, 2, 1)
    world.now_ms += 1
    clean(tunnel)
    assert counts(tunnel) == (2, 1, 0)
    shown = tunnel.show(made)
    assert (shown["bytes_out"], shown["bytes_in"]) == (7, 9)
    tunnel.sweep()  # the other one's time was over long ago, and counts from now

    world.now_ms = closed_at + SESSION_KEPT_MS
    clean(tunnel)
    assert counts(tunnel) == (2, 0, 0)
    entries = count(tunnel, audit)
    world.now_ms += 1
    clean(tunnel)
    assert counts(tunnel) == (1, 0, 0) and tunnel.show(still)["id"] == still
    assert world.ask("sessions.show", session_id=made) == "not_found"
    assert count(tunnel, audit) == entries
    assert [row["verb"] for row in tunnel.entries(subject=made)] == [
        "session.opened",
        "session.ended",
    ]


def test_a_session_that_is_wanted_is_kept_however_old(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.state(usage(made, 7, 9))
    tunnel.world.now_ms += SESSION_KEPT_MS + DAY_MS
    clean(tunnel)
    assert counts(tunnel) == (1, 1, 0)


def test_old_rows_go_in_small_steps(tunnel: Tunnel) -> None:
    most = housekeeping.ROWS_AT_ONCE
    made = tunnel.open()["id"]
    old = tunnel.world.now_ms - REVOCATION_KEPT_MS - 1

    def fill(tx: Transaction) -> None:
        row = tx.one(select(session).where(session.c.id == made))
        assert row is not None
        ended = {**row._mapping, "ended_at": old, "settled": True}
        for n in range(2 * most):
            at: dict[str, Any] = {"session_id": f"{n:032x}", "at": old}
            tx.run(insert(session), {**ended, "id": at["session_id"], "host": f"s-{n}"})
            counted = {"epoch": EPOCH, "to_device": n, "from_device": n}
            tx.run(insert(session_usage), {**at, **counted})
            tx.run(insert(revocation), {**at, "relay_id": RELAY, "number": n, "reason": "closed"})

    clean(tunnel)  # what else is over
    tunnel.world.write(fill)
    assert clean(tunnel) == [most] * 4
    assert counts(tunnel) == (2 * most + 1, 0, 0)

    def make_older(tx: Transaction) -> None:
        tx.lock_relay(RELAY)
        tx.run(update(session).values(created_at=1, ended_at=session.c.ended_at % 2 + 1))

    tunnel.world.write(make_older)
    assert clean(tunnel) == [most] * 2
    assert counts(tunnel) == (1, 0, 0)


def test_a_relay_that_comes_late_does_not_change_the_totals(tunnel: Tunnel) -> None:
    """What it counted in an earlier life is forgotten, so a sum would be too low."""
    made = tunnel.open()["id"]
    tunnel.state(usage(made, 7, 9))
    tunnel.state(usage(made, 1, 1), epoch="epoch-2")
    tunnel.world.do("sessions.close", session_id=made)
    tunnel.world.now_ms += USAGE_KEPT_MS + HOUR_MS
    clean(tunnel)
    tunnel.state(usage(made, 2, 2), epoch="epoch-2")
    row = tunnel.row(made)
    assert (row.bytes_to_device, row.bytes_from_device) == (8, 10)
    assert count(tunnel, session_usage) == 0


def test_a_relay_that_was_away_for_longer_catches_up(tunnel: Tunnel) -> None:
    made = tunnel.open()["id"]
    tunnel.world.do("sessions.close", session_id=made)
    tunnel.world.now_ms += REVOCATION_KEPT_MS + 1
    clean(tunnel)
    lease = tunnel.lease()
    assert (lease.newest, lease.revoked) == (1, ())
    tunnel.state(applied=1)
    assert tunnel.lease().newest == 1
