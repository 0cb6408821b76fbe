"""What statements are made of: sums over transfers, heard days and moved devices, by company."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.domain.instants import DAY_MS
from gateway.domain.statements import Months, Places, after, instant_of, month_before, month_begin
from gateway.operations.booking import FORFEITED
from gateway.operations.month_marks import Bound, bound_after, closed_months, rolled_up_to
from gateway.storage.schema import INTO_POOLS, OUT_OF_POOLS
from gateway.storage.transaction import Plain, Transaction

COMPANIES_AT_ONCE = 400
LATE_DAYS = 62  # a day served in grace may be charged so much later

_PLACES = """
SELECT company_id, path, at FROM company_place WHERE company_id IN (
    SELECT company_id FROM company_place WHERE '/' || path || '/' LIKE ?)
ORDER BY company_id, at, id
"""
_OUT = """
SELECT a.company_id, t.kind, t.free, CASE WHEN t.company_id = a.company_id THEN 1 ELSE 0 END,
       CASE WHEN t.to_account = {forfeited} THEN 1 ELSE 0 END, {stamp}, {phase}, sum(t.days)
FROM account AS a JOIN transfer AS t ON t.from_account = a.id AND t.{out}
WHERE a.kind = 'pool' AND a.company_id IN ({companies}) AND {since}
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
_IN = """
SELECT a.company_id, t.kind, t.free, {stamp}, {phase}, sum(t.days)
FROM account AS a JOIN transfer AS t ON t.to_account = a.id AND t.{into}
WHERE a.kind = 'pool' AND a.company_id IN ({companies}) AND {since}
GROUP BY 1, 2, 3, 4, 5
"""
_OF_DEVICES = """
SELECT t.company_id, {device}, t.kind, t.free, t.payer_company_id, {stamp}, {phase},
       sum(t.days)
FROM transfer AS t
WHERE t.company_id IN ({companies}) AND {since} AND t.kind IN
      ('activate', 'extend', 'courtesy', 'day', 'serve', 'forfeit', 'refund', 'unused', 'reverse')
      AND (t.kind <> 'reverse' OR t.device_id IS NOT NULL)
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
# Between a company's pools and others'; `seller` is on one of the sides.
_BETWEEN = """
SELECT a.company_id, b.company_id, t.free, t.at, sum(t.days)
FROM account AS {side} JOIN transfer AS t ON t.{column} = {side}.id AND t.{kinds}
     JOIN account AS {other} ON {other}.id = t.{another}
WHERE {side}.kind = 'pool' AND {side}.company_id = {seller} AND {other}.kind = 'pool'
      AND t.kind IN ('move', 'close', 'reverse') AND {since} AND {phase} = 0
GROUP BY 1, 2, 3, 4
"""
_IN_CODES = """
SELECT a.company_id, t.free, {stamp}, sum(t.days)
FROM account AS a JOIN transfer AS t ON t.from_account = a.id AND t.{out}
WHERE a.kind = 'code' AND a.company_id IN ({companies}) AND t.kind = 'expire'
      AND {since} AND {phase} = 0
GROUP BY 1, 2, 3
"""
_BALANCES = """
SELECT company_id, free, sum(balance) FROM account
WHERE kind = 'pool' AND company_id IN ({companies}) GROUP BY 1, 2
"""
_PREPAID_NOW = """
SELECT d.company_id, t.free,
       sum(t.days - coalesce((SELECT sum(r.days) FROM transfer AS r WHERE r.reverses = t.id), 0))
FROM device AS d JOIN account AS a ON a.device_id = d.id AND a.kind = 'prepaid'
     JOIN transfer AS t ON t.device_id = d.id AND t.seq > coalesce(d.period_seq, 0)
                           AND t.to_account = a.id
WHERE d.company_id IN ({companies}) AND d.period_end IS NOT NULL
GROUP BY 1, 2
"""
_ALONG = """
SELECT {end}_company_id, sum(free_days), sum(paid_days) FROM device_move
WHERE {end}_company_id IN ({companies}) AND (at >= {end_ms} OR seq >= {late}) GROUP BY 1
"""
_HEARD_MONTHS = """
SELECT company_id, device_id, sum(days), sum(paid_days), sum(free_days) FROM monitored_month
WHERE company_id IN ({companies}) AND month >= {first} AND month <= {last} GROUP BY 1, 2
"""
HEARD_SUMS = (
    "count(*), coalesce(sum(CASE WHEN t.free THEN 0 WHEN t.id IS NULL THEN 0 ELSE 1 END), 0),"
    " coalesce(sum(CASE WHEN t.free THEN 1 ELSE 0 END), 0)"
)
HEARD = """
FROM monitored_day AS m LEFT JOIN transfer AS t ON t.id = m.transfer_id
WHERE {which} AND m.day >= {early} AND m.day < {end_day}
      AND (t.id IS NULL AND m.day >= {begin_day} OR t.at >= {begin_ms} AND t.at < {end_ms})
