"""Forecasts: until when a company's credits last, if all goes on as it does."""

import msgspec
from sqlalchemy import and_, case, exists, func, or_, select

from gateway.domain.forecasts import LOOKED_BACK_DAYS, Burning, Outlook, look_ahead
from gateway.domain.instants import day_of, day_text
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


class WastedLot(msgspec.Struct):
    """Days that will expire unspent."""

    expires_on: str
    free: bool
    days: int


class Forecast(msgspec.Struct):
    """Until when credits last. `lasts_until` is the last day on which every charge is paid.

    It is null when no end is in sight until `horizon`, and when somebody above pays (`covered_by`).
    Who may not see the credits is told no figures.
    """

    company_id: str
    days: int | None
    credits: int | None
    lasts_until: str | None
    covered_by: str | None
    horizon: str
    devices: int | None
    months: list[MonthAhead]
    wasted: list[WastedLot]


def burning(tx: Transaction, company_id: int) -> list[Burning]:
    """The devices that take days of this company: its own, and those below that it pays for.

    As they do now: in a block, those that were heard lately are extended again and again; of the
    plan `daily` as many days as lately.
    """
    below = exists().where(
        company_path.c.ancestor_id == company_id,
        company_path.c.descendant_id == device.c.company_id,
    )
    heard_from = day_of(tx.now_ms) - LOOKED_BACK_DAYS
    lately = select(func.count()).where(
        monitored_day.c.device_id == device.c.id,
        monitored_day.c.day >= heard_from,
        monitored_day.c.day < day_of(tx.now_ms),
    )
    rows = tx.all(
        select(
            device.c.period_end,
            device_live.c.last_heard_at,
            company.c.plan,
            company.c.extend_unheard,
            case(
                (company.c.plan == "daily", lately.correlate(device).scalar_subquery()), else_=0
            ).label("days"),
        )
        .join_from(device, device_live, device_live.c.device_id == device.c.id)
        .join(company, company.c.id == device.c.company_id)
        .where(
            device.c.registered,
            device.c.ended_at.is_(None),
            device.c.auto_extend,
            ~device.c.switched_off,
            or_(device.c.company_id == company_id, and_(device.c.payer_id == company_id, below)),
            or_(
                device.c.state != State.OFF.value,
                device.c.reason == Reason.SUSPENDED.value,
            ),
        )
    )
    today = day_of(tx.now_ms)
    found = []
    for row in rows:
        from_day = today if row.period_end is None else day_of(row.period_end)
        if row.plan == "daily":
            found.append(Burning(from_day, 1, row.days, daily=True))
            continue
        silent_days = LOOKED_BACK_DAYS + 1
        if row.last_heard_at is not None:
            silent_days = today - day_of(row.last_heard_at)
        if row.extend_unheard or silent_days <= LOOKED_BACK_DAYS:
            found.append(Burning(from_day, 1))
    return found


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
        return Forecast(str(number), None, None, lasts, above, horizon, None, [], [])
    return Forecast(
        str(number),
        days,
        days // DAYS_PER_CREDIT,
        lasts,
        above,
        horizon,
        len(using),
        [
            MonthAhead(f"{month // 100}-{month % 100:02d}", taken, taken // DAYS_PER_CREDIT)
            for month, taken in outlook.months
        ],
        [WastedLot(day_text(lot.expires_day), lot.free, lot.days) for lot in outlook.wasted],
    )
