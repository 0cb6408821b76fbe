"""Prices between a company and the one above it: who sets them, who sees them, what they make."""

from typing import Any

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.statements import Price, amount_text, amounts, parse_price, price_text
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = [f"11000000{n:02d}" for n in range(9)]
TOP, SELLER, BUYER, BILLING = 2, 3, 4, 5


def tree(world: World) -> tuple[str, str, str]:
    top = world.company("Top")
    seller = world.company("Seller", top)
    buyer = world.company("Buyer", seller)
    for person, company, role in (
        (TOP, top, "administrator"),
        (SELLER, seller, "administrator"),
        (BUYER, buyer, "administrator"),
        (BILLING, buyer, "billing"),
    ):
        world.one_person(person, company, role)
    return top, seller, buyer


def price(company: str, per_credit: str = "1.85", day: str = "2027-01-01") -> dict[str, Any]:
    return {"company_id": company, "per_credit": per_credit, "currency": "EUR", "from": day}


def test_who_sets_and_who_sees_prices(world: World) -> None:
    top, seller, buyer = tree(world)
    given = price(buyer)
    assert world.ask("companies.price", person=BUYER, **given) == "forbidden"
    assert world.ask("companies.price", person=BILLING, **given) == "forbidden"
    assert world.ask("companies.price", person=SELLER, **price(top)) == "not_found"
    assert world.ask("companies.price", person=SELLER, **price(seller)) == "forbidden"
    assert world.ask("companies.price", person=1, **price(top)) == "validation"
    made = world.do("companies.price", person=SELLER, **given)
    assert [(one["per_credit"], one["currency"], one["from"]) for one in made["items"]] == [
        ("1.85", "EUR", "2027-01-01")
    ]
    for person in (BUYER, BILLING):
        assert world.ask("companies.prices", person=person, company_id=buyer) == "not_found"
    world.do("companies.change", person=SELLER, company_id=buyer, show_prices=True)
    for person in (SELLER, BUYER, BILLING, TOP):
        assert world.do("companies.prices", person=person, company_id=buyer) == made
    world.do("companies.price", person=TOP, **price(seller, "0.5"))
    assert world.ask("companies.prices", person=BUYER, company_id=seller) == "not_found"
    assert world.ask("companies.prices", person=SELLER, company_id=seller) == "not_found"
    own = {"company_id": buyer, "show_prices": False}
    assert world.ask("companies.change", person=BUYER, **own) == "forbidden"


BAD = [
    ("per_credit", "-1"),
    ("per_credit", "1.00001"),
    ("per_credit", "1e3"),
    ("per_credit", "1,85"),
    ("per_credit", ""),
    ("per_credit", "NaN"),
    ("per_credit", "12345678901"),
    ("per_credit", "٣"),
    ("currency", "eur"),
    ("currency", "EU"),
    ("from", "2027-02-30"),
    ("from", "1969-01-01"),
    ("from", ""),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_what_is_no_price_is_refused(world: World, field: str, value: str) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    assert world.ask("companies.price", **{**price(low), field: value}) == "validation"
    assert world.do("companies.prices", company_id=low)["items"] == []


def test_the_past_keeps_its_price(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    world.do("companies.price", **price(low))
    world.do("companies.price", **price(low))
    assert len(world.do("companies.prices", company_id=low)["items"]) == 1
    world.live(40 * DAY_MS)
    assert world.ask("companies.price", **price(low, "9", "2027-01-20")) == "validation"
    world.do("companies.price", **price(low, "2", "2027-02-10"))
    assert [one["from"] for one in world.do("companies.prices", company_id=low)["items"]] == [
        "2027-01-01",
        "2027-02-10",
    ]


def test_money_is_reckoned_in_integers() -> None:
    for text in ("0.00", "1.85", "0.0125", "999999999.9999"):
        assert price_text(parse_price(text)) == text
    prices = [Price(10, parse_price("1.85"), "EUR"), Price(20, parse_price("2"), "EUR")]
    assert amounts(prices, {9: 3_000, 10: 30, 19: 1, 20: 60}) == {"EUR": 591}
    assert amounts(prices, {20: -30}) == {"EUR": -200}
    assert [amount_text(n) for n in (0, 5, -200, 123_456)] == ["0.00", "0.05", "-2.00", "1234.56"]


def test_a_statement_says_what_is_owed_to_whom_may_see_it(world: World) -> None:
    _, seller, buyer = tree(world)
    world.do("companies.price", person=SELLER, **price(buyer))
    world.do("companies.price", person=SELLER, **price(buyer, "2.00", "2027-01-20"))
    world.grant(seller, 30)
    world.grant(seller, 5, free=True)
    world.do("companies.change", company_id=buyer, use_parent_credits=True)
    world.do("credits.move", source=seller, target=buyer, credits=1)
    world.register(S[0], buyer, activate=True)
    world.live(6 * DAY_MS)
    for serial in S[1:6]:
        world.register(serial, buyer, activate=True)
        world.heartbeat(serial)
    asked = {"company_id": seller, "from": "2027-01", "group_by": "child"}
    found = world.do("companies.statement", person=SELLER, **asked)
    (line,) = found["children"]
    # Moves take the lots that expire first, then free ones: those cost nothing.
    free, paid = line["free"], line["paid"]
    assert free["received"] + free["paid_from_here"] == 150
    billed = paid["received"] + paid["paid_from_here"]
    assert billed == 30
    (amount,) = line["amounts"]
    assert amount == {"currency": "EUR", "days": 30, "per_credit": "2.00", "amount": "2.00"}
    mine = {"company_id": buyer, "from": "2027-01"}
    seen = world.do("companies.statement", person=BUYER, **mine)
    assert seen["amounts"] == []
    assert all(one["amounts"] == [] for one in seen["devices"])
    world.do("companies.change", person=SELLER, company_id=buyer, show_prices=True)
    seen = world.do("companies.statement", person=BUYER, **mine)
    assert seen["amounts"] == line["amounts"]
    # A price of companies above is in no statement of somebody below.
    world.do("companies.price", person=TOP, **price(seller, "0.77"))
    for person in (BUYER, SELLER):
        text = str(
            world.do("companies.statement", person=person, **(asked if person == SELLER else mine))
        )
        assert "0.77" not in text