"""


class Out(NamedTuple):
    """Days that left a company's pools."""

    company_id: int
    kind: str
    free: bool
    own: bool  # for itself, not for a company below
    sunk: bool  # to no other pool, device or code
    stamp: int
    later: bool
    days: int


class Came(NamedTuple):
    """Days that came into a company's pools."""

    company_id: int
    kind: str
    free: bool
    stamp: int
    later: bool
    days: int


class OfDevice(NamedTuple):
    """Days of a company's devices."""

    company_id: int
    device_id: int | None
    kind: str
    free: bool
    payer_id: int | None
    stamp: int
    later: bool
    days: int


class Heard(NamedTuple):
    """Days on which a device was heard, and those of them that were charged one by one."""

    company_id: int
    device_id: int
    stamp: int
    days: int
    paid_days: int
    free_days: int


def heard_between(begin_ms: int, end_ms: int, which: str) -> str:
    """Conditions for the monitored days of a stretch of months."""
    return HEARD.format(
        which=which,
        early=begin_ms // DAY_MS - LATE_DAYS,
        begin_day=begin_ms // DAY_MS,
        end_day=end_ms // DAY_MS,
        begin_ms=begin_ms,
        end_ms=end_ms,
    )


def places_below(tx: Transaction, root: int) -> tuple[Places, list[int]]:
    """Where the companies stood that ever stood below the root, and which they are."""
    rows = [tuple(row) for row in tx.fetch(_PLACES, (f"%/{root}/%",))]
    return Places((row[0], row[1], row[2]) for row in rows), sorted({root, *(r[0] for r in rows)})


