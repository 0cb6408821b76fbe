"""Days of the plan `daily` taken by two gateways at once, and by one that has to try again."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.domain.instants import DAY_MS, day_of
from gateway.ingest.batch import Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.storage.schema import monitored_day, transfer
from gateway.storage.transaction import Transaction
from tests.contract.gateways import TwoGateways, Work
from tests.contract.world import BEGIN_MS, World

SERIALS = [f"racer-{number:02}" for number in range(12)]


class GivenUp(Exception):
    """The transaction is not committed."""


def batch_of(world: World, serials: Sequence[str]) -> list[Incoming]:
    """One sample of each."""
    found = []
    for serial in serials:
        payload = world.router(serial).message(1)
        body = read_payload(f"fg1/d/{serial}/hb", "hb", payload)
        found.append(Incoming(serial, body, world.now_ms))
    return found


def taking(world: World, batch: list[Incoming]) -> Work:
    terms = Terms("node-1", world.now_ms - BEGIN_MS, 4, 5)
    return lambda tx: take_batch(tx, batch, terms)


def fleet(world: World, days: int, **more: Any) -> tuple[str, list[str]]:
    """Devices of three companies, for which the one above has days."""
    top = world.company("Top")
    limited = world.company("Limited", top, use_parent_credits=True, plan="daily", **more)
    world.set_company(limited, grace_days=0)
    companies = [limited]
    for number in range(2):
        low = world.company(f"L{number}", limited, use_parent_credits=True, plan="daily")
        world.set_company(low, grace_days=0)
        companies.append(low)
    world.do("credits.grant", company_id=top, days=days)
    for number, serial in enumerate(SERIALS):
        world.register(serial, companies[number % 3])
        world.join(serial)
    return top, companies


def days_counted(world: World) -> Counter[int]:
    """How many devices were counted on each day, from the first of the story."""
    rows = world.read(lambda tx: tx.all(select(monitored_day)))
    assert all(row.transfer_id is not None for row in rows)
    return Counter(row.day - day_of(BEGIN_MS) for row in rows)


def same_rows(tx: Transaction) -> list[Any]:
    rows = tx.all(select(transfer).order_by(transfer.c.id))
    return [tuple(row)[1:] for row in rows]  # numbers that were given out stay so


def test_the_same_batch_at_both_takes_each_day_once(two: TwoGateways) -> None:
    world = two.world
    top, _ = fleet(world, 100)
    for day in range(3):
        batch = batch_of(world, SERIALS)
        turned = list(reversed(batch))
        two.at_once([taking(world, one) for one in (batch, turned, batch, turned)])
        assert world.pools(top) == 100 - 12 * (day + 1)
        world.now_ms += DAY_MS
    assert days_counted(world) == {0: 12, 1: 12, 2: 12}
    assert two.deadlocks() == 0
    world.check()


def test_the_last_days_of_a_pool_are_taken_once(two: TwoGateways) -> None:
    world = two.world
    top, _ = fleet(world, 7)
    works = [taking(world, batch_of(world, SERIALS[first::4])) for first in range(4)]
    two.at_once(works)
    states = Counter(world.service(serial) for serial in SERIALS)
    assert states == {("active", "paid"): 7, ("unpaid", "no_credit"): 5}
    assert world.pools(top) == 0 and days_counted(world) == {0: 7}
    world.check()


def test_a_limit_from_above_holds_for_days_at_both(two: TwoGateways) -> None:
    world = two.world
    top, _ = fleet(world, 300, parent_limit=1)
    for _ in range(2):
        works = [taking(world, batch_of(world, SERIALS[first::4])) for first in range(4)]
        two.at_once(works)
        world.now_ms += DAY_MS
    works = [taking(world, batch_of(world, SERIALS[first::4])) for first in range(4)]
    two.at_once(works)
    assert world.pools(top) == 270 and days_counted(world) == {0: 12, 1: 12, 2: 6}
    states = Counter(world.service(serial) for serial in SERIALS)
    assert states == {("active", "paid"): 6, ("unpaid", "limit"): 6}
    assert two.deadlocks() == 0
    world.check()


@pytest.mark.parametrize("name", ["move", "unregister", "switch-off", "forget", "activate"])
def test_a_day_while_people_change_the_device(two: TwoGateways, name: str) -> None:
    world = two.world
    _, companies = fleet(world, 100)
    two.at_once([taking(world, batch_of(world, SERIALS))])
    world.now_ms += DAY_MS
    more: dict[str, Any] = {"company_id": companies[0]} if name == "move" else {}
    chosen = SERIALS[1::3]
    people = [world.work(f"devices.{name}", serial=serial, **more) for serial in chosen]
    batches = [taking(world, batch_of(world, SERIALS[first::2])) for first in range(2)]
    outcomes = two.at_once(
        [work for pair in zip(people, batches * 2, strict=True) for work in pair]
    )
    assert not [one for one in outcomes if isinstance(one, BaseException)]
    assert two.deadlocks() == 0
    world.jobs()
    world.check()


def test_credits_come_while_days_are_taken(two: TwoGateways) -> None:
    world = two.world
    top, companies = fleet(world, 5)
    grants = [world.work("credits.grant", company_id=one, days=3) for one in (top, *companies)]
    batches = [taking(world, batch_of(world, SERIALS[first::4])) for first in range(4)]
    two.at_once([work for pair in zip(grants, batches, strict=True) for work in pair])
    world.jobs()
    two.at_once([taking(world, batch_of(world, SERIALS))])
    held = sum(world.pools(one) for one in (top, *companies))
    assert held == 17 - days_counted(world).total()
    assert two.deadlocks() == 0
    world.check()


def test_a_transaction_that_is_tried_again_writes_the_same(world: World) -> None:
    top, _ = fleet(world, 100)
    work = taking(world, batch_of(world, SERIALS))
    seen: list[list[Any]] = []

    def once(tx: Transaction) -> None:
        work(tx)
        seen.append(same_rows(tx))
        raise GivenUp

    id_ = "6f1d3c1e-5d0b-4d2c-9a44-0a2f4f1f9c01"
    for _ in range(2):
        with pytest.raises(GivenUp):
            world.wait(world.store.write(once, operation_id=id_))
    world.wait(world.store.write(work, operation_id=id_))
    assert seen[0] == seen[1]
    assert seen[0] == world.read(same_rows) and len(seen[0]) == 4
    assert world.pools(top) == 88
    # An unknown outcome of the COMMIT: what is stored is found, and nothing is taken again.
    world.wait(world.store.write(work, operation_id=id_))
    assert world.pools(top) == 88
    asked = select(func.count()).select_from(monitored_day)
    assert world.read(lambda tx: tx.scalar(asked)) == 12
    world.check()
