"""Adds a statement's rows up: a line for the company's own, one for each direct child."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.domain.ledger import Kind
from gateway.domain.statements import (
    CHARGES,
    INTO_POOL,
    OUT_OF_POOL,
    PREPAID,
    RETURNS,
    Line,
    Months,
    Places,
    day_number,
)
from gateway.operations.statement_rows import Came, OfDevice, Out, Rows
from gateway.storage.transaction import Transaction

K = TypeVar("K")


@dataclass(slots=True)
class OfOneDevice:
    """What a device cost and was heard, while a company held it."""

    paid_days: int = 0
    free_days: int = 0
    courtesy_days: int = 0
    heard_days: int = 0
    returned_days: int = 0
    forfeited_days: int = 0
    billed: dict[int, int] = field(default_factory=dict)  # paid days that count, by UTC day


class Lines:
    """The figures of a root's own line and of its direct children's."""

    def __init__(
        self,
        tx: Transaction,
        root: int,
        months: Months,
        places: Places,
        companies: list[int],
        *,
        by_day: frozenset[int] = frozenset(),
    ) -> None:
        self._root = root
        self._places = places
        self._companies = companies
        self._begin_ms, self._end_ms = months.begin_ms, months.end_ms
        self._moved = [
            id_ for id_ in companies if places.moves(id_, months.begin_ms, months.end_ms)
        ]
        self.rows = Rows(tx, months, companies, sorted({*self._moved, *by_day}))
        self.lines: dict[int, Line] = {root: Line()}
        self.devices: dict[tuple[int, int], OfOneDevice] = {}
        # Paid days that a child was supplied with by the root, and the root from above, by UTC day.
        self.billed: dict[int, dict[int, int]] = {}
        # Of each company and side: what its pools hold now, what changed later, what in the range.
        self._now: dict[tuple[int, bool], int] = {}
        self._later: dict[tuple[int, bool], int] = {}
        self._changes: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        self._prepaid: dict[tuple[int, bool], int] = {}

    def add_up(self, *, each_device: bool) -> None:
        """Reads and adds everything."""
        for out in self.rows.out():
            self._take_out(out)
        for came in self.rows.came():
            self._take_in(came)
        for id_, free, days in self.rows.balances():
            _add(self._now, (id_, free), days)
        for id_, free, days in self.rows.prepaid_now():
            _add(self._prepaid, (id_, free), days)
        for id_, free, days in self.rows.gone_along_later():
            _add(self._prepaid, (id_, free), -days)
        for row in self.rows.of_devices(each=each_device):
            self._take_of_device(row)
        for id_, free, stamp, days in self.rows.expired_in_codes():
            self._add(id_, stamp, free, "expired_in_codes", days)
        if each_device:
            self._add_heard()
        self._take_moves()
        self._balance()

    def _line(self, company_id: int, stamp: int) -> int | None:
        return self._places.line(self._root, company_id, stamp)

    def _add(self, company_id: int, stamp: int, free: bool, name: str, days: int) -> None:
        number = self._line(company_id, stamp)
        if number is not None:
            self.lines.setdefault(number, Line()).of(free).add(name, days)

    def _change(self, company_id: int, free: bool, stamp: int, later: bool, days: int) -> None:
        key = (company_id, free)
        if later:
            _add(self._later, key, days)
        else:
            self._changes.setdefault(key, []).append((stamp, days))

    def _take_out(self, out: Out) -> None:
        self._change(out.company_id, out.free, out.stamp, out.later, -out.days)
        if out.later:
            return
        name = OUT_OF_POOL[Kind(out.kind)]
        if out.kind == Kind.CLOSE and out.sunk:
            name = "written_off"
        elif name == "spent_by_itself" and not out.own:
            name = "spent_for_below"
        self._add(out.company_id, out.stamp, out.free, name, out.days)

    def _take_in(self, came: Came) -> None:
        self._change(came.company_id, came.free, came.stamp, came.later, came.days)
        if came.later:
            return
        self._add(came.company_id, came.stamp, came.free, INTO_POOL[Kind(came.kind)], came.days)
        if came.kind == Kind.TRIAL:
            self._add(came.company_id, came.stamp, came.free, "trial", came.days)

    def _take_of_device(self, row: OfDevice) -> None:
        kind, key = Kind(row.kind), (row.company_id, row.free)
        if kind in PREPAID and row.later:
            _add(self._prepaid, key, -PREPAID[kind] * row.days)
        if row.later:
            return
        add = self._adder(row)
        if kind is Kind.FORFEIT:
            add("forfeited", row.days)
        elif kind in (Kind.SERVE, Kind.DAY):
            add("served", row.days)
        elif kind is Kind.COURTESY:
            add("courtesy_received", row.days)
        elif kind is Kind.REVERSE:
            add("courtesy_received", -row.days)
        self._take_payment(row, kind, add)
        if row.device_id is not None:
            self._take_device(row, kind)

    def _adder(self, row: OfDevice) -> Callable[[str, int], None]:
        return lambda name, days: self._add(row.company_id, row.stamp, row.free, name, days)

    def _take_payment(self, row: OfDevice, kind: Kind, add: Callable[[str, int], None]) -> None:
        """Charges that somebody above the line paid, and what of them came back."""
        if kind not in CHARGES | RETURNS or row.payer_id is None:
            return
        number = self._line(row.company_id, row.stamp)
        if number is None:
            return
        path = self._places.path(row.company_id, row.stamp)
        beneath = path[path.index(number) :]
        if row.payer_id in beneath:
            return
        sign = 1 if kind in CHARGES else -1
        from_here = row.payer_id == self._root
        if sign > 0:
            add("paid_from_here" if from_here else "spent_by_above", row.days)
        self._supply(number if from_here else self._root, row.stamp, row.free, sign * row.days)

    def _supply(self, number: int, stamp: int, free: bool, days: int) -> None:
        """Days that a buyer owes its seller for; free ones cost nothing."""
        if not free:
            _add(self.billed.setdefault(number, {}), day_number(stamp), days)

    def _take_device(self, row: OfDevice, kind: Kind) -> None:
        assert row.device_id is not None
        if self._line(row.company_id, row.stamp) is None:
            return
        one = self.devices.setdefault((row.company_id, row.device_id), OfOneDevice())
        if kind in CHARGES:
            one.paid_days += 0 if row.free else row.days
            one.free_days += row.days if row.free else 0
            if not row.free:
                _add(one.billed, day_number(row.stamp), row.days)
        elif kind is Kind.COURTESY:
            one.courtesy_days += row.days
        elif kind is Kind.REVERSE:
            one.courtesy_days -= row.days
        elif kind is Kind.FORFEIT:
            one.forfeited_days += row.days
        elif kind in RETURNS:
            one.returned_days += row.days
            if not row.free:
                _add(one.billed, day_number(row.stamp), -row.days)

    def _add_heard(self) -> None:
        for heard in self.rows.heard():
            if self._line(heard.company_id, heard.stamp) is None:
                continue
            key = (heard.company_id, heard.device_id)
            one = self.devices.setdefault(key, OfOneDevice())
            one.heard_days += heard.days
            one.paid_days += heard.paid_days
            one.free_days += heard.free_days
            if heard.paid_days:
                _add(one.billed, day_number(heard.stamp), heard.paid_days)

    def add_moved(self, seller: int | None) -> None:
        """Credits moved between the root and its children, and between its seller and it."""
        for source, target, free, at, days in self.rows.between(self._root):
            other, sign = (target, 1) if source == self._root else (source, -1)
            number = self._line(other, at)
            if number is not None:
                self._supply(number, at, free, sign * days)
            elif other == seller:
                self._supply(self._root, at, free, -sign * days)

    def _take_moves(self) -> None:
        """Companies that came or went with what their pools held then."""
        for id_ in self._moved:
            for at in self._places.moves(id_, self._begin_ms, self._end_ms):
                before, after = self._line(id_, at - 1), self._line(id_, at)
                if before == after:
                    continue
                for free in (False, True):
                    held = self._opening(id_, free) + sum(
                        days for stamp, days in self._changes.get((id_, free), ()) if stamp < at
                    )
                    if before is not None:
                        self.lines.setdefault(before, Line()).of(free).add("companies_left", held)
                    if after is not None:
                        self.lines.setdefault(after, Line()).of(free).add("companies_joined", held)

    def _opening(self, company_id: int, free: bool) -> int:
        key = (company_id, free)
        closing = self._now.get(key, 0) - self._later.get(key, 0)
        return closing - sum(days for _, days in self._changes.get(key, ()))

    def _balance(self) -> None:
        for id_ in self._companies:
            for free in (False, True):
                key = (id_, free)
                closing = self._now.get(key, 0) - self._later.get(key, 0)
                self._add(id_, self._begin_ms, free, "opening", self._opening(id_, free))
                self._add(id_, self._end_ms - 1, free, "closing", closing)
                prepaid = self._prepaid.get(key, 0)
                self._add(id_, self._end_ms - 1, free, "prepaid", prepaid)


def summed(lines: Iterable[Line]) -> Line:
    """All lines together."""
    total = Line()
    for line in lines:
        total.merge(line)
    return total


def _add(sums: dict[K, int], key: K, days: int) -> None:
    sums[key] = sums.get(key, 0) + days
