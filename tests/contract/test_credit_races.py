"""Credits moved, redeemed, charged and taken back at the same moment, at two gateways."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.jobs import periods
from gateway.operations import courtesies
from tests.contract.credit_tree import LOW_ADMIN, MID_ADMIN, OTHER_ADMIN, CreditTree, day
from tests.contract.gateways import TwoGateways, Work

S = [f"11000000{number:02}" for number in range(8)]


@pytest.fixture
def tree(two: TwoGateways) -> CreditTree:
    return CreditTree(two.world)


def codes_of(two: TwoGateways, works: list[Work]) -> Counter[str]:
    found = two.at_once(works)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, Refused):
            raise one
    return Counter(one.code.value if isinstance(one, Refused) else "ok" for one in found)


def test_a_code_is_redeemed_once_whoever_redeems_deletes_or_lets_it_expire(
    two: TwoGateways, tree: CreditTree
) -> None:
    world = two.world
    world.do("credits.grant", company_id=tree.mid, days=30, expires_on=day(world, 1))
    world.grant(tree.mid, 1)
    made = world.do("credit-codes.create", company_id=tree.mid, days=60)
    world.live(2 * DAY_MS, jobs=False)
    works: list[Work] = []
    for person, company in ((LOW_ADMIN, tree.low), (OTHER_ADMIN, tree.other)):
        given: dict[str, Any] = {"person": person, "company_id": company, "code": made["code"]}
        works += [world.work("credit-codes.redeem", **given) for _ in range(4)]
    works += [world.work("credit-codes.delete", code_id=made["id"]), periods.expire_pools]
    assert codes_of(two, works) == {"ok": 2, "credit_code_used": 8}
    world.jobs()
    # The job may come first or last: what was over is over either way.
    assert sum(tree.pools()) == 30 and world.balance("code:") == 0
    assert sum(row["days"] for row in world.ledger(kind="expire")) == 30


def test_moves_that_cross_with_many_lots(two: TwoGateways, tree: CreditTree) -> None:
    """Every move makes accounts that others are making at the same time."""
    world = two.world
    for company in (tree.top, tree.mid, tree.other, tree.low):
        for lasts in range(5, 0, -1):
            for free in (True, False):
                until = day(world, lasts * 10 + int(company))
                world.do("credits.grant", company_id=company, days=20, expires_on=until, free=free)
    ends = [
        (tree.low, tree.other),
        (tree.other, tree.low),
        (tree.top, tree.low),
        (tree.low, tree.mid),
        (tree.mid, tree.other),
        (tree.other, tree.top),
    ]
    given = [{"source": a, "target": b, "days": 55} for a, b in ends * 2]
    assert Counter(two.ask_at_once("credits.move", given)) == {"ok": 12}
    assert sum(tree.pools()) == 800


def test_a_move_and_charges_share_one_pool(two: TwoGateways, tree: CreditTree) -> None:
    world = two.world
    for serial in S:
        world.register(serial, tree.low, activate="later")
    world.grant(tree.low, 5)
    up: dict[str, Any] = {"source": tree.low, "target": tree.mid, "credits": 1, "person": LOW_ADMIN}
    works: list[Work] = [world.work("credits.move", **up) for _ in range(4)]
    works += [world.work("devices.activate", serial=serial) for serial in S]
    assert codes_of(two, works) == {"ok": 5, "credits_insufficient": 7}
    assert world.pools(tree.low) == 0
    assert world.balance("prepaid:") + world.pools(tree.mid) == 150


def test_days_are_taken_back_while_the_device_is_given_up(
    two: TwoGateways, tree: CreditTree
) -> None:
    world = two.world
    world.grant(tree.mid, 4)
    ids = []
    for serial in S[:4]:
        world.register(serial, tree.low, activate="later")
        (row,) = world.do("credits.give", serial=serial, days=20)["transfers"]
        ids.append(row["id"])
    works: list[Work] = []
    for serial, id_ in zip(S, ids, strict=False):
        back: dict[str, Any] = {"person": MID_ADMIN, "transfer": id_, "days": 12}
        works += [world.work("credits.reverse", **back) for _ in range(2)]
        works += [
            world.work("devices.unregister", serial=serial),
            world.work("credits.give", person=MID_ADMIN, company_id=tree.low, days=1),
        ]
    codes = codes_of(two, works)
    # A gift to all comes too late when there is no device left.
    assert set(codes) <= {"ok", "nothing_to_reverse", "validation"}
    assert world.balance("prepaid:") == 0
    assert tree.pools() == [0, 120, 0, 0]


def test_a_device_that_comes_while_days_are_given_gets_none(
    two: TwoGateways, tree: CreditTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds it then, so its heartbeats could be written over."""
    world = two.world
    world.grant(tree.mid, 1)
    world.register(S[0], tree.low, activate="later")
    come = world.work("devices.register", serial=S[1], company_id=tree.low, activate="later")
    standing = courtesies._standing

    def slowly(*given: Any) -> Any:
        asyncio.run(two.second.write(come))
        return standing(*given)

    monkeypatch.setattr(courtesies, "_standing", slowly)
    given = world.do("credits.give", person=MID_ADMIN, company_id=tree.low, days=5)
    assert given["devices"] == 1
    assert (world.prepaid(S[0]), world.prepaid(S[1])) == (5, 0)


def test_days_are_given_while_periods_end(two: TwoGateways, tree: CreditTree) -> None:
    world = two.world
    world.grant(tree.mid, 9)
    world.grant(tree.low, 4)
    for serial in S:
        world.register(serial, tree.low, activate="later")
        world.do("credits.give", person=MID_ADMIN, serial=serial, days=2)
        world.heartbeat(serial)
    world.live(2 * DAY_MS, jobs=False)
    ids = world.read(periods.due_in_order)
    assert len(ids) == len(S)
    gift: dict[str, Any] = {"person": MID_ADMIN, "days": 3}
    works: list[Work] = []
    for serial in S[:4]:
        works += [
            world.work("credits.give", serial=serial, **gift),
            partial(periods.settle_due, ids=ids),
        ]
    works.append(world.work("credits.give", company_id=tree.low, **gift))
    assert codes_of(two, works) == {"ok": len(works)}
    world.settle()
    served = sum(row["days"] for row in world.ledger(kind="serve"))
    assert served == 2 * len(S)
    given = sum(row["days"] for row in world.ledger(kind="courtesy"))
    assert given == (2 + 3) * len(S) + 3 * 4
    # Whom the job reached first was extended, of the customer's own credits as far as they went.
    extended = sum(row["days"] for row in world.ledger(kind="extend"))
    assert world.pools(tree.low) == 120 - extended
    assert world.balance("prepaid:") == given + extended - served
