"""Credits: granting them, seeing them, the ledger."""

from typing import Annotated, Any

import msgspec
from sqlalchemy import Select, select

from gateway.domain.instants import day_text, instant_text, parse_day
from gateway.domain.ledger import (
    DAYS_MAX,
    DAYS_PER_CREDIT,
    Kind,
    Told,
    sentence,
    spendable,
    transfer_id,
)
from gateway.domain.payers import Payment
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, user_of
from gateway.operations.booking import ISSUER, Booking, pool_account
from gateway.operations.companies import OneCompany, company_row
from gateway.operations.csv_text import Cell
from gateway.operations.documents import CSV_TYPE, Document, TableFormat, table_document
from gateway.operations.forecasts import lasts_until
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    cursor_number,
    operation,
)
from gateway.operations.seeing import Upwards
from gateway.storage.schema import account, person, transfer
from gateway.storage.transaction import AnyRow

EXPORTED_MAX = 20_000
OF_OPERATION_MAX = 1_000
HEADER = (
    "at kind sentence days free from_account to_account company_id serial payer_company_id "
    "payer_path actor actor_name note id operation_id"
).split()


class Pool(msgspec.Struct):
    """Days with one expiry."""

    expires_on: str | None
    free: bool
    days: int


class Credits(msgspec.Struct):
    """What a company can spend, and who would pay its next credit.

    `payer_names`: the companies of `payer_path`, as far as they may be named, for people.
    """

    company_id: str
    days: int
    credits: int
    pools: list[Pool]
    payer_company_id: str | None
    payer_path: list[str]
    payer_names: list[str]
    covered_by: str | None
    lasts_until: str | None


class Transfer(msgspec.Struct):
    """One row of the ledger; `actor_name` is told to whoever reads the company's audit."""

    id: str
    operation_id: str
    kind: str
    from_account: str
    to_account: str
    days: int
    free: bool
    company_id: str
    serial: str | None
    payer_company_id: str | None
    payer_path: list[str]
    actor: str
    actor_name: str | None
    at: str
    note: str
    sentence: str


class Ledger(msgspec.Struct):
    """A page of the ledger, newest first."""

    items: list[Transfer]
    next_cursor: str | None


class Grant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """New credits for a company: whole `credits`, or `days`."""

    company_id: str
    credits: Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX // DAYS_PER_CREDIT)] | None = None
    days: Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX)] | None = None
    expires_on: str | None = None
    free: bool = False
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class SeeLedger(Page, kw_only=True):
    """Which rows: of one company, with or without those below; of one serial; of one kind; what
    one operation booked, by its id (of more than 1,000 rows the first)."""

    company: str = ""
    descendants: bool = True
    serial: str = ""
    kind: str = ""
    operation: Annotated[str, msgspec.Meta(max_length=60)] = ""


