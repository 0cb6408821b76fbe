"""What hot paths write in one statement is what many plain statements would have written."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, exists, select

from gateway.domain.instants import HOUR_MS, MINUTE_MS
from gateway.domain.ledger import Kind
from gateway.operations.booking import EXPIRED, Booking, Journal, LedgerBroken
from gateway.storage.compiled import CompiledSelect
from gateway.storage.locks import Level
from gateway.storage.schema import (
    account,
    device,
    device_live,
    enrolment,
    late_hour,
    quarantine,
    transfer,
)
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.world import World

S, T, U = "1100000001", "1100000002", "1100000003"
AWKWARD = [
    "",
    "NULL",
    "null",
    '"',
    "\\",
    '\\"',
    "{a,b}",
    "a,b",
    " a ",
    "new\nline\ttab",
    "%s ? {} $1 :a",
    "Ünïcødé 🛰",
    "\\x00",
]


@pytest.fixture
def three(world: World) -> World:
    acme = world.company("Acme")
    world.grant(acme, 5)
    for serial in (S, T, U):
        world.register(serial, acme)
        world.join(serial)
        world.up(serial)
    # These tests write past the operations, which would have kept the devices findable.
    world.findable = False
    return world


def rows_of(world: World, statement: Any) -> list[AnyRow]:
    return list(world.read(lambda tx: tx.all(statement)))


def ids(world: World) -> list[int]:
    return [row.id for row in rows_of(world, select(device.c.id).order_by(device.c.id))]


def locked(function: Callable[[Transaction], Any]) -> Callable[[Transaction], Any]:
    def work(tx: Transaction) -> Any:
        tx.lock_devices(select(device.c.id))
        return function(tx)

    return work


@pytest.mark.parametrize("text", AWKWARD)
def test_a_text_is_kept_as_it_is(three: World, text: str) -> None:
    some = [(text, text, id_) for id_ in ids(three)]
    three.write(locked(lambda tx: tx.change_rows("device", ("notes", "alias", "id"), some)))
    kept = rows_of(three, select(device.c.notes, device.c.alias, device.c.id).order_by(device.c.id))
    assert [tuple(row) for row in kept] == some


def test_every_type_of_column_and_nothing_at_all(three: World) -> None:
    first, second, third = ids(three)
    values = [
        (bytes(range(256)), True, 2**62, None, first),
        (b"", False, 0, "", second),
        (b"\\x\"'", True, -1, "a", third),
    ]
    columns = ("recent", "need_full", "upto", "nonce", "device_id")
    three.write(locked(lambda tx: tx.change_rows("device_live", columns, values)))
    kept = rows_of(
        three,
        select(*(device_live.c[name] for name in columns)).order_by(device_live.c.device_id),
    )
    assert [tuple(row) for row in kept] == values
    three.write(locked(lambda tx: tx.change_rows("device_live", columns, [])))
    assert rows_of(three, select(device_live.c.upto))


@pytest.mark.parametrize("many", [0, 1, 3, 4, 7, 8, 40])
def test_rows_are_added_in_their_order(three: World, many: int) -> None:
    some = [(f"topic {n}", AWKWARD[n % len(AWKWARD)], bytes([n, 0]), n) for n in range(many)]
    columns = ("topic", "reason", "payload", "at")
    three.write(lambda tx: tx.add_rows("quarantine", columns, some))
    kept = rows_of(
        three, select(*(quarantine.c[name] for name in columns)).order_by(quarantine.c.id)
    )
    assert [tuple(row) for row in kept] == some


@pytest.mark.parametrize("many", [1, 3, 5, 30])
def test_many_statements_say_how_many_rows_they_touched(three: World, many: int) -> None:
    some = [(f"name {n}", id_) for n, id_ in enumerate([*ids(three), -1] * many)]
    statement = "UPDATE device SET name = ? WHERE id = ?"
    assert three.write(locked(lambda tx: tx.change_many(statement, some))) == 3 * many


def test_devices_are_found_by_their_serials_and_locked(three: World) -> None:
    def look(tx: Transaction) -> list[str]:
        found = tx.fetch_devices(
            "SELECT d.serial, l.device_id FROM device AS d JOIN device_live AS l"
            " ON l.device_id = d.id WHERE {}",
            [S, "unknown", U],
        )
        assert tx.locked.level is Level.DEVICES
        if tx.connection.dialect.name == "postgresql":
            assert tx.locked.devices == {row[1] for row in found}
        return sorted(row[0] for row in found)

    assert three.write(look) == [S, U]


def test_a_compiled_select_answers_as_the_library_does(three: World) -> None:
    waits = exists().where(enrolment.c.device_id == device.c.id, enrolment.c.state == "waiting")
    statement = (
        select(device, device_live.c.need_full, waits.label("waits"))
        .join(device_live, device_live.c.device_id == device.c.id)
        .where(device.c.serial == bindparam("wanted"), device.c.registered)
    )
    compiled = CompiledSelect(statement)

    def look(tx: Transaction) -> None:
        for serial in (S, T):
            ours, theirs = (
                compiled.first(tx, {"wanted": serial}),
                tx.one(statement, {"wanted": serial}),
            )
            assert ours is not None and theirs is not None
            assert ours._asdict() == theirs._asdict()
            assert [type(value) for value in ours] == [type(value) for value in theirs]
        assert compiled.first(tx, {"wanted": "unknown"}) is None

    three.read(look)


# The ledger


def expire(tx: Transaction, company_id: int, days: list[int], *, together: bool) -> None:
    """Days of the company's pool expire, in as many transfers."""
    ((pool, *_),) = tx.lock_accounts("kind = 'pool' AND company_id = ?", (company_id,))
    journal = Journal(tx) if together else None
    booking = Booking(tx, "test", "operator", company_id, (company_id,), journal=journal)
    for some in days:
        booking.post(Kind.EXPIRE, pool, EXPIRED, some, free=False)
    if journal is not None:
        journal.write()


