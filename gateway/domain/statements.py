"""The arithmetic of statements: months, what each kind of transfer counts as, prices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import NamedTuple

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind

MONTHS_MAX = 120
PER_CREDIT_UNITS = 10_000  # prices are kept in ten-thousandths of the currency's unit
PER_CREDIT_MAX = 10**9 * PER_CREDIT_UNITS
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_PRICE = re.compile(r"(0|[1-9]\d{0,8})(?:\.(\d{1,4}))?")

# What the pools of a company got and gave; `opening` plus all of it is `closing`.
INTO_POOL: Mapping[Kind, str] = {
    Kind.GRANT: "granted",
    Kind.TRIAL: "granted",
    Kind.MOVE: "received",
    Kind.CLOSE: "received",
    Kind.CODE_REDEEM: "redeemed",
    Kind.CODE_DELETE: "codes_returned",
    Kind.REFUND: "given_back",
    Kind.UNUSED: "given_back",
    Kind.REVERSE: "given_back",
}
OUT_OF_POOL: Mapping[Kind, str] = {
    Kind.MOVE: "moved_out",
    Kind.CLOSE: "moved_out",
    Kind.REVERSE: "taken_back",
    Kind.ACTIVATE: "spent_by_itself",
    Kind.EXTEND: "spent_by_itself",
    Kind.DAY: "spent_by_itself",
    Kind.COURTESY: "courtesy",
    Kind.CODE_MAKE: "codes_made",
    Kind.EXPIRE: "expired",
}
CHARGES = frozenset({Kind.ACTIVATE, Kind.EXTEND, Kind.DAY})
RETURNS = frozenset({Kind.REFUND, Kind.UNUSED})
# Days of devices' periods that a transfer adds or takes.
PREPAID: Mapping[Kind, int] = {
    Kind.ACTIVATE: 1,
    Kind.EXTEND: 1,
    Kind.COURTESY: 1,
    Kind.SERVE: -1,
    Kind.FORFEIT: -1,
    Kind.REFUND: -1,
    Kind.UNUSED: -1,
    Kind.REVERSE: -1,  # of days given to a device
}
ADDS = tuple("granted received redeemed codes_returned given_back companies_joined".split())
TAKES = tuple(
    "moved_out taken_back spent_by_itself spent_for_below courtesy codes_made expired "
    "written_off companies_left".split()
)


class Months(NamedTuple):
    """A range of whole UTC months."""

    first: date
    last: date

    @property
    def begin_ms(self) -> int:
        """Its first instant."""
        return instant_of(self.first)

    @property
    def end_ms(self) -> int:
        """The first instant after it."""
        return instant_of(after(self.last))

    def numbers(self) -> tuple[int, ...]:
        """As 202701, one after another."""
        found = []
        here = self.first
        while here <= self.last:
            found.append(here.year * 100 + here.month)
            here = after(here)
        return tuple(found)


def instant_of(day: date) -> int:
    """Midnight UTC, in ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def after(month: date) -> date:
    """The first day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def month_begin(number: int) -> date:
    """The first day of a month such as 202701."""
    return date(number // 100, number % 100, 1)


def month_before(number: int) -> int:
    """The month before one such as 202701."""
    return number - 1 if number % 100 > 1 else number - 89


def month_text(month: date) -> str:
    """`2027-01`."""
    return f"{month.year:04d}-{month.month:02d}"


def parse_month(text: str) -> date:
    """The reverse of `month_text`. Raises ValueError."""
    found = _MONTH.fullmatch(text)
    if found is None or not 1970 <= int(found[1]) <= 9_998:
        raise ValueError("a month such as 2027-01")
    return date(int(found[1]), int(found[2]), 1)


def parse_months(first: str, last: str) -> Months:
    """A range of months. Raises ValueError, whose text begins with the field."""
    ends = []
    for name, text in (("from", first), ("to", last or first)):
        try:
            ends.append(parse_month(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    months = Months(*ends)
    if months.last < months.first:
        raise ValueError("to: before `from`")
    if len(months.numbers()) > MONTHS_MAX:
        raise ValueError(f"to: at most {MONTHS_MAX} months at once")
    return months


@dataclass(slots=True)
class Sums:
    """The figures of a line, in days: free days, or paid ones, or all."""

    opening: int = 0
    granted: int = 0
    trial: int = 0  # of what was granted
    received: int = 0
    redeemed: int = 0
    codes_returned: int = 0
    given_back: int = 0
    companies_joined: int = 0
    moved_out: int = 0
    taken_back: int = 0
    spent_by_itself: int = 0
    spent_for_below: int = 0
    courtesy: int = 0
    codes_made: int = 0
    expired: int = 0
    written_off: int = 0
    companies_left: int = 0
    closing: int = 0
    # beside the pools
    spent_by_above: int = 0
    paid_from_here: int = 0
    courtesy_received: int = 0
    forfeited: int = 0
    served: int = 0
    expired_in_codes: int = 0
    prepaid: int = 0

    def add(self, name: str, days: int) -> None:
        """Adds days to one figure."""
        setattr(self, name, getattr(self, name) + days)

    def merge(self, other: "Sums") -> None:
        """Adds every figure of another."""
        for name in self.__slots__:
            self.add(name, getattr(other, name))

    def change(self) -> int:
        """By how much the pools grew."""
        grown: int = sum(getattr(self, name) for name in ADDS)
        shrunk: int = sum(getattr(self, name) for name in TAKES)
        return grown - shrunk


@dataclass(slots=True)
class Line:
    """One line of a statement, free and paid days apart."""

    free: Sums = field(default_factory=Sums)
    paid: Sums = field(default_factory=Sums)

    def of(self, free: bool) -> Sums:
        """The side that the days are on."""
        return self.free if free else self.paid

    def total(self) -> Sums:
        """Both sides together."""
        made = Sums()
        made.merge(self.free)
        made.merge(self.paid)
        return made

    def merge(self, other: "Line") -> None:
        """Adds every figure of another line."""
        self.free.merge(other.free)
        self.paid.merge(other.paid)


class Places:
    """Where each company stood when: paths from the root down, each from an instant on."""

    def __init__(self, rows: Iterable[tuple[int, str, int]]) -> None:
        self._places: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for company_id, path, at in rows:
            here = tuple(int(part) for part in path.split("/"))
            self._places.setdefault(company_id, []).append((at, here))

    def path(self, company_id: int, at_ms: int) -> tuple[int, ...]:
        """The path at that instant; before the company was made, its first."""
        places = self._places.get(company_id)
        if not places:
            return (company_id,)
        here = places[0][1]
        for at, path in places:
            if at > at_ms:
                break
            here = path
        return here

    def line(self, root: int, company_id: int, at_ms: int) -> int | None:
        """In whose line of the root's statement it counts: the root's own or a direct child's.

        None while it stood elsewhere.
        """
        path = self.path(company_id, at_ms)
        if root not in path:
            return None
        return path[min(path.index(root) + 1, len(path) - 1)]

    def moves(self, company_id: int, begin_ms: int, end_ms: int) -> list[int]:
        """The instants in between at which it came to another place."""
        places = self._places.get(company_id, [])
        return [
            at
            for (_, before), (at, here) in pairwise(places)
            if begin_ms < at < end_ms and before != here
        ]


class Price(NamedTuple):
    """What a credit costs the buyer from a day on."""

    from_day: int
    per_credit: int
    currency: str


def parse_price(text: str) -> int:
    """Decimal text as ten-thousandths. Raises ValueError."""
    found = _PRICE.fullmatch(text)
    if found is None:
        raise ValueError(
            'decimal text such as "1.85", at most nine digits and four after the point'
        )
    return int(found[1]) * PER_CREDIT_UNITS + int((found[2] or "").ljust(4, "0"))


def price_text(units: int) -> str:
    """`1.85`, `0.0125`: at least two digits after the point."""
    whole, rest = divmod(units, PER_CREDIT_UNITS)
    digits = f"{rest:04d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def price_on(prices: Sequence[Price], day: int) -> Price | None:
    """The price in force on a day; of those from the same day the one that was set last."""
    found = None
    for price in prices:
        if price.from_day <= day and (found is None or price.from_day >= found.from_day):
            found = price
    return found


def amounts(prices: Sequence[Price], days_by_day: Mapping[int, int]) -> dict[str, int]:
    """What days cost, by currency, in hundredths; halves are rounded up, once for each currency."""
    sums: dict[str, int] = {}
    for day, days in days_by_day.items():
        price = price_on(prices, day)
        if price is not None:
            sums[price.currency] = sums.get(price.currency, 0) + days * price.per_credit
    unit = DAYS_PER_CREDIT * (PER_CREDIT_UNITS // 100)
    return {currency: (2 * total + unit) // (2 * unit) for currency, total in sums.items()}


def amount_text(hundredths: int) -> str:
    """`12.50`, `-3.00`."""
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' if hundredths < 0 else ''}{whole}.{rest:02d}"


def day_number(at_ms: int) -> int:
    """The UTC day of an instant, for prices."""
    return at_ms // DAY_MS
