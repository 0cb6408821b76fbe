"""What a tree of companies shows of each: its devices, and how long its credits last."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import case, func, select

from gateway.domain.forecasts import Burning, look_ahead
from gateway.domain.instants import day_text
from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.presence import Presence
from gateway.domain.rights import Right
from gateway.domain.service import State
from gateway.operations.companies import Company, ListCompanies, list_companies
from gateway.operations.forecasts import burning_of, covered_by
from gateway.operations.registry import Call, operation
from gateway.storage.schema import company, company_path, device, device_live


class DevicesBelow(msgspec.Struct):
    """Devices of a company and all below it, as far as one sees them.

    `online` is null for whoever sees names and days alone.
    """

    total: int
    online: int | None
    unpaid: int


class Branch(msgspec.Struct):
    """A company of the tree; what its viewer may not know is null.

    `children`: companies directly below that one sees. `lasts_until`, `covered_by`: as
    `companies.forecast` says.
    """

    company: Company
    children: int
    devices: DevicesBelow | None
    days: int | None
    credits: int | None
    lasts_until: str | None
    covered_by: str | None
    knows_credits: bool


class Overview(msgspec.Struct):
    """A page of the tree."""

    items: list[Branch]
    next_cursor: str | None


class SeeOverview(ListCompanies, kw_only=True):
    """Which companies, as `companies.list` takes it."""


@operation(
    "companies.overview",
    "GET",
    "/companies/overview",
    right=Right.SEE_COMPANIES,
    result=Overview,
)
def see_overview(call: Call, given: SeeOverview) -> Overview:
    """Lists companies with their devices, and until when the credits of each last."""
    page = list_companies(call, given)
    numbers = [int(one.id) for one in page.items]
    call.treasury.read_many(numbers)
    children = _children(call, numbers)
    devices = _devices(call, numbers)
    enough = [number for number in numbers if call.allows(Right.SEE_ENOUGH, number)]
    taking = burning_of(call.tx, enough)
    items = []
    for one in page.items:
        number = int(one.id)
        branch = Branch(
            one, children.get(number, 0), devices.get(number), None, None, None, None, False
        )
        if number in taking:
            _tell_credits(call, number, branch, taking[number])
        items.append(branch)
    return Overview(items, page.next_cursor)


def _tell_credits(call: Call, number: int, branch: Branch, taking: Sequence[Burning]) -> None:
    branch.knows_credits = True
    branch.covered_by = covered_by(call.treasury, number)
    if branch.covered_by is None and taking:
        outlook = look_ahead(call.treasury.lots(number), taking, call.tx.today)
        until = outlook.lasts_until_day
        branch.lasts_until = None if until is None else day_text(until)
    if call.allows(Right.SEE_CREDITS, number):
        branch.days = call.treasury.spendable(number)
        branch.credits = branch.days // DAYS_PER_CREDIT


def _children(call: Call, numbers: Sequence[int]) -> dict[int, int]:
    """How many companies stand directly below each."""
    visible = call.visible(Right.SEE_COMPANIES)
    rows = call.tx.all(
        select(company.c.parent_id, func.count().label("children"))
        .where(company.c.parent_id.in_(numbers), visible.has(company.c.id))
        .group_by(company.c.parent_id)
    )
    return {row.parent_id: row.children for row in rows}


def _devices(call: Call, numbers: Sequence[int]) -> dict[int, DevicesBelow]:
    """The devices of each and of all below it; none of a company whose devices one does not see."""
    below = select(company_path.c.descendant_id).where(company_path.c.ancestor_id.in_(numbers))
    online = case((device_live.c.presence == Presence.ONLINE.value, 1), else_=0)
    unpaid = case((device.c.state == State.UNPAID.value, 1), else_=0)
    counted = (
        select(
            device.c.company_id,
            func.count().label("total"),
            func.sum(online).label("online"),
            func.sum(unpaid).label("unpaid"),
        )
        .join(device_live, device_live.c.device_id == device.c.id)
        .where(
            device.c.registered,
            device.c.ended_at.is_(None),
            device.c.company_id.in_(below),
        )
        .group_by(device.c.company_id)
        .subquery()
    )
    # What may be seen is asked of companies, which are fewer than devices.
    seen = call.visible(Right.SEE_DEVICES).has(counted.c.company_id)
    known = call.visible(Right.SEE_HISTORY).has(counted.c.company_id)
    rows = call.tx.all(
        select(
            company_path.c.ancestor_id,
            func.sum(counted.c.total).label("total"),
            func.sum(case((known, counted.c.online), else_=0)).label("online"),
            func.sum(counted.c.unpaid).label("unpaid"),
        )
        .join(counted, counted.c.company_id == company_path.c.descendant_id)
        .where(company_path.c.ancestor_id.in_(numbers), seen)
        .group_by(company_path.c.ancestor_id)
    )
    sums = {row.ancestor_id: row for row in rows}
    found = {}
    for number in numbers:
        if not call.allows(Right.SEE_DEVICES, number):
            continue
        row = sums.get(number)
        total, online_now, due = (0, 0, 0) if row is None else map(int, row[1:])
        tells = call.allows(Right.SEE_HISTORY, number)
        found[number] = DevicesBelow(total, online_now if tells else None, due)
    return found
