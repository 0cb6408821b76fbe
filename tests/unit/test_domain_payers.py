"""The climb to whoever pays, against a model that tries every company in turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.ledger import Lot
from gateway.domain.payers import Payment, Purse, find_payer
from gateway.domain.refusals import Code

TODAY = 20_000
DAYS = 30


def purse(
    company_id: int,
    days: int = 0,
    *,
    up: bool = True,
    stopped: bool = False,
    left: int | None = None,
) -> Purse:
    lots = [Lot(company_id * 10, None, False, False, days)] if days else []
    return Purse(company_id, lots, up, stopped, left)


CASES = [
    # purses from the device's company up                                        payer or code
    ([purse(1, 30)], 1),
    ([purse(1, 29)], Code.CREDITS_INSUFFICIENT),
    ([purse(1, 29), purse(2, 30)], 2),
    ([purse(1, 30), purse(2, 30)], 1),
    ([purse(1, up=False), purse(2, 30)], Code.CREDITS_INSUFFICIENT),
    ([purse(1), purse(2), purse(3), purse(4, 30)], 4),
    ([purse(1), purse(2), purse(3, up=False), purse(4, 30)], Code.CREDITS_INSUFFICIENT),
    ([purse(1, 30, stopped=True)], Code.COMPANY_SUSPENDED),
    ([purse(1), purse(2, 30, stopped=True)], Code.CREDITS_INSUFFICIENT),
    ([purse(1), purse(2, stopped=True), purse(3, 30)], Code.CREDITS_INSUFFICIENT),
    ([purse(1, left=29), purse(2, 30)], Code.PARENT_LIMIT_REACHED),
    ([purse(1, left=30), purse(2, 30)], 2),
    ([purse(1, 30, left=0)], 1),
    ([purse(1), purse(2, left=0), purse(3, 30)], Code.PARENT_LIMIT_REACHED),
    ([purse(1), purse(2, 30, left=0), purse(3, 30)], 2),
    ([purse(1, up=False, left=0), purse(2, 30)], Code.CREDITS_INSUFFICIENT),
    ([], Code.CREDITS_INSUFFICIENT),
]


@pytest.mark.parametrize(("purses", "expected"), CASES)
def test_the_climb(purses: list[Purse], expected: int | Code) -> None:
    found = find_payer(purses, DAYS, TODAY)
    assert (found.payer_id if isinstance(found, Payment) else found) == expected


PURSES = st.lists(
    st.builds(
        purse,
        company_id=st.integers(1, 9),
        days=st.sampled_from([0, 10, 30, 60]),
        up=st.booleans(),
        stopped=st.sampled_from([False, False, True]),
        left=st.sampled_from([None, None, 0, 30, 60]),
    ),
    max_size=5,
    unique_by=lambda one: one.company_id,
)


@given(PURSES, st.sampled_from([1, 30, 60]))
def test_the_first_that_can_be_reached_and_pay_the_whole_pays(
    purses: list[Purse], days: int
) -> None:
    reachable = []
    for index, one in enumerate(purses):
        below = purses[:index]
        if one.suspended or any(other.suspended for other in below):
            break
        if all(other.use_parent_credits for other in below):
            reachable.append(one)
    within = [
        one
        for one in reachable
        if sum(held.days for held in one.lots) >= days
        and all(
            other.limit_days_left is None or other.limit_days_left >= days
            for other in purses[: purses.index(one)]
        )
    ]
    found = find_payer(purses, days, TODAY)
    if not within:
        assert isinstance(found, Code)
        return
    assert isinstance(found, Payment)
    assert found.payer_id == within[0].company_id
    assert found.path == tuple(one.company_id for one in purses[: len(found.path)])
    assert found.path[-1] == found.payer_id and found.limits_used == found.path[:-1]
    assert sum(draw.days for draw in found.draws) == days
