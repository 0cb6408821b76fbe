"""Who locks or changes rows out of order is told at once, on both engines."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, event, select, update

from gateway.domain.ledger import Kind
from gateway.operations.booking import FORFEITED, Booking
from gateway.operations.logins import set_login
from gateway.storage.locks import LockOrderBroken, Tree
from gateway.storage.schema import (
    account,
    company,
    company_path,
    device,
    device_live,
    enrolment,
    relay,
    session,
)
from gateway.storage.transaction import Transaction
from tests.contract.world import World

Work = Callable[[Transaction], Any]


def devices(tx: Transaction) -> None:
    tx.lock_devices(select(device.c.id))


def accounts(tx: Transaction) -> None:
    tx.lock_accounts("kind = ?", ("pool",))


def change(table: Any, **values: Any) -> Work:
    return lambda tx: tx.run(update(table).values(**values))


def one_after_another(*works: Work) -> Work:
    def work(tx: Transaction) -> None:
        for one in works:
            one(tx)

    return work


def one_booking(tx: Transaction) -> None:
    booking = Booking(tx, "test", "operator", 1, (1,))
    booking.post(Kind.FORFEIT, 5, FORFEITED, 1, free=False)


BROKEN: list[tuple[str, Work]] = [
    ("account is changed without its lock", change(account, balance=1)),
    ("account is changed without its lock", one_after_another(devices, change(account, free=True))),
    ("device is changed without its lock", change(device, name="x")),
    ("device_live is changed without its lock", change(device_live, need_full=True)),
    ("enrolment is changed without its lock", lambda tx: tx.run(delete(enrolment))),
    ("relay is changed without its lock", one_after_another(devices, change(relay, newest=1))),
    ("session is changed without its lock", one_after_another(devices, change(session, reason=""))),
    ("company is changed without the tree alone", change(company, name="x")),
    (
        "company_path is changed without the tree alone",
        one_after_another(devices, lambda tx: tx.run(delete(company_path))),
    ),
    ("DEVICES locked after ACCOUNTS", one_after_another(accounts, devices)),
    (
        "DEVICES locked after ACCOUNTS",
        one_after_another(accounts, lambda tx: tx.claim_devices(select(device.c.id))),
    ),
    ("RELAYS locked after ACCOUNTS", one_after_another(accounts, lambda tx: tx.lock_relay("r"))),
    (
        "DEVICES locked after RELAYS",
        one_after_another(lambda tx: tx.lock_relay("relay-1"), devices),
    ),
    (
        "PERSON locked after RELAYS",
        one_after_another(lambda tx: tx.lock_relay("r"), lambda tx: tx.lock_person(1)),
    ),
    ("ACCOUNTS locked after ACCOUNTS", one_after_another(accounts, accounts)),
    (
        "ACCOUNTS locked after LOGINS",
        one_after_another(lambda tx: set_login(tx, "somebody", None), accounts),
    ),
    ("days are booked at account 5 without its lock", one_booking),
]


@pytest.mark.parametrize(("why", "work"), BROKEN)
def test_out_of_order(world: World, why: str, work: Work) -> None:
    world.grant(world.company("Acme"), 1)
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        said.append(statement)

    def watched(tx: Transaction) -> None:
        event.listen(tx.connection, "before_cursor_execute", note)
        try:
            work(tx)
        finally:
            event.remove(tx.connection, "before_cursor_execute", note)

    with pytest.raises(LockOrderBroken, match=why):
        world.write(watched)
    # The statement that would have broken the order was never said to the database.
    table = why.partition(" ")[0]
    assert not [one for one in said if one.startswith((f"UPDATE {table}", f"DELETE FROM {table}"))]


def test_in_order(world: World) -> None:
    world.grant(world.company("Acme"), 1)
    in_order = one_after_another(
        change(company, name="x"),
        devices,
        change(device, name="x"),
        lambda tx: tx.lock_person(1),
        lambda tx: tx.lock_relay("relay-1"),
        change(relay, newest=1),
        accounts,
        change(account, free=False),
        change(device_live, need_full=True),
        lambda tx: set_login(tx, "somebody", None),
    )
    world.write(in_order, Tree.ALONE)


def test_every_operation_that_changes_companies_has_the_tree_alone(world: World) -> None:
    """Also by the guard: nothing else in this suite may change them."""
    from tests.contract.world import OPERATIONS

    alone = {op.name for op in OPERATIONS.values() if op.tree is Tree.ALONE}
    changing = "create change close move suspend resume".split()
    # Of people only the last administrator counts, who is looked for among the others.
    people = {"me.erase", "members.change", "members.remove", "users.erase"}
    assert alone == {f"companies.{verb}" for verb in changing} | {"settings.change"} | people
