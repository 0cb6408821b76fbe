"""The ledger kept once more, by plain rules: each transfer must be the one that these would make.

It looks at the gateway's rows only, in the order in which they were booked, and keeps its own
balances. What it knows of companies is what the machine was told when it asked for changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise, permutations
from typing import NamedTuple

from sqlalchemy import select

from gateway.domain.instants import day_of, month_of
from gateway.storage.schema import account, transfer
from gateway.storage.transaction import AnyRow, Transaction

CREDIT_DAYS = 30
PAID_BY_SOMEBODY = ("activate", "extend", "day")


class Company:
    """A company as the one who changes it knows it."""

    def __init__(self, parent: str | None) -> None:
        self.parent = parent
        self.flag = False
        self.limit: int | None = None
        self.suspended = False
        self.closed = False
        self.was_daily = False


class Lot(NamedTuple):
    """An account as it was made; it is never changed."""

    id: int
    kind: str
    company: str | None
    expires_day: int | None
    free: bool
    redeemed: bool

    def spendable(self, today: int) -> bool:
        return self.expires_day is None or self.expires_day >= today

    @property
    def life(self) -> tuple[int | None, bool]:
        """What must stay the same wherever its days go."""
        return self.expires_day, self.free

    @property
    def turn(self) -> tuple[bool, int, bool, bool, int]:
        """When its turn to be spent comes: soonest expiry, free first, given first."""
        never = self.expires_day is None
        return never, self.expires_day or 0, not self.free, self.redeemed, self.id


class Charge(NamedTuple):
    """Days that one company paid at once, by lot."""

    payer: str
    path: tuple[str, ...]
    kind: str
    at: int
    lots: Mapping[int, int]

    @property
    def days(self) -> int:
        return sum(self.lots.values())


def accounts_of(tx: Transaction) -> Sequence[AnyRow]:
    """Every account with its balance."""
    return tx.all(select(account))


def rows_after(tx: Transaction, seq: int) -> Sequence[AnyRow]:
    """The ledger's rows since the last look, oldest first."""
    return tx.all(select(transfer).where(transfer.c.seq > seq).order_by(transfer.c.seq))