class ExportLedger(SeeLedger, kw_only=True):
    """The same as a file: `csv`, `csv-excel` (semicolons, with a byte order mark) or `json`; at
    most 20,000 rows a part, `cursor` being the number of the last one of the part before."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=EXPORTED_MAX)] = EXPORTED_MAX
    format: TableFormat = "csv"

    def __post_init__(self) -> None:
        """A part is larger than a page."""


def days_asked(credits: int | None, days: int | None) -> int:
    """Exactly one of the two is given. Raises `Refused`."""
    if (credits is None) == (days is None):
        raise Refused(Code.VALIDATION, "Give `credits` or `days`, one of them.", field="credits")
    return days if days is not None else (credits or 0) * DAYS_PER_CREDIT


@operation(
    "credits.grant",
    "POST",
    "/credits/grants",
    right=Right.OPERATE,
    result=Transfer,
    status=201,
    moves_credits=True,
)
def grant(call: Call, given: Grant) -> Transfer:
    """Gives a company new credits."""
    number = company_number(given.company_id)
    company_row(call, number)
    call.require_open(number)
    days = days_asked(given.credits, given.days)
    expires_day = None
    if given.expires_on is not None:
        try:
            expires_day = parse_day(given.expires_on)
        except ValueError as error:
            raise Refused(
                Code.VALIDATION, "expires_on: a date such as 2027-01-31", field="expires_on"
            ) from error
        if expires_day < call.tx.today:
            raise Refused(Code.VALIDATION, "expires_on: this day is over (UTC)", field="expires_on")
    booking = Booking(
        call.tx,
        call.principal.name,
        "operator",
        number,
        call.treasury.path(number),
        note=given.note,
    )
    pool = pool_account(call.tx, number, expires_day, free=given.free)
    call.treasury.prepare((), accounts=(pool,))
    id_ = booking.post(Kind.GRANT, ISSUER, pool, days, free=given.free)
    queue_recheck(call.tx, number)
    row = call.tx.one(ledger_rows().where(transfer.c.id == id_))
    assert row is not None
    return Shown(call).transfer(row)


@operation(
    "companies.credits",
    "GET",
    "/companies/{company_id}/credits",
    right=Right.SEE_CREDITS,
    result=Credits,
)
def show_credits(call: Call, given: OneCompany) -> Credits:
    """Shows a company's own credits by expiry, and who pays its next one."""
    number = company_number(given.company_id)
    call.require(Right.SEE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    lots = call.treasury.lots(number)
    days = spendable(lots, call.tx.today)
    pools: dict[tuple[int | None, bool], int] = {}
    for lot in lots:
        if lot.expires_day is None or lot.expires_day >= call.tx.today:
            key = (lot.expires_day, lot.free)
            pools[key] = pools.get(key, 0) + lot.days
    payment = call.treasury.find_payer(number, DAYS_PER_CREDIT)
    upwards = Upwards(call, number)
    payer_id: int | None = None
    path: tuple[int, ...] = ()
    if isinstance(payment, Payment):
        payer_id, path = payment.payer_id, payment.path
    return Credits(
        str(number),
        days,
        days // DAYS_PER_CREDIT,
        [
            Pool(None if day is None else day_text(day), free, held)
            for (day, free), held in sorted(
                pools.items(),
                key=lambda item: (item[0][0] is None, item[0][0] or 0, not item[0][1]),
            )
        ],
        upwards.company_id(payer_id),
        upwards.path(path),
        upwards.names(path),
        "above" if payer_id not in (None, number) else None,
        lasts_until(call.tx, call.treasury, number) if payer_id in (None, number) else None,
    )


@operation("ledger.list", "GET", "/ledger", right=Right.SEE_CREDITS, result=Ledger)
def list_ledger(call: Call, given: SeeLedger) -> Ledger:
    """Lists the ledger's rows, newest first, each with who paid and why."""
    return _listed(call, given)


@operation(
    "ledger.export",
    "GET",
    "/ledger/export",
    right=Right.SEE_CREDITS,
    result=Ledger,
    file_type=CSV_TYPE,
)
def export_ledger(call: Call, given: ExportLedger) -> Ledger | Document:
    """Exports the ledger as CSV or JSON, newest first."""
    found = _listed(call, given)
    if given.format == "json":
        return found
    return table_document("ledger", given.format, HEADER, (_cells(one) for one in found.items))


def _listed(call: Call, given: SeeLedger) -> Ledger:
    # The sum keeps the database from sorting all rows of the companies: it walks from the newest.
    within = call.visible_of(given.company, Right.SEE_CREDITS).has(transfer.c.company_id + 0)
    if given.company and not given.descendants:
        within = transfer.c.company_id == company_number(given.company)
    statement = ledger_rows().where(within)
    for column, wanted in (
        (transfer.c.serial, given.serial),
        (transfer.c.kind, given.kind),
    ):
        if wanted:
            statement = statement.where(column == wanted)
    if given.operation:
        # Found by their ids, which are made of the operation's: the ledger is long.
        ids = [transfer_id(given.operation, n) for n in range(OF_OPERATION_MAX)]
        statement = statement.where(transfer.c.id.in_(ids))
    cursor = cursor_number(given.cursor)
    if cursor is not None:
        statement = statement.where(transfer.c.seq < cursor)
    rows = call.tx.all(statement.order_by(transfer.c.seq.desc()).limit(given.limit + 1))
    shown = Shown(call)
    items = [shown.transfer(row) for row in rows[: given.limit]]
    more = len(rows) > given.limit
    return Ledger(items, str(rows[given.limit - 1].seq) if more else None)


def _cells(one: Transfer) -> list[Cell]:
    return [
        one.at,
        one.kind,
        one.sentence,
        one.days,
        one.free,
        one.from_account,
        one.to_account,
        one.company_id,
        one.serial,
        one.payer_company_id,
        " → ".join(one.payer_path),
        one.actor,
        one.actor_name,
        one.note,
        one.id,
        one.operation_id,
    ]


_FROM, _TO = account.alias("from_"), account.alias("to_")


def ledger_rows() -> Select[Any]:
    """Transfers with the names and companies of both accounts, for `Shown`."""
    return (
        select(
            transfer,
            _FROM.c.name.label("from_name"),
            _FROM.c.company_id.label("from_company"),
            _TO.c.name.label("to_name"),
            _TO.c.company_id.label("to_company"),
        )
        .join(_FROM, _FROM.c.id == transfer.c.from_account)
        .join(_TO, _TO.c.id == transfer.c.to_account)
    )


class Shown:
    """Turns rows into transfers as the caller may see them; remembers names on the way."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._upwards: dict[int, Upwards] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._persons: dict[int, str | None] = {}

    def transfer(self, row: AnyRow) -> Transfer:
        """The public form of one row."""
        upwards = self._of(row.company_id)
        path = [int(part) for part in row.payer_path.split("/") if part]
        told = Told(
            Kind(row.kind),
            row.days,
            self._name(row.company_id, row.company_id),
            row.serial,
            None
            if row.payer_company_id is None
            else self._name(row.company_id, row.payer_company_id),
            [self._name(row.company_id, number) for number in path],
            row.cause,
            row.free,
            row.note,
            self._pool(row.company_id, row.from_company),
            self._pool(row.company_id, row.to_company),
        )
        return Transfer(
            row.id,
            row.operation_id,
            row.kind,
            self._account(upwards, row.from_company, row.from_name),
            self._account(upwards, row.to_company, row.to_name),
            row.days,
            row.free,
            str(row.company_id),
            row.serial,
            upwards.company_id(row.payer_company_id),
            upwards.path(path),
            row.actor,
            self._person(row),
            instant_text(row.at),
            row.note,
            sentence(told),
        )

    def _person(self, row: AnyRow) -> str | None:
        number = user_of(row.actor)
        if number is None or not self._call.allows(Right.SEE_AUDIT, row.company_id):
            return None
        if number not in self._persons:
            named = select(person.c.name).where(person.c.id == number, person.c.erased_at.is_(None))
            self._persons[number] = self._call.tx.scalar(named)
        return self._persons[number]

    def _of(self, company_id: int) -> Upwards:
        if company_id not in self._upwards:
            self._upwards[company_id] = Upwards(self._call, company_id)
        return self._upwards[company_id]

    def _name(self, of: int, company_id: int) -> str:
        key = (of, company_id)
        if key not in self._names:
            self._names[key] = self._of(of).name(company_id)
        return self._names[key]

    def _pool(self, of: int, company_id: int | None) -> str | None:
        return None if company_id is None else self._name(of, company_id)

    @staticmethod
    def _account(upwards: Upwards, company_id: int | None, name: str) -> str:
        return name if company_id is None or upwards.knows(company_id) else "above"