def balance(world: World) -> int:
    (row,) = rows_of(world, select(account.c.balance).where(account.c.kind == "pool"))
    return int(row.balance)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("many", [1, 3, 20])
def test_transfers_are_booked_in_their_order(three: World, many: int, together: bool) -> None:
    days = [n + 1 if many < 20 else 1 + n % 3 for n in range(many)]
    before = balance(three)
    three.write(lambda tx: expire(tx, 1, days, together=together))
    statement = select(transfer.c.days).where(transfer.c.kind == "expire").order_by(transfer.c.seq)
    assert [row.days for row in rows_of(three, statement)] == days
    assert balance(three) == before - sum(days)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("many", [1, 20])
def test_what_an_account_does_not_hold_is_not_booked(
    three: World, many: int, together: bool
) -> None:
    before = balance(three)
    days = [*[1] * (many - 1), before]
    days[-1] += 1
    with pytest.raises(LedgerBroken):
        three.write(lambda tx: expire(tx, 1, days, together=together))
    assert balance(three) == before
    assert rows_of(three, select(transfer.c.id).where(transfer.c.kind == "expire")) == []


# Late samples


def test_hours_that_are_rolled_up_are_noted_once_a_batch(three: World) -> None:
    three.now_ms += 30 * MINUTE_MS
    three.heartbeat(S)
    for age_ms in (0, HOUR_MS, 2 * HOUR_MS):
        three.heartbeat(S, age_ms=age_ms)
    assert rows_of(three, select(late_hour)) == []  # the job has not come by there yet
    three.deliver((S, "hb", three.router(S).message(3, age_ms=5 * HOUR_MS)))
    three.heartbeat(S, age_ms=5 * HOUR_MS)
    three.heartbeat(T, age_ms=3 * HOUR_MS)
    hour = three.now_ms // HOUR_MS
    noted = rows_of(three, select(late_hour).order_by(late_hour.c.id))
    assert [(row.device_id, hour - row.hour) for row in noted] == [(1, 5), (1, 5), (2, 3)]