class PlainLedger:
    """Balances by account, and of each device which lots paid its days, in their order."""

    def __init__(self, companies: Mapping[str, Company]) -> None:
        self.companies = companies
        self.seq = 0
        self.days: dict[int, int] = defaultdict(int)
        self.issued = 0
        self.prepaid: dict[int, list[tuple[Lot, int]]] = defaultdict(list)
        self.taken: dict[tuple[str, int], int] = defaultdict(int)
        self.reversed: dict[str, int] = defaultdict(int)
        self.seen: dict[str, AnyRow] = {}
        self.lots: dict[int, Lot] = {}

    def take(
        self, rows: Sequence[AnyRow], accounts: Sequence[AnyRow], *, at_once: bool = False
    ) -> None:
        """The rows booked since the last look; then everything must be equal.

        `at_once`: their operations took place at the same time.
        """
        for row in accounts:
            company = None if row.company_id is None else str(row.company_id)
            lot = Lot(row.id, row.kind, company, row.expires_day, row.free, row.redeemed)
            assert self.lots.setdefault(row.id, lot) == lot, "an account was changed"
        # Operations that took place at once may have been written among each other.
        operations: dict[str, list[AnyRow]] = defaultdict(list)
        for row in rows:
            operations[row.operation_id].append(row)
        if at_once:
            self._in_some_order([*operations.values()])
        else:
            for together in operations.values():
                self._operation(together)
        for row in accounts:
            if row.balance is not None:
                assert row.balance >= 0
                assert row.balance == self.days[row.id], f"{row.name}: {self.days[row.id]} expected"
            if row.kind == "prepaid":
                assert sum(days for _, days in self.prepaid[row.id]) == self.days[row.id]
        assert sum(self.days.values()) == 0

    def spendable(self, company: str, today: int) -> int:
        """Days that the company can spend."""
        return sum(self.days[lot.id] for lot in self._pools(company) if lot.spendable(today))

    def held(self, company: str) -> int:
        """All days in the company's pools."""
        return sum(self.days[lot.id] for lot in self._pools(company))

    def spend(self, company: str, days: int, today: int) -> dict[int, int] | None:
        """By lot what a payment of the company takes; None when it cannot pay the whole."""
        taken: dict[int, int] = {}
        for lot in sorted(self._pools(company), key=lambda lot: lot.turn):
            part = min(self.days[lot.id], days)
            if part and lot.spendable(today):
                taken[lot.id] = part
                days -= part
        return None if days else taken

    def up(self, company: str) -> list[str]:
        """The company and all above it."""
        found = [company]
        while (parent := self.companies[found[-1]].parent) is not None:
            found.append(parent)
        return found

    def _pools(self, company: str) -> Iterator[Lot]:
        return (lot for lot in self.lots.values() if lot.kind == "pool" and lot.company == company)

    # ---- rows

    def _in_some_order(self, operations: Sequence[list[AnyRow]]) -> None:
        """As if one came after the other. Numbers are given before commits, so that they do not
        tell which one was first: one that began later may not have seen what was booked before."""
        kept = self.days, self.issued, self.prepaid, self.taken, self.reversed
        wrong: AssertionError | None = None
        for order in permutations(operations):
            (self.days, self.issued, self.prepaid, self.taken, self.reversed) = deepcopy(kept)
            try:
                for together in order:
                    self._operation(together)
            except AssertionError as error:
                wrong = wrong or error
            else:
                return
        assert wrong is not None
        raise wrong

    def _operation(self, rows: list[AnyRow]) -> None:
        """One operation: first who pays and from what, then row by row."""
        waiting = list(rows)
        passed: set[str | None] = set()
        while waiting:
            row = waiting[0]
            if row.kind in PAID_BY_SOMEBODY:
                part = [one for one in waiting if _charge_key(one) == _charge_key(row)]
                self._charge(part)
            elif row.kind in ("move", "courtesy", "code_make"):
                part = [one for one in waiting if self._draw_key(one) == self._draw_key(row)]
                # Between two children days pass the company above both, and are not its own.
                if self.lots[row.from_account].company not in passed:
                    self._drawn(part)
                passed.add(self.lots[row.to_account].company)
            else:
                part = [row]
            for one in part:
                waiting.remove(one)
                self.seq = max(self.seq, one.seq)
                self._row(one)

    def _charge(self, rows: list[AnyRow]) -> None:
        first = rows[0]
        charge = Charge(
            str(first.payer_company_id),
            tuple(first.payer_path.split("/")),
            first.kind,
            first.at,
            {row.from_account: row.days for row in rows},
        )
        today, month = day_of(charge.at), month_of(charge.at)
        assert charge.path[-1] == charge.payer
        assert dict(charge.lots) == self.spend(charge.payer, charge.days, today), (
            f"another order of spending: {charge}"
        )
        for company in self.up(charge.path[0]):
            assert not self.companies[company].suspended, "charged while suspended"
        for below, above in pairwise(charge.path):
            node = self.companies[below]
            assert node.parent == above and node.flag, "the wallet above was not switched on"
            held = self.spendable(below, today)
            assert held < charge.days, f"{below} could have paid itself: {held} days"
            self.taken[below, month] += charge.days
            limit = node.limit
            assert limit is None or self.taken[below, month] <= limit * CREDIT_DAYS

    def _drawn(self, rows: list[AnyRow]) -> None:
        """Days that somebody moves: from valid lots in their order, of what may be moved."""
        first = rows[0]
        company = self.lots[first.from_account].company
        assert company is not None
        taken: dict[int, int] = defaultdict(int)
        for row in rows:
            taken[row.from_account] += row.days
            assert self.lots[row.from_account].spendable(day_of(row.at)), "a lot past its date"
        whole = self.spend(company, sum(taken.values()), day_of(first.at))
        given = {id_: days for id_, days in taken.items() if not self.lots[id_].redeemed}
        # Redeemed days stay where they are when somebody above takes credits out of a company.
        if whole is not None and not any(self.lots[id_].redeemed for id_ in whole):
            assert given == whole, f"another order of spending: {given}, expected {whole}"

    def _row(self, row: AnyRow) -> None:
        source, target = self.lots[row.from_account], self.lots[row.to_account]
        assert row.days > 0
        if source.kind != "issuer":
            assert self.days[source.id] >= row.days, f"{row.kind} of days that were not there"
        getattr(self, f"_{row.kind}", self._nothing_more)(row, source, target)
        self.days[source.id] -= row.days
        self.days[target.id] += row.days
        self.seen[row.id] = row

    def _nothing_more(self, row: AnyRow, source: Lot, target: Lot) -> None:
        self._same_life(source, target)

    @staticmethod
    def _same_life(source: Lot, target: Lot) -> None:
        if source.kind in ("pool", "code") and target.kind in ("pool", "code"):
            assert source.life == target.life, f"days of {source} became {target}"

    def _grant(self, row: AnyRow, source: Lot, target: Lot) -> None:
        self.issued += row.days
        assert target.spendable(day_of(row.at)) and target.free == row.free

    _trial = _grant

    def _paid_in(self, row: AnyRow, source: Lot, target: Lot) -> None:
        assert source.spendable(day_of(row.at)), "a lot past its date was spent"
        assert source.free == row.free
        self.prepaid[target.id].append((source, row.days))

    _activate = _extend = _courtesy = _paid_in

    def _day(self, row: AnyRow, source: Lot, target: Lot) -> None:
        assert source.spendable(day_of(row.at)), "a lot past its date was spent"

    def _serve(self, row: AnyRow, source: Lot, target: Lot) -> None:
        """Used up in the order in which they were paid."""
        for lot, _ in self._taken_of(source, row.days):
            assert lot.free == row.free

    _forfeit = _serve

    def _unused(self, row: AnyRow, source: Lot, target: Lot) -> None:
        """Back to the lots that paid, what expired meanwhile to `expired`."""
        today = day_of(row.at)
        found = [
            number
            for number, (lot, days) in enumerate(self.prepaid[source.id])
            if days >= row.days
            and (
                self._goes_back(lot, target) if target.kind == "pool" else not lot.spendable(today)
            )
        ]
        assert found, f"{row.kind} to a lot that did not pay: {target}"
        lot, days = self.prepaid[source.id].pop(found[-1])
        assert target.kind != "pool" or lot.spendable(today), "given back to a lot past its date"
        if days > row.days:
            self.prepaid[source.id].insert(found[-1], (lot, days - row.days))

    _refund = _unused

    def _goes_back(self, lot: Lot, target: Lot) -> bool:
        """To the lot that paid; of a company that was closed, to the same lot above it."""
        if lot.id == target.id:
            return True  # if its company is closing now, the days go on from there
        if lot.company is None or target.company is None or not self.companies[lot.company].closed:
            return False
        above = next(one for one in self.up(lot.company) if not self.companies[one].closed)
        return (above, lot.life, lot.redeemed) == (target.company, target.life, target.redeemed)

    def _carry(self, row: AnyRow, source: Lot, target: Lot) -> None:
        """Days go over to another device and keep the lot that paid them."""
        of = self.lots[row.lot_account]
        for _, days in self._taken_of(source, row.days, of=of):
            self.prepaid[target.id].append((of, days))

    def _expire(self, row: AnyRow, source: Lot, target: Lot) -> None:
        assert not source.spendable(day_of(row.at)), "a lot expired before its date was over"

    def _code_redeem(self, row: AnyRow, source: Lot, target: Lot) -> None:
        assert source.spendable(day_of(row.at)), "an expired code gave days"
        assert target.redeemed
        self._same_life(source, target)

    def _close(self, row: AnyRow, source: Lot, target: Lot) -> None:
        self._same_life(source, target)
        if target.kind == "pool":
            assert target.company is not None

    def _reverse(self, row: AnyRow, source: Lot, target: Lot) -> None:
        first = self.seen[row.reverses]
        self.reversed[row.reverses] += row.days
        assert self.reversed[row.reverses] <= first.days, "taken back more than was given"
        assert (first.from_account, first.to_account) == (row.to_account, row.from_account)
        if target.kind == "issuer":
            self.issued -= row.days
        if source.kind == "prepaid":
            kept: list[tuple[Lot, int]] = []
            missing = row.days
            for lot, days in reversed(self.prepaid[source.id]):
                part = min(missing, days) if self._goes_back(lot, target) else 0
                missing -= part
                if days > part:
                    kept.append((lot, days - part))
            assert missing == 0, "taken back from a device that did not hold as much of the lot"
            self.prepaid[source.id] = kept[::-1]

    def _draw_key(self, row: AnyRow) -> tuple[object, ...]:
        return row.kind, row.device_id, self.lots[row.from_account].company

    def _taken_of(self, source: Lot, days: int, of: Lot | None = None) -> Iterable[tuple[Lot, int]]:
        """The first days of a device's, or the first of one lot."""
        kept: list[tuple[Lot, int]] = []
        taken: list[tuple[Lot, int]] = []
        for lot, held in self.prepaid[source.id]:
            part = min(held, days) if of is None or self._goes_back(lot, of) else 0
            days -= part
            if part:
                taken.append((lot, part))
            if held > part:
                kept.append((lot, held - part))
        assert days == 0, "more days than were paid"
        self.prepaid[source.id] = kept
        return taken


def _charge_key(row: AnyRow) -> tuple[object, ...]:
    return row.kind, row.company_id, row.device_id, row.payer_path