class Rows:
    """Reads the rows of some companies in a range of months.

    Sums are by company; of those in `fine` by instant, as they have to be looked at one by one.
    """

    def __init__(
        self, tx: Transaction, months: Months, companies: Sequence[int], fine: Sequence[int]
    ) -> None:
        self._tx = tx
        self._months = months
        self._companies = companies
        self._fine = frozenset(fine)
        marks = closed_months(tx)
        numbers = months.numbers()
        self.begin: Bound = bound_after(tx, month_before(numbers[0]), marks)
        self.end: Bound = bound_after(tx, numbers[-1], marks)
        self.closed = numbers[-1] <= max(marks, default=0)

    def _fields(self) -> dict[str, object]:
        stamp = "0"
        if self._fine:
            among = ",".join(str(id_) for id_ in sorted(self._fine))
            stamp = f"CASE WHEN {{company}} IN ({among}) THEN t.at ELSE 0 END"
        begin = self.begin
        after_begin = f"(t.at >= {begin.at_ms} OR t.seq >= {begin.late_seq})"
        end = f"t.at < {self.end.at_ms} AND t.seq < {self.end.late_seq}"
        return {
            "since": f"t.seq >= {begin.first_seq} AND {after_begin}",
            "out": OUT_OF_POOLS,
            "into": INTO_POOLS,
            "forfeited": FORFEITED,
            "phase": f"CASE WHEN {end} THEN 0 ELSE 1 END",
            "stamp": stamp,
        }

    def _each(self, template: str, company: str, **more: object) -> Iterator[Plain]:
        fields = self._fields() | more
        fields["stamp"] = str(fields["stamp"]).format(company=company)
        for start in range(0, len(self._companies), COMPANIES_AT_ONCE):
            some = self._companies[start : start + COMPANIES_AT_ONCE]
            among = ",".join(str(id_) for id_ in some)
            yield from self._tx.fetch(template.format(companies=among, **fields))

    def _stamp(self, stamp: int) -> int:
        """What counts in the range counts at an instant of it."""
        return min(max(int(stamp), self.begin.at_ms), self.end.at_ms - 1)

    def out(self) -> Iterator[Out]:
        """What left pools in the range, and what left them later."""
        for id_, kind, free, own, sunk, at, later, days in self._each(_OUT, "a.company_id"):
            stamp = self._stamp(at)
            yield Out(id_, kind, bool(free), bool(own), bool(sunk), stamp, bool(later), int(days))

    def came(self) -> Iterator[Came]:
        """What came into pools, likewise."""
        for id_, kind, free, at, later, days in self._each(_IN, "a.company_id"):
            yield Came(id_, kind, bool(free), self._stamp(at), bool(later), int(days))

    def of_devices(self, *, each: bool) -> Iterator[OfDevice]:
        """What was booked for the companies' devices; `each`: device by device."""
        fields = self._fields()
        device = f"CASE WHEN {fields['phase']} = 0 THEN t.device_id END" if each else "0"
        rows = self._each(_OF_DEVICES, "t.company_id", device=device)
        for id_, device_id, kind, free, payer, at, later, days in rows:
            yield OfDevice(
                id_,
                device_id or None,
                kind,
                bool(free),
                payer,
                self._stamp(at),
                bool(later),
                int(days),
            )

    def between(self, seller: int) -> Iterator[tuple[int, int, bool, int, int]]:
        """`(from, to, free, at, days)` between the pools of a company and those of others."""
        fields = self._fields()
        for side, column, other, another, kinds in (
            ("a", "from_account", "b", "to_account", OUT_OF_POOLS),
            ("b", "to_account", "a", "from_account", INTO_POOLS),
        ):
            statement = _BETWEEN.format(
                side=side,
                column=column,
                other=other,
                another=another,
                kinds=kinds,
                seller=seller,
                since=fields["since"],
                phase=fields["phase"],
            )
            for source, target, free, at, days in self._tx.fetch(statement):
                yield source, target, bool(free), self._stamp(at), int(days)

    def expired_in_codes(self) -> Iterator[tuple[int, bool, int, int]]:
        """`(company, free, stamp, days)` of codes that nobody redeemed in time."""
        for id_, free, at, days in self._each(_IN_CODES, "a.company_id"):
            yield id_, bool(free), self._stamp(at), int(days)

    def balances(self) -> Iterator[tuple[int, bool, int]]:
        """`(company, free, days)` in pools now."""
        for id_, free, days in self._each(_BALANCES, ""):
            yield id_, bool(free), int(days)

    def prepaid_now(self) -> Iterator[tuple[int, bool, int]]:
        """`(company, free, days)` of running periods now."""
        for id_, free, days in self._each(_PREPAID_NOW, ""):
            yield id_, bool(free), int(days)

    def gone_along_later(self) -> Iterator[tuple[int, bool, int]]:
        """`(company, free, days)` of periods that came with devices after the range, less gone."""
        ends = {"end_ms": self.end.at_ms, "late": self.end.late_seq}
        for end, sign in (("to", 1), ("from", -1)):
            for id_, free_days, paid_days in self._each(_ALONG, "", end=end, **ends):
                yield id_, True, sign * int(free_days)
                yield id_, False, sign * int(paid_days)

    def heard(self) -> Iterator[Heard]:
        """Heard days in the range: of months over by month, else day by day."""
        numbers = self._months.numbers()
        rolled = [month for month in numbers if month <= rolled_up_to(self._tx)]
        plain = [id_ for id_ in self._companies if id_ not in self._fine]
        begin_ms = self._months.begin_ms
        if rolled:
            more = {"first": rolled[0], "last": rolled[-1]}
            for id_, device_id, *days in self._each(_HEARD_MONTHS, "", **more):
                if id_ not in self._fine:
                    yield Heard(id_, device_id, self._stamp(0), *map(int, days))
            begin_ms = instant_of(after(month_begin(rolled[-1])))
        yield from self._heard_days(plain, begin_ms, "0")
        yield from self._heard_days(sorted(self._fine), self._months.begin_ms, "m.day")

    def _heard_days(self, companies: Sequence[int], begin_ms: int, stamp: str) -> Iterator[Heard]:
        end_ms = self._months.end_ms
        if begin_ms >= end_ms:
            return
        for start in range(0, len(companies), COMPANIES_AT_ONCE):
            some = companies[start : start + COMPANIES_AT_ONCE]
            which = f"m.company_id IN ({','.join(str(id_) for id_ in some)})"
            conditions = heard_between(begin_ms, end_ms, which)
            statement = (
                f"SELECT m.company_id, m.device_id, {stamp}, {HEARD_SUMS}"
                f" {conditions} GROUP BY 1, 2, 3"
            )
            for id_, device_id, day, *days in self._tx.fetch(statement):
                yield Heard(id_, device_id, self._stamp(int(day) * DAY_MS), *map(int, days))
