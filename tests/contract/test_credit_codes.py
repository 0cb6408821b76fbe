"""Credit codes: made, listed, redeemed once, deleted, expired, and void after a restore."""

import asyncio
from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.operations.restored import void
from tests.contract.credit_tree import ADMIN, day, lots, notices
from tests.contract.world import World

pytestmark = pytest.mark.either_engine


@pytest.fixture
def shop(world: World) -> tuple[World, str, str]:
    """A company that makes codes, and a stranger in another tree, with an administrator each."""
    maker, stranger = world.company("Maker"), world.company("Stranger")
    world.one_person(2, maker, ADMIN)
    world.one_person(3, stranger, ADMIN)
    return world, maker, stranger


Shop = tuple[World, str, str]


def test_a_code_carries_its_lots_to_any_company_once(shop: Shop) -> None:
    world, maker, stranger = shop
    world.do("credits.grant", company_id=maker, days=40, expires_on=day(world, 9))
    world.do("credits.grant", company_id=maker, days=40, free=True)
    made = world.do("credit-codes.create", person=2, company_id=maker, credits=2, comment="fair")
    text = made["code"]
    assert len(text) == 32 and text.isalnum() and text == text.lower() and text.isascii()
    assert (made["days"], made["days_left"], made["hint"]) == (60, 60, text[-4:])
    assert world.pools(maker) == 20 and world.balance("code:") == 60
    world.live(5 * DAY_MS)
    assert world.ask("credit-codes.redeem", person=3, code=text, company_id=maker) == "not_found"
    got = world.do("credit-codes.redeem", person=3, code=f" {text.upper()} ", company_id=stranger)
    assert (got["days"], got["credits"], got["days_expired"]) == (60, 2, 0)
    # Its life is not a day longer than it was.
    assert lots(world, stranger) == [(day(world, 4), False, 40), (None, True, 20)]
    assert world.balance(f"pool:{stranger}:never:free:redeemed") == 20
    for person, company in ((3, stranger), (2, maker)):
        again = world.ask("credit-codes.redeem", person=person, code=text, company_id=company)
        assert again == "credit_code_used"
    (listed,) = world.do("credit-codes.list", person=2)["items"]
    assert (listed["state"], listed["days_left"], listed["comment"]) == ("redeemed", 0, "fair")
    assert listed["redeemed_company_id"] is None and "code" not in listed
    assert world.do("credit-codes.list", person=3)["items"] == []
    world.check()


def test_a_code_of_an_expired_lot_gives_nothing_and_says_so(shop: Shop) -> None:
    world, maker, stranger = shop
    world.do("credits.grant", company_id=maker, days=30, expires_on=day(world, 1))
    world.do("credits.grant", company_id=maker, days=30, expires_on=day(world, 8))
    one, both = (
        world.do("credit-codes.create", company_id=maker, days=days)["code"] for days in (20, 40)
    )
    world.live(2 * DAY_MS, jobs=False)
    redeem: dict[str, Any] = {"person": 3, "company_id": stranger}
    assert world.ask("credit-codes.redeem", code=one, **redeem) == "credit_code_expired"
    got = world.do("credit-codes.redeem", code=both, **redeem)
    assert (got["days"], got["days_expired"]) == (30, 10)
    for done in (False, True):  # whether the job has booked it does not matter
        (listed,) = world.do("credit-codes.list", state="expired")["items"]
        assert (listed["state"], listed["days"], listed["days_left"]) == ("expired", 20, 0)
        assert world.do("credit-codes.list", state="open")["items"] == []
        if not done:
            world.jobs()
    assert world.ask("credit-codes.redeem", code=one, **redeem) == "credit_code_expired"
    assert world.balance("code:") == 0
    assert lots(world, stranger) == [(day(world, 6), False, 30)]
    expired = [row["days"] for row in world.ledger(kind="expire")]
    assert sum(expired) == 30
    world.check()


def test_a_deleted_code_gives_everything_back(shop: Shop) -> None:
    world, maker, stranger = shop
    world.do("credits.grant", company_id=maker, days=40, expires_on=day(world, 9))
    world.do("credits.grant", company_id=maker, days=40, free=True)
    before = lots(world, maker)
    made = world.do("credit-codes.create", company_id=maker, days=70)
    assert world.ask("credit-codes.delete", person=3, code_id=made["id"]) == "not_found"
    gone = world.do("credit-codes.delete", person=2, code_id=made["id"])
    assert (gone["state"], gone["days_left"]) == ("deleted", 0)
    assert lots(world, maker) == before
    assert world.ask("credit-codes.delete", person=2, code_id=made["id"]) == "credit_code_used"
    redeem = {"code": made["code"], "company_id": stranger}
    assert world.ask("credit-codes.redeem", person=3, **redeem) == "credit_code_used"
    world.check()


@pytest.mark.parametrize("text", ["", "a" * 32, "0" * 31, "='cmd", "é" * 32, "%" * 100])
def test_what_is_no_code(shop: Shop, text: str) -> None:
    world, _, stranger = shop
    redeem = {"code": text, "company_id": stranger}
    assert world.ask("credit-codes.redeem", person=3, **redeem) == "credit_code_unknown"


def test_of_many_who_redeem_at_once_one_gets_it(shop: Shop) -> None:
    world, maker, stranger = shop
    world.grant(maker, 2)
    made = world.do("credit-codes.create", company_id=maker, credits=2)
    works = [
        world.work("credit-codes.redeem", person=3, code=made["code"], company_id=stranger)
        for _ in range(5)
    ]
    works.append(world.work("credit-codes.delete", person=2, code_id=made["id"]))

    async def story() -> list[Any]:
        given = [asyncio.ensure_future(world.store.write(work)) for work in works]
        return await asyncio.gather(*given, return_exceptions=True)

    codes = [one.code.value if isinstance(one, Refused) else "ok" for one in asyncio.run(story())]
    assert sorted(codes) == ["credit_code_used"] * 5 + ["ok"]
    assert {world.pools(maker), world.pools(stranger)} == {0, 60}
    world.check()


def test_after_a_restore_codes_are_worth_nothing(shop: Shop) -> None:
    world, maker, stranger = shop
    world.grant(maker, 5)
    used, kept = (
        world.do("credit-codes.create", company_id=maker, credits=1)["code"] for _ in range(2)
    )
    world.do("credit-codes.redeem", person=3, code=used, company_id=stranger)
    counts = world.write(lambda tx: void(tx, "a while ago"))
    assert counts["credit_codes"] == 1
    assert world.ask("credit-codes.redeem", person=3, code=kept, company_id=stranger) == (
        "credit_code_used"
    )
    assert (world.pools(maker), world.pools(stranger)) == (120, 30)
    (gone,) = world.do("credit-codes.list", state="deleted")["items"]
    assert gone["deleted_because"] == "installation.restored"
    assert notices(world, stranger) == []
    world.check()
