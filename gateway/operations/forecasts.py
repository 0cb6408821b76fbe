"""Forecasts: until when a company's credits last, if all goes on as it does."""

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, case, func, or_, select

from gateway.domain.forecasts import (
    LOOKED_BACK_DAYS,
    STEPS_DAYS,
    Burning,
    Outlook,
    look_ahead,
    rate_of,
)
from gateway.domain.instants import DAY_MS, day_of, day_text
from gateway.domain.ledger import DAYS_PER_CREDIT, spendable
from gateway.domain.payers import Payment
from gateway.domain.rights import Right
from gateway.domain.service import Reason, State
from gateway.operations.companies import OneCompany, company_row
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.seeing import ABOVE
from gateway.operations.treasury import Treasury
from gateway.storage.schema import company, company_path, device, device_live, monitored_day
from gateway.storage.transaction import Transaction


class MonthAhead(msgspec.Struct):
    """What the devices will take in a UTC month; of the running one, what is left of it."""

    month: str
    days: int
    credits: int


class Ahead(msgspec.Struct):
    """The next `in_days` days, up to `until`: the days that are taken, how many of them nobody
    could pay (`short`), and what can be spent then (`left`)."""

    in_days: int
    until: str
    days: int
    credits: int
    short: int
    left: int


class WastedLot(msgspec.Struct):
    """Days that will expire unspent."""

    expires_on: str
    free: bool
    days: int


class Forecast(msgspec.Struct):
    """Until when credits last. `lasts_until` is the last day on which every charge is paid.

    It is null when no end is in sight until `horizon`, and when somebody above pays (`covered_by`).
    `rate`: the days that its devices take in thirty days. `ahead`: in 30, 60 and 90 days;
    `balances`: what can be spent at the end of each of these days, today first. Who may not
    see the credits is told no figures.
    """

    company_id: str
    days: int | None
    credits: int | None
    lasts_until: str | None
    covered_by: str | None
    horizon: str
    devices: int | None
    rate: int | None
    months: list[MonthAhead]
    wasted: list[WastedLot]
    ahead: list[Ahead]
    balances: list[int]


def burning(tx: Transaction, company_id: int) -> list[Burning]:
    """The devices that take days of this company: its own, and those below that it pays for.

    As they do now: in a block, those that were heard lately are extended again and again; of the
    plan `daily` as many days as lately.
    """
    return burning_of(tx, (company_id,))[company_id]


def burning_of(tx: Transaction, company_ids: Collection[int]) -> dict[int, list[Burning]]:
    """The same for many companies at once."""
    found: dict[int, list[Burning]] = {number: [] for number in company_ids}
    below = (
        company_path.c.ancestor_id == device.c.payer_id,
        company_path.c.descendant_id == device.c.company_id,
    )
    own = _taking(tx.now_ms, device.c.company_id).where(device.c.company_id.in_(company_ids))
    paid_for = _taking(tx.now_ms, device.c.payer_id).where(
        device.c.payer_id.in_(company_ids),
        device.c.payer_id != device.c.company_id,
        select(company_path.c.depth).where(*below).exists(),
    )
    for statement in (own, paid_for):
        for row in tx.all(statement):
            daily = row.plan == "daily"
            one = (
                Burning(row.from_day, row.devices, row.days, daily=True)
                if daily
                else Burning(row.from_day, row.devices)
            )
            found[row.taker].append(one)
    return found


def _taking(now_ms: int, taker: ColumnElement[int]) -> Select[Any]:
    """Devices that take days as they do now, by whose days, from when on, and plan."""
    heard_from = day_of(now_ms) - LOOKED_BACK_DAYS
    lately = (
        select(func.count())
        .where(
            monitored_day.c.device_id == device.c.id,
            monitored_day.c.day >= heard_from,
            monitored_day.c.day < day_of(now_ms),
        )
        .correlate(device)
        .scalar_subquery()
    )
    daily = company.c.plan == "daily"
    from_day = func.coalesce(device.c.period_end // DAY_MS, day_of(now_ms)).label("from_day")
    return (
        select(
            taker.label("taker"),
            from_day,
            company.c.plan,
            func.count().label("devices"),
            func.sum(case((daily, lately), else_=0)).label("days"),
        )
        .join_from(device, device_live, device_live.c.device_id == device.c.id)
        .join(company, company.c.id == device.c.company_id)
        .where(
            device.c.registered,
            device.c.ended_at.is_(None),
            device.c.auto_extend,
            ~device.c.switched_off,
            or_(
                device.c.state != State.OFF.value,
                device.c.reason == Reason.SUSPENDED.value,
            ),
            or_(
                daily,
                company.c.extend_unheard,
                device_live.c.last_heard_at >= heard_from * DAY_MS,
            ),
        )
        .group_by(taker, from_day, company.c.plan)
        .order_by(taker, from_day, company.c.plan)
    )


def outlook_of(tx: Transaction, treasury: Treasury, company_id: int) -> Outlook:
    """What will become of the company's own credits."""
    return look_ahead(treasury.lots(company_id), burning(tx, company_id), tx.today)


def lasts_until(tx: Transaction, treasury: Treasury, company_id: int) -> str | None:
    """The last day on which every charge is paid from its own credits, if an end is in sight."""
    day = outlook_of(tx, treasury, company_id).lasts_until_day
    return None if day is None else day_text(day)


def covered_by(treasury: Treasury, company_id: int) -> str | None:
    """`above` when somebody above pays the next credit."""
    daily = treasury.chain(company_id)[0].plan == "daily"
    payment = treasury.find_payer(company_id, 1 if daily else DAYS_PER_CREDIT)
    above = isinstance(payment, Payment) and payment.payer_id != company_id
    return ABOVE if above else None


@operation(
    "companies.forecast",
    "GET",
    "/companies/{company_id}/forecast",
    right=Right.SEE_ENOUGH,
    result=Forecast,
)
def show_forecast(call: Call, given: OneCompany) -> Forecast:
    """Says until when a company's credits last, and which of them will expire unspent."""
    number = company_number(given.company_id)
    call.require(Right.SEE_ENOUGH, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    using = burning(call.tx, number)
    lots = call.treasury.lots(number)
    outlook = look_ahead(lots, using, call.tx.today)
    days = spendable(lots, call.tx.today)
    above = covered_by(call.treasury, number)
    until = outlook.lasts_until_day
    lasts = None if above or until is None else day_text(until)
    horizon = day_text(outlook.horizon_day)
    if not call.allows(Right.SEE_CREDITS, number):
        return Forecast(str(number), None, None, lasts, above, horizon, None, None, [], [], [], [])
    return Forecast(
        str(number),
        days,
        days // DAYS_PER_CREDIT,
        lasts,
        above,
        horizon,
        sum(one.devices for one in using),
        rate_of(using),
        [
            MonthAhead(f"{month // 100}-{month % 100:02d}", taken, taken // DAYS_PER_CREDIT)
            for month, taken in outlook.months
        ],
        [WastedLot(day_text(lot.expires_day), lot.free, lot.days) for lot in outlook.wasted],
        [_ahead(outlook, step, call.tx.today) for step in STEPS_DAYS],
        [one.left for one in outlook.days],
    )


def _ahead(outlook: Outlook, in_days: int, today: int) -> Ahead:
    days, short = outlook.within(in_days)
    until = day_text(today + in_days - 1)
    left = outlook.days[in_days - 1].left
    return Ahead(in_days, until, days, days // DAYS_PER_CREDIT, short, left)
