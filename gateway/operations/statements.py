"""Statements: what a company got, spent and has left, month by month, down to the device."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Literal

import msgspec
from sqlalchemy import select

from gateway.domain.instants import day_of
from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.statements import (
    Line,
    Months,
    Places,
    Price,
    Sums,
    amount_text,
    amounts,
    month_text,
    parse_months,
    price_on,
    price_text,
)
from gateway.operations.companies import company_row
from gateway.operations.csv_text import Cell
from gateway.operations.documents import CSV_TYPE, Document, TableFormat, table_document
from gateway.operations.prices import may_see_prices, prices_between
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.statement_lines import Lines, OfOneDevice, summed
from gateway.operations.statement_rows import places_below
from gateway.storage.schema import company, device
from gateway.storage.transaction import AnyRow

_IDS_AT_ONCE = 500


class Amount(msgspec.Struct):
    """What days cost; `per_credit` is empty where the price changed in between."""

    currency: str
    days: int
    per_credit: str | None
    amount: str


class Figures(msgspec.Struct):
    """Days. `opening` and what came, less what went, is `closing`; the rest stands beside it.

    `trial` is part of `granted`. `spent_by_itself` paid for its own devices, `spent_for_below` for
    those of companies below; `spent_by_above` and `paid_from_here` were charged for its devices and
    paid above, the latter by the company whose statement this is. `prepaid` are days of periods
    that run at the end.
    """

    opening: int
    granted: int
    trial: int
    received: int
    redeemed: int
    codes_returned: int
    given_back: int
    companies_joined: int
    moved_out: int
    taken_back: int
    spent_by_itself: int
    spent_for_below: int
    courtesy: int
    codes_made: int
    expired: int
    written_off: int
    companies_left: int
    closing: int
    spent_by_above: int
    paid_from_here: int
    courtesy_received: int
    forfeited: int
    served: int
    expired_in_codes: int
    prepaid: int


class StatementLine(msgspec.Struct):
    """A direct child with all that stood below it at the time; or the company's own."""

    company_id: str
    name: str | None
    reference: str | None
    total: Figures
    paid: Figures
    free: Figures
    amounts: list[Amount]


class StatementDevice(msgspec.Struct):
    """What a device cost while the company held it; `credits` are whole ones of its days."""

    serial: str
    name: str | None
    reference: str | None
    company_id: str
    days_paid: int
    days_free: int
    days_courtesy: int
    days_returned: int
    days_forfeited: int
    days_heard: int
    credits: int
    amounts: list[Amount]


class Statement(msgspec.Struct, rename={"from_": "from"}):
    """A company in a range of UTC months; of months that are over it never changes.

    `amounts`: what it owes the company above for days it was sold there, where a price is set.
    """

    company_id: str
    name: str
    reference: str
    from_: str
    to: str
    complete: bool
    group_by: str
    total: Figures
    paid: Figures
    free: Figures
    amounts: list[Amount]
    own: StatementLine | None
    children: list[StatementLine]
    devices: list[StatementDevice]


