"""The ledger's arithmetic: order of spending, ids, names, sentences."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.instants import (
    DAY_MS,
    day_of,
    day_text,
    instant_text,
    month_of,
    parse_day,
)
from gateway.domain.ledger import (
    CAUSES,
    Draw,
    Kind,
    Lot,
    Told,
    credits_text,
    operation_id,
    pool_name,
    sentence,
    spend,
    spendable,
    transfer_id,
)

TODAY = 20_000


def lot(
    account: int, days: int, expires: int | None = None, *, free: bool = False, code: bool = False
) -> Lot:
    return Lot(account, expires, free, code, days)


ORDER = [
    # lots, in the order in which they must be spent
    ([lot(5, 1, TODAY), lot(4, 1, TODAY + 1), lot(3, 1)], "soonest expiry, never last"),
    ([lot(5, 1, TODAY, free=True), lot(4, 1, TODAY)], "free before paid of one expiry"),
    ([lot(5, 1, TODAY), lot(4, 1, TODAY + 1, free=True)], "expiry before free"),
    ([lot(5, 1), lot(4, 1, code=True)], "given before redeemed"),
    ([lot(5, 1, free=True, code=True), lot(4, 1)], "free before given"),
    ([lot(4, 1), lot(5, 1)], "the older account, so that every engine says the same"),
]


@pytest.mark.parametrize(("lots", "rule"), ORDER)
def test_the_order_of_spending(lots: list[Lot], rule: str) -> None:
    for given_lots in (lots, lots[::-1]):
        draws = spend(given_lots, len(lots), TODAY)
        assert draws is not None
        assert [draw.account_id for draw in draws] == [one.account_id for one in lots], rule


def test_a_lot_is_valid_on_its_last_day_and_not_after() -> None:
    lots = [lot(1, 30, TODAY)]
    assert spend(lots, 30, TODAY) == (Draw(1, 30, False),)
    assert spend(lots, 30, TODAY + 1) is None
    assert spendable(lots, TODAY) == 30 and spendable(lots, TODAY + 1) == 0


LOTS = st.lists(
    st.builds(
        Lot,
        account_id=st.integers(1, 1_000),
        expires_day=st.none() | st.integers(TODAY - 3, TODAY + 3),
        free=st.booleans(),
        redeemed=st.booleans(),
        days=st.integers(0, 50),
    ),
    max_size=8,
    unique_by=lambda one: one.account_id,
)


@given(LOTS, st.integers(1, 200))
def test_spending_takes_exactly_the_days_or_nothing(lots: list[Lot], days: int) -> None:
    draws = spend(lots, days, TODAY)
    if days > spendable(lots, TODAY):
        assert draws is None
        return
    assert draws is not None and sum(draw.days for draw in draws) == days
    held = {one.account_id: one for one in lots}
    for draw in draws:
        source = held[draw.account_id]
        assert 0 < draw.days <= source.days and draw.free == source.free
        assert source.expires_day is None or source.expires_day >= TODAY
    # Only the last lot may be left half empty.
    assert all(draw.days == held[draw.account_id].days for draw in draws[:-1])


def test_ids_are_the_same_at_every_attempt_and_differ_otherwise() -> None:
    operation = operation_id("user:1", "key")
    assert operation == operation_id("user:1", "key")
    assert operation not in (operation_id("user:2", "key"), operation_id("user:1", "kez"))
    # The boundary between principal and key cannot be moved.
    assert operation_id("user:1\nx", "y") == operation_id("user:1\nx", "y")
    ids = {transfer_id(operation, ordinal) for ordinal in range(100)}
    assert len(ids) == 100 and all(uuid.UUID(one).version == 5 for one in ids)
    assert transfer_id(operation, 0) == transfer_id(operation, 0)


AMOUNTS = [
    (0, "0 days"),
    (1, "1 day"),
    (29, "29 days"),
    (30, "1 credit"),
    (31, "1 credit and 1 day"),
    (60, "2 credits"),
    (77, "2 credits and 17 days"),
]


@pytest.mark.parametrize(("days", "text"), AMOUNTS)
def test_amounts_for_people(days: int, text: str) -> None:
    assert credits_text(days) == text


def test_names_of_pools_are_unique_by_company_expiry_and_origin() -> None:
    assert pool_name(7, None, free=False, redeemed=False) == "pool:7:never:paid:given"
    assert pool_name(7, 0, free=True, redeemed=True) == "pool:7:1970-01-01:free:redeemed"


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("cause", list(CAUSES))
def test_every_kind_has_a_sentence_that_names_amount_and_ends_with_a_point(
    kind: Kind, cause: str
) -> None:
    text = sentence(Told(kind, 30, "Acme", "1100000001", "Top", ["Acme", "Top"], cause, True, "hi"))
    assert "1 credit" in text and text.endswith("; note: hi.") and "None" not in text
    if kind in (Kind.ACTIVATE, Kind.EXTEND):
        assert "paid by Top (asked Acme, then Top)" in text and CAUSES[cause] in text


@given(st.integers(0, 40_000))
def test_days_as_text_and_back(day: int) -> None:
    assert parse_day(day_text(day)) == day
    assert day_of(day * DAY_MS) == day_of((day + 1) * DAY_MS - 1) == day


@pytest.mark.parametrize("text", ["", "2027-13-01", "2027-02-29", "31.1.2027", "2027-1-1", "x"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_day(text)


def test_months_and_instants_are_utc() -> None:
    turn_ms = parse_day("2027-02-01") * DAY_MS
    assert (month_of(turn_ms - 1), month_of(turn_ms)) == (202701, 202702)
    assert instant_text(turn_ms - 1) == "2027-01-31T23:59:59.999Z"
