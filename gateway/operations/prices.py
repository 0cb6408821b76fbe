"""Prices: what a credit costs a company that buys from the one above it."""

import re
from typing import Annotated

import msgspec
from sqlalchemy import insert, select

from gateway.domain.instants import DAY_MS, day_text, instant_text, month_of, parse_day
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.statements import PER_CREDIT_MAX, Price, parse_price, price_on, price_text
from gateway.operations.companies import OneCompany, company_row
from gateway.operations.registry import Call, company_number, not_found, operation
from gateway.storage.schema import price
from gateway.storage.transaction import AnyRow

PRICES_MAX = 500  # of one buyer and seller; each is kept for ever
_CURRENCY = re.compile(r"[A-Z]{3}")


class OnePrice(msgspec.Struct, rename={"from_": "from"}):
    """What a credit costs from a day on."""

    per_credit: str
    currency: str
    from_: str
    set_at: str


class Prices(msgspec.Struct):
    """The prices between a company and the one above it, by the day from which they hold."""

    company_id: str
    seller_company_id: str | None
    items: list[OnePrice]


class SetPrice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What a credit costs the company from a UTC day on, as decimal text, and in which currency."""

    company_id: str
    per_credit: Annotated[str, msgspec.Meta(max_length=20)]
    currency: Annotated[str, msgspec.Meta(max_length=3)]
    from_: Annotated[str, msgspec.Meta(max_length=10)]


def may_see_prices(call: Call, row: AnyRow) -> bool:
    """Whether the caller sees what the company pays: who sells, and who buys where that is shown.

    `row` is the buyer's.
    """
    if row.parent_id is None:
        return False
    if call.allows(Right.SEE_STATEMENTS, row.parent_id):
        return True
    return bool(row.show_prices) and call.allows(Right.SEE_STATEMENTS, row.id)


def prices_between(call: Call, seller_id: int | None, buyer_id: int) -> list[Price]:
    """In the order in which they were set."""
    rows = call.tx.all(
        select(price.c.from_day, price.c.per_credit, price.c.currency)
        .where(price.c.seller_id == seller_id, price.c.buyer_id == buyer_id)
        .order_by(price.c.id)
    )
    return [Price(*row) for row in rows]


@operation(
    "companies.prices",
    "GET",
    "/companies/{company_id}/prices",
    right=Right.SEE_STATEMENTS,
    result=Prices,
)
def list_prices(call: Call, given: OneCompany) -> Prices:
    """Lists what a company's credits cost, from when on."""
    number = company_number(given.company_id)
    call.require(Right.SEE_STATEMENTS, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    if row.parent_id is not None and not may_see_prices(call, row):
        raise not_found("price")
    return _shown(call, row)


@operation(
    "companies.price",
    "PUT",
    "/companies/{company_id}/prices",
    right=Right.SEE_STATEMENTS,
    result=Prices,
    errors=(Code.COMPANY_CLOSED,),
)
def set_price(call: Call, given: SetPrice) -> Prices:
    """Sets what a company's credits cost from a day on; what was set before stays in the list."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    if row.parent_id is None:
        raise Refused(
            Code.VALIDATION, "company_id: nobody sells to a root company", field="company_id"
        )
    if not call.allows(Right.SEE_STATEMENTS, row.parent_id):
        raise Refused(Code.FORBIDDEN, "A price is set by people of the company above, who sell.")
    call.require_open(number)
    # The entry is the seller's: it tells the price, which the buyer may not be shown.
    call.about(company_id=row.parent_id, subject=str(number))
    from_day = _day(given.from_)
    _require_open_month(call, row, from_day)
    values = {
        "seller_id": row.parent_id,
        "buyer_id": number,
        "from_day": from_day,
        "per_credit": _per_credit(given.per_credit),
        "currency": _currency(given.currency),
    }
    same = select(price.c.id).where(*(price.c[name] == value for name, value in values.items()))
    newest = (
        select(price.c.id)
        .where(price.c.seller_id == row.parent_id, price.c.buyer_id == number)
        .where(price.c.from_day == values["from_day"])
        .order_by(price.c.id.desc())
        .limit(1)
    )
    # Asked twice it is set once, unless something else was set in between.
    last = call.tx.scalar(newest)
    if last is None or last not in [one.id for one in call.tx.all(same)]:
        if len(prices_between(call, row.parent_id, number)) >= PRICES_MAX:
            raise Refused(
                Code.VALIDATION, f"per_credit: {PRICES_MAX} prices were set already", field="from"
            )
        more = {"set_by": call.principal.name, "at": call.tx.now_ms}
        call.tx.run(insert(price), {**values, **more})
    return _shown(call, row)


def _require_open_month(call: Call, row: AnyRow, from_day: int) -> None:
    """Statements of months that are over keep the price they were made with."""
    over = month_of(from_day * DAY_MS) < month_of(call.tx.now_ms)
    if over and price_on(prices_between(call, row.parent_id, row.id), from_day) is not None:
        raise Refused(
            Code.VALIDATION,
            "from: in a month that is over, and a price was set for that day already; "
            "take a day of this month or later",
            field="from",
        )


def _shown(call: Call, row: AnyRow) -> Prices:
    rows = call.tx.all(
        select(price)
        .where(price.c.buyer_id == row.id, price.c.seller_id == row.parent_id)
        .order_by(price.c.from_day, price.c.id)
    )
    items = [
        OnePrice(
            price_text(one.per_credit), one.currency, day_text(one.from_day), instant_text(one.at)
        )
        for one in rows
    ]
    seller = None if row.parent_id is None else str(row.parent_id)
    return Prices(str(row.id), seller, items)


def _day(text: str) -> int:
    try:
        day = parse_day(text)
    except ValueError as error:
        raise Refused(Code.VALIDATION, "from: a date such as 2027-01-01", field="from") from error
    if day < 0:
        raise Refused(Code.VALIDATION, "from: a date after 1970", field="from")
    return day


def _per_credit(text: str) -> int:
    try:
        units = parse_price(text)
    except ValueError as error:
        raise Refused(Code.VALIDATION, f"per_credit: {error}", field="per_credit") from error
    assert units < PER_CREDIT_MAX
    return units


def _currency(text: str) -> str:
    if _CURRENCY.fullmatch(text) is None:
        raise Refused(
            Code.VALIDATION,
            "currency: three capital letters of ISO 4217, such as EUR",
            field="currency",
        )
    return text