class AskStatement(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """Which months, as `2027-01`, both included; without `to` one month.

    By device, or one line for each direct child (`child`).
    """

    company_id: str
    from_: str
    to: str = ""
    group_by: Literal["device", "child"] = "device"
    format: TableFormat = "json"


@operation(
    "companies.statement",
    "GET",
    "/companies/{company_id}/statement",
    right=Right.SEE_STATEMENTS,
    result=Statement,
    file_type=CSV_TYPE,
)
def show_statement(call: Call, given: AskStatement) -> Statement | Document:
    """Makes a company's statement of a range of months."""
    number = company_number(given.company_id)
    call.require(Right.SEE_STATEMENTS, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    try:
        months = parse_months(given.from_, given.to)
    except ValueError as error:
        field = str(error).partition(":")[0]
        raise Refused(Code.VALIDATION, str(error), field=field) from error
    made = _Making(call, row, months, children=given.group_by == "child").statement()
    if given.format == "json":
        return made
    by_child = given.group_by == "child"
    name = f"statement-{number}-{made.from_}-{made.to}"
    if by_child:
        return table_document(name, given.format, _LINE_HEADS, _line_rows(made))
    return table_document(name, given.format, _DEVICE_HEADS, _device_rows(made))


class _Making:
    """One statement in the making."""

    def __init__(self, call: Call, row: AnyRow, months: Months, *, children: bool) -> None:
        self._call = call
        self._row = row
        self._months = months
        self._children = children
        self._days = range(day_of(months.begin_ms), day_of(months.end_ms))
        places, below = places_below(call.tx, row.id)
        companies = below if children else [row.id]
        path = places.path(row.id, months.end_ms - 1)
        self._seller = path[-2] if len(path) > 1 else None
        self._prices = self._all_prices(places, companies)
        self._lines = Lines(
            call.tx,
            row.id,
            months,
            places,
            companies,
            by_day=self._by_day(places, companies),
        )

    def _all_prices(self, places: Places, companies: list[int]) -> dict[int, list[Price]]:
        """What the caller may see of them: by buyer, of the company and of its direct children."""
        root = self._row.id
        found: dict[int, list[Price]] = {root: []}
        if self._seller == self._row.parent_id and may_see_prices(self._call, self._row):
            found[root] = prices_between(self._call, self._seller, root)
        for id_ in companies:
            for at in (self._months.begin_ms, self._months.end_ms - 1):
                child = places.line(root, id_, at)
                if child is not None and child not in found:
                    found[child] = prices_between(self._call, root, child)
        return found

    def _by_day(self, places: Places, companies: list[int]) -> frozenset[int]:
        """Companies of whose lines the price changes in the range."""
        begin, end = self._months.begin_ms, self._months.end_ms
        changing = {id_ for id_, prices in self._prices.items() if self._changes(prices)}
        if self._row.id in changing:
            return frozenset(companies)
        return frozenset(
            id_
            for id_ in companies
            if changing & {places.line(self._row.id, id_, at) for at in (begin, end - 1)}
        )

    def _changes(self, prices: list[Price]) -> bool:
        return any(price.from_day in self._days[1:] for price in prices)

    def statement(self) -> Statement:
        """All of it."""
        lines, root, months = self._lines, self._row.id, self._months
        lines.add_up(each_device=not self._children)
        lines.add_moved(self._seller)
        line = summed(lines.lines.values()) if self._children else lines.lines[root]
        names = self._names()
        children = [
            self._line(id_, names, one)
            for id_, one in sorted(lines.lines.items())
            if id_ != root and self._children
        ]
        return Statement(
            str(root),
            self._row.name,
            self._row.reference,
            month_text(months.first),
            month_text(months.last),
            lines.rows.closed,
            "child" if self._children else "device",
            *_sides(line),
            self._amounts(root, lines.billed.get(root, {})),
            self._line(root, names, lines.lines[root]) if self._children else None,
            children,
            [] if self._children else self._devices(),
        )

    def _names(self) -> dict[int, AnyRow]:
        ids = [id_ for id_ in self._lines.lines if self._call.allows(Right.SEE_COMPANIES, id_)]
        found = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            for row in self._call.tx.all(select(company).where(company.c.id.in_(some))):
                found[row.id] = row
        return found

    def _line(self, id_: int, names: Mapping[int, AnyRow], line: Line) -> StatementLine:
        row = names.get(id_)
        billed = {} if id_ == self._row.id else self._lines.billed.get(id_, {})
        return StatementLine(
            str(id_),
            None if row is None else row.name,
            None if row is None else row.reference,
            *_sides(line),
            self._amounts(id_, billed),
        )

    def _amounts(self, buyer: int, days_by_day: Mapping[int, int]) -> list[Amount]:
        prices = self._prices.get(buyer, [])
        by_currency: dict[str, dict[int, int]] = {}
        used: dict[str, set[int]] = {}
        for day, days in days_by_day.items():
            price = price_on(prices, day)
            if price is not None and days:
                by_currency.setdefault(price.currency, {})[day] = days
                used.setdefault(price.currency, set()).add(price.per_credit)
        return [
            Amount(
                currency,
                sum(days.values()),
                price_text(used[currency].pop()) if len(used[currency]) == 1 else None,
                amount_text(amounts(prices, days)[currency]),
            )
            for currency, days in sorted(by_currency.items())
        ]

    def _devices(self) -> list[StatementDevice]:
        found = self._lines.devices
        rows: dict[int, AnyRow] = {}
        ids = sorted({id_ for _, id_ in found})
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            statement = select(
                device.c.id, device.c.serial, device.c.name, device.c.reference, device.c.company_id
            ).where(device.c.id.in_(some))
            for row in self._call.tx.all(statement):
                rows[row.id] = row
        made = [
            self._device(company_id, rows[id_], one) for (company_id, id_), one in found.items()
        ]
        return sorted(made, key=lambda one: (one.serial, one.company_id))

    def _device(self, company_id: int, row: AnyRow, one: OfOneDevice) -> StatementDevice:
        # What it is called by now is its present company's business.
        named = row.company_id == company_id or self._call.allows(Right.SEE_DEVICES, row.company_id)
        return StatementDevice(
            row.serial,
            row.name if named else None,
            row.reference if named else None,
            str(company_id),
            one.paid_days,
            one.free_days,
            one.courtesy_days,
            one.returned_days,
            one.forfeited_days,
            one.heard_days,
            (one.paid_days + one.free_days) // DAYS_PER_CREDIT,
            self._amounts(self._row.id, one.billed),
        )


def _sides(line: Line) -> tuple[Figures, Figures, Figures]:
    return _figures(line.total()), _figures(line.paid), _figures(line.free)


def _figures(sums: Sums) -> Figures:
    assert sums.opening + sums.change() == sums.closing, "a statement that does not add up"
    return Figures(**asdict(sums))


_MONEY_HEADS = ("currency", "per_credit", "amount")
_FIGURES = Figures.__struct_fields__
_LINE_HEADS = (
    *("line", "company_id", "name", "reference", "from", "to", "complete"),
    *_FIGURES,
    *(f"{name}_free" for name in _FIGURES),
    *_MONEY_HEADS,
)
_DEVICE_FIELDS = StatementDevice.__struct_fields__[:-1]
_DEVICE_HEADS = ("from", "to", "complete", *_DEVICE_FIELDS, *_MONEY_HEADS)


def _money(found: list[Amount]) -> tuple[Cell, ...]:
    """Of several currencies each, beside one another in the cells."""
    return (
        " ".join(one.currency for one in found),
        " ".join(one.per_credit or "" for one in found).strip(),
        " ".join(one.amount for one in found),
    )


def _line_rows(made: Statement) -> Iterator[tuple[Cell, ...]]:
    assert made.own is not None
    for kind, lines in (("own", [made.own]), ("child", made.children)):
        for line in lines:
            yield (
                *(kind, line.company_id, line.name, line.reference),
                *(made.from_, made.to, str(made.complete).lower()),
                *msgspec.structs.astuple(line.total),
                *msgspec.structs.astuple(line.free),
                *_money(line.amounts),
            )


def _device_rows(made: Statement) -> Iterator[tuple[Cell, ...]]:
    for one in made.devices:
        values = msgspec.structs.astuple(one)
        months = (made.from_, made.to, str(made.complete).lower())
        yield (*months, *values[:-1], *_money(one.amounts))
