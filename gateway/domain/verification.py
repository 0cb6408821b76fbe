"""Replays the ledger's transfers from the first, and says where they break their own rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.domain.instants import DAY_MS, day_of, day_text, month_of
from gateway.domain.ledger import Kind, transfer_id

FINDINGS_MAX = 1_000  # of one check: more would only hide the first


class Moved(NamedTuple):
    """One row of the ledger, in the order of `seq`."""

    id: str
    operation_id: str
    kind: str
    source: int
    target: int
    days: int
    company_id: int
    device_id: int | None
    payer_id: int | None
    payer_path: str
    company_path: str
    at_ms: int
    lot: int | None = None  # of days carried between devices: the lot that paid them


# Between which kinds of account each kind of transfer moves days.
WAYS: Mapping[Kind, frozenset[tuple[str, str]]] = {
    Kind.GRANT: frozenset({("issuer", "pool")}),
    Kind.TRIAL: frozenset({("issuer", "pool")}),
    Kind.MOVE: frozenset({("pool", "pool")}),
    Kind.ACTIVATE: frozenset({("pool", "prepaid")}),
    Kind.EXTEND: frozenset({("pool", "prepaid")}),
    Kind.COURTESY: frozenset({("pool", "prepaid")}),
    Kind.DAY: frozenset({("pool", "consumed")}),
    Kind.SERVE: frozenset({("prepaid", "consumed")}),
    Kind.CARRY: frozenset({("prepaid", "prepaid")}),
    Kind.FORFEIT: frozenset({("prepaid", "forfeited")}),
    Kind.REFUND: frozenset({("prepaid", "pool"), ("prepaid", "expired")}),
    Kind.UNUSED: frozenset({("prepaid", "pool"), ("prepaid", "expired")}),
    Kind.EXPIRE: frozenset({("pool", "expired"), ("code", "expired")}),
    Kind.CODE_MAKE: frozenset({("pool", "code")}),
    Kind.CODE_REDEEM: frozenset({("code", "pool")}),
    Kind.CODE_DELETE: frozenset({("code", "pool")}),
    Kind.CLOSE: frozenset({("pool", "pool"), ("pool", "forfeited")}),
    Kind.REVERSE: frozenset({("pool", "issuer"), ("pool", "pool"), ("prepaid", "pool")}),
}
PAYING = frozenset({Kind.ACTIVATE, Kind.EXTEND, Kind.DAY})


@dataclass(slots=True)
class Replay:
    """The ledger played once more; `account_kinds` says what each account is."""

    account_kinds: Mapping[int, str]
    rows: int = 0
    sums: dict[int, int] = field(default_factory=dict)
    taken: dict[tuple[int, int], int] = field(default_factory=dict)  # (company, month): days
    # Per prepaid account the stretches in which it held days, as UTC days; the last may be open.
    paid_days: dict[int, list[tuple[int, int | None]]] = field(default_factory=dict)
    # Days that the server's clock came by again, after it had gone back.
    lived_twice: list[tuple[int, int | None]] = field(default_factory=list)
    overdrawn: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    _ordinals: dict[str, int] = field(default_factory=dict)
    _latest_ms: int = 0

    def take(self, row: Moved) -> None:
        """One more row."""
        self.rows += 1
        ordinal = self._ordinals.get(row.operation_id, 0)
        self._ordinals[row.operation_id] = ordinal + 1
        if row.id != transfer_id(row.operation_id, ordinal):
            _note(self.ids, f"transfer {row.id}: not number {ordinal} of {row.operation_id}")
        if day_of(row.at_ms) < day_of(self._latest_ms):
            self._live_again(day_of(row.at_ms), day_of(self._latest_ms))
        self._latest_ms = max(self._latest_ms, row.at_ms)
        self._move(row)
        if row.kind in PAYING:
            self._pay(row)
        way = (self.account_kinds.get(row.source, "?"), self.account_kinds.get(row.target, "?"))
        if row.kind not in WAYS or way not in WAYS[Kind(row.kind)]:
            _note(self.ways, f"transfer {row.id}: {row.kind} from {way[0]} to {way[1]}")
        if row.kind == Kind.CARRY and self.account_kinds.get(row.lot or 0) != "pool":
            _note(self.ways, f"transfer {row.id}: carried without the lot that paid")
        if not row.company_path.endswith(str(row.company_id)):
            _note(self.paths, f"transfer {row.id}: its company is not at the end of its path")

    def _live_again(self, first: int, last: int) -> None:
        """Of no day in between can be told any more under which period it was counted."""
        # One stretch for each step of the clock, however many rows are booked before it catches
        # up: every monitored day is held against all of them.
        if self.lived_twice and self.lived_twice[-1][1] == last:
            first = min(first, self.lived_twice.pop()[0])
        self.lived_twice.append((first, last))

    def _move(self, row: Moved) -> None:
        before = self.sums.get(row.target, 0)
        self.sums[row.source] = self.sums.get(row.source, 0) - row.days
        self.sums[row.target] = before + row.days
        if self.sums[row.source] < 0 and self.account_kinds.get(row.source) != "issuer":
            _note(self.overdrawn, f"transfer {row.id}: account {row.source} did not hold its days")
        # Days may go over to another device, so both ends are looked at by themselves.
        if self.account_kinds.get(row.target) == "prepaid" and before == 0:
            self.paid_days.setdefault(row.target, []).append((day_of(row.at_ms), None))
        if self.account_kinds.get(row.source) == "prepaid" and self.sums[row.source] == 0:
            held = self.paid_days.get(row.source, [])
            held[-1:] = [(first, day_of(row.at_ms)) for first, _ in held[-1:]]

    def _pay(self, row: Moved) -> None:
        asked = [int(part) for part in row.payer_path.split("/") if part]
        if not asked or asked[0] != row.company_id or asked[-1] != row.payer_id:
            _note(self.paths, f"transfer {row.id}: its payer is not at the end of its path")
        month = month_of(row.at_ms)
        for company_id in asked[:-1]:
            key = (company_id, month)
            self.taken[key] = self.taken.get(key, 0) + row.days


def _note(findings: list[str], text: str) -> None:
    if len(findings) < FINDINGS_MAX:
        findings.append(text)


def closure(parents: Mapping[int, int | None]) -> Iterator[tuple[int, int, int]]:
    """`(ancestor, descendant, depth)` of a tree, by walking up from each of its nodes.

    A node whose way up does not end is left out: nothing in `company_path` can agree with it.
    """
    for company_id in parents:
        above: list[int] = []
        here: int | None = company_id
        while here is not None and len(above) <= len(parents):
            above.append(here)
            here = parents.get(here)
        if here is None:
            for depth, ancestor in enumerate(above):
                yield ancestor, company_id, depth


def wrong_period(start_ms: int | None, end_ms: int | None, prepaid_days: int) -> str | None:
    """What is wrong with a device's period and its prepaid days; None when nothing is."""
    if start_ms is None or end_ms is None:
        return None if prepaid_days == 0 else f"no period, but {prepaid_days} days prepaid"
    days, rest = divmod(end_ms - start_ms, DAY_MS)
    if rest or days != prepaid_days:
        return f"a period of {days} days and {rest} ms, but {prepaid_days} days prepaid"
    return None


def day_unpaid(day: int, stretches: list[tuple[int, int | None]]) -> str | None:
    """Why a monitored day cannot be right; None when some period covers it."""
    if any(first <= day and (last is None or day <= last) for first, last in stretches):
        return None
    return f"{day_text(day)} was counted, but no period was paid for it"
