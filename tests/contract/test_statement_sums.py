"""Statements after months of everything that happens, beside plain sums over the ledger's rows."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from gateway.domain.instants import HOUR_MS, MINUTE_MS, day_of, day_text
from gateway.jobs import months
from gateway.storage.transaction import Transaction
from tests.contract.world import World

SERIALS = [f"12000000{n:02d}" for n in range(8)]
MONTHS = 2
SEED = 1
# The figure that a row counts as where days leave a pool, and where they come into one.
OUT = {
    "activate": "spent_by_itself",
    "extend": "spent_by_itself",
    "day": "spent_by_itself",
    "courtesy": "courtesy",
    "move": "moved_out",
    "close": "moved_out",
    "reverse": "taken_back",
    "code_make": "codes_made",
    "expire": "expired",
}
IN = {
    "grant": "granted",
    "trial": "granted",
    "move": "received",
    "close": "received",
    "code_redeem": "redeemed",
    "code_delete": "codes_returned",
    "refund": "given_back",
    "unused": "given_back",
    "reverse": "given_back",
}
CHANGES = {*OUT.values(), *IN.values(), "spent_for_below", "written_off"}
ADDS = "granted received redeemed codes_returned given_back companies_joined".split()
TAKES = (
    "moved_out taken_back spent_by_itself spent_for_below courtesy codes_made expired written_off"
    " companies_left".split()
)
_ROWS = """
SELECT t.kind, t.days, t.free, t.company_id, t.at, f.company_id, f.kind, g.company_id, g.kind
FROM transfer AS t JOIN account AS f ON f.id = t.from_account
JOIN account AS g ON g.id = t.to_account
ORDER BY t.seq
"""
_HELD = "SELECT company_id, sum(balance) FROM account WHERE kind = 'pool' GROUP BY 1"
_PREPAID = """
SELECT d.company_id, sum(a.balance) FROM account AS a JOIN device AS d ON d.id = a.device_id
WHERE a.kind = 'prepaid' GROUP BY 1
"""
# A day that was served in grace counts when it is charged.
_HEARD = """
SELECT m.company_id, d.serial, count(*)
FROM monitored_day AS m JOIN device AS d ON d.id = m.device_id
LEFT JOIN transfer AS t ON t.id = m.transfer_id
WHERE coalesce(t.at / 86400000, m.day) >= ? AND coalesce(t.at / 86400000, m.day) < ? GROUP BY 1, 2
"""


@dataclass(slots=True)
class Snapshot:
    """What was so when a month ended."""

    at_ms: int
    month: str  # that begins
    held: dict[str, int]
    prepaid: dict[str, int]
    parents: dict[str, str | None]


@dataclass(slots=True)
class Life:
    """Some companies, whatever happens to them, and what was so at each month's end."""

    world: World
    rng: random.Random
    top: str = ""
    companies: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        world = self.world
        self.top = world.company("Top")
        self.companies.append(self.top)
        for n, parent in enumerate((0, 0, 1, 1, 2)):
            more = {"use_parent_credits": n != 1, "plan": "daily" if n == 3 else "block"}
            self.companies.append(world.company(f"C{n}", self.companies[parent], **more))
        world.grant(self.top, 60)
        self.snapshot()

    def snapshot(self) -> None:
        self.snapshots.append(
            Snapshot(
                self.world.now_ms,
                month_text(self.world.now_ms),
                self.world.read(partial(by_company, _HELD)),
                self.world.read(partial(by_company, _PREPAID)),
                {
                    one: self.world.do("companies.show", company_id=one)["parent_id"]
                    for one in self.companies
                },
            )
        )

    def step(self) -> None:
        """Some time, and something that may be refused."""
        self.live(self.rng.randrange(MINUTE_MS, 40 * HOUR_MS))
        heard = [one for one in SERIALS if self.rng.random() < 0.7]
        self.world.deliver(*((one, "hb", self.world.router(one).message()) for one in heard))
        for _ in range(3):
            self.world.now_ms += self.rng.randrange(1, 5_000)
            name, given = self.something()
            self.done[name] += self.world.ask(name, **given) == "ok"

    def live(self, ms: int) -> None:
        """Time passes; at each month's end somebody looks."""
        while True:
            left = month_end(self.world.now_ms) - self.world.now_ms
            if ms < left:
                break
            self.world.live(left)
            self.world.jobs()
            # The jobs of the new month's first instant belong to it.
            self.look_back()
            self.world.live(MINUTE_MS)
            ms -= left
        self.world.live(max(ms, 1))

    def look_back(self) -> None:
        """The balance as it was just before the month that now begins."""
        now_ms = self.world.now_ms
        self.snapshot()
        begun = self.snapshots[-1]
        for at, kind, company_id, days in self.world.read(changes):
            if at >= now_ms:
                held = begun.held if kind == "pool" else begun.prepaid
                held[company_id] = held.get(company_id, 0) - days

    def something(self) -> tuple[str, dict[str, Any]]:
        rng, one, other = self.rng, self.company(), self.company()
        serial = rng.choice(SERIALS)
        expires = day_text(day_of(self.world.now_ms) + rng.randrange(40))
        made: list[tuple[str, dict[str, Any]]] = [
            ("credits.grant", {"company_id": one, "days": rng.randrange(1, 90)}),
            ("credits.grant", {"company_id": one, "days": 45, "free": True}),
            ("credits.grant", {"company_id": one, "days": 70, "expires_on": expires}),
            ("credits.move", {"source": one, "target": other, "days": rng.randrange(1, 60)}),
            ("credits.move", {"source": self.top, "target": other, "credits": 2}),
            ("credits.give", {"serial": serial, "days": rng.randrange(1, 20)}),
            ("devices.register", {"serial": serial, "company_id": one, "activate": True}),
            ("devices.register", {"serial": serial, "company_id": other}),
            ("devices.extend", {"serial": serial, "credits": 1}),
            ("devices.unregister", {"serial": serial}),
            ("devices.move", {"serial": serial, "company_id": other}),
            ("credit-codes.create", {"company_id": one, "days": rng.randrange(1, 40)}),
            ("companies.change", {"company_id": one, "plan": rng.choice(["block", "daily"])}),
            (
                "companies.change",
                {"company_id": one, "unregister": rng.choice(["forfeit", "refund"])},
            ),
        ]
        if self.codes:
            code = self.codes.pop()
            made += 3 * [("credit-codes.redeem", {"code": code, "company_id": one})]
        if self.rng.random() < 0.15 and one != self.top:
            made = [("companies.move", {"company_id": one, "parent_id": other})]
        if self.rng.random() < 0.2:
            rows = [row["id"] for row in self.world.ledger()[:40]]
            made = [("credits.reverse", {"transfer": rng.choice(rows)})]
        name, given = rng.choice(made)
        if name == "credit-codes.create" and self.world.pools(one) > given["days"]:
            self.codes.append(self.world.do(name, **given)["code"])
        return name, given

    def company(self) -> str:
        return self.rng.choice(self.companies)


def by_company(statement: str, tx: Transaction) -> dict[str, int]:
    return {str(id_): int(days) for id_, days in tx.fetch(statement)}


def rows_of(tx: Transaction) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.fetch(_ROWS)]


def changes(tx: Transaction) -> list[tuple[int, str, str, int]]:
    """`(at, pool or prepaid, company, days)`."""
    found = []
    for _, days, _, company_id, at, source, source_kind, target, target_kind in rows_of(tx):
        for kind, holder, sign in ((source_kind, source, -1), (target_kind, target, 1)):
            if kind in ("pool", "prepaid"):
                owner = holder if kind == "pool" else company_id
                found.append((at, kind, str(owner), sign * days))
    return found


def month_text(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m}"


def month_begin(text: str) -> int:
    return round(datetime.fromisoformat(f"{text}-01T00:00:00+00:00").timestamp()) * 1000


def month_end(at_ms: int) -> int:
    year, month = (int(part) for part in month_text(at_ms).split("-"))
    following = f"{year + month // 12}-{month % 12 + 1:02d}"
    return month_begin(following)


def plain_figures(
    rows: list[tuple[Any, ...]], begin_ms: int, end_ms: int
) -> dict[tuple[str, bool], Counter[str]]:
    """What happened in pools, by company and side, told again without the statement's code."""
    found: dict[tuple[str, bool], Counter[str]] = {}
    for kind, days, free, company_id, at, source, source_kind, target, target_kind in rows:
        if not begin_ms <= at < end_ms:
            continue
        if source_kind == "pool":
            name = OUT[kind]
            if kind == "close" and target_kind != "pool":
                name = "written_off"
            if name == "spent_by_itself" and source != company_id:
                name = "spent_for_below"
            found.setdefault((str(source), bool(free)), Counter())[name] += days
        if target_kind == "pool":
            found.setdefault((str(target), bool(free)), Counter())[IN[kind]] += days
    return found


def statement(life: Life, company: str, first: str, last: str, **more: Any) -> Any:
    given = {"company_id": company, "from": first, "to": last, **more}
    return life.world.do("companies.statement", **given)


def close_months(world: World) -> None:
    while world.write(months.close):
        pass
    while world.write(months.roll_up):
        pass


def check_own(life: Life, begin: Snapshot, end: Snapshot) -> None:
    """Each company's own pools, against the rows and against what was seen at the time."""
    last = month_text(end.at_ms - 1)
    rows = life.world.read(rows_of)
    plain = plain_figures(rows, month_begin(begin.month), end.at_ms)
    heard = heard_of(life.world, day_of(month_begin(begin.month)), day_of(end.at_ms))
    for company in life.companies:
        made = statement(life, company, begin.month, last)
        for side, free in (("paid", False), ("free", True)):
            expected = plain.get((company, free), Counter())
            found = {name: made[side][name] for name in CHANGES}
            assert found == {name: expected[name] for name in CHANGES}, (company, side)
        total = made["total"]
        if begin is not life.snapshots[0]:
            assert total["opening"] == begin.held.get(company, 0), company
        assert total["closing"] == end.held.get(company, 0), company
        seen: Counter[tuple[str, str]] = Counter()
        for one in made["devices"]:  # a serial that came back has a line for each tenure
            seen[(company, one["serial"])] += one["days_heard"]
        assert +seen == {key: days for key, days in heard.items() if key[0] == company}


def heard_of(world: World, first: int, end: int) -> dict[tuple[str, str], int]:
    rows = world.read(lambda tx: tx.fetch(_HEARD, (first, end)))
    found: Counter[tuple[str, str]] = Counter()
    for company_id, serial, days in rows:
        found[(str(company_id), serial)] += days
    return dict(found)


def check_children(life: Life, begin: Snapshot, end: Snapshot) -> None:
    """The lines are the whole, and each adds up; the whole is the sum of the companies' own."""
    last = month_text(end.at_ms - 1)
    for company in life.companies:
        made = statement(life, company, begin.month, last, group_by="child")
        lines = [made["own"], *made["children"]]
        for side in ("total", "paid", "free"):
            for name, days in made[side].items():
                assert days == sum(line[side][name] for line in lines), (company, name)
            for figures in (made[side], *(line[side] for line in lines)):
                change = sum(figures[n] for n in ADDS) - sum(figures[n] for n in TAKES)
                assert figures["opening"] + change == figures["closing"], (company, side)
                assert min(figures.values()) >= 0, (company, figures)
    whole = statement(life, life.top, begin.month, last, group_by="child")["total"]
    owns = [statement(life, one, begin.month, last)["total"] for one in life.companies]
    for name in {*CHANGES, "opening", "closing", "prepaid", "served", "forfeited"}:
        assert whole[name] == sum(own[name] for own in owns), name
    assert whole["prepaid"] == sum(end.prepaid.values()), "prepaid"


def check_lines_stood_where(life: Life, end: Snapshot) -> None:
    """Of the month that ends: whose line a company is in at its end."""
    last = month_text(end.at_ms - 1)
    made = statement(life, life.top, last, last, group_by="child")
    closing = Counter[str]()
    for company in life.companies:
        line = company
        while line != life.top and end.parents[line] != life.top:
            line = end.parents[line] or ""
        closing[line] += end.held.get(company, 0)
    found = {made["own"]["company_id"]: made["own"]["total"]["closing"]}
    found |= {line["company_id"]: line["total"]["closing"] for line in made["children"]}
    assert {one: days for one, days in found.items() if days} == +closing


def test_statements_are_the_sums_of_what_was_booked(world: World) -> None:
    life = Life(world, random.Random(SEED))
    life.begin()
    while len(life.snapshots) <= MONTHS:
        life.step()
    ranges = [*pairwise(life.snapshots), (life.snapshots[0], life.snapshots[-1])]
    given_out = []
    for begin, end in ranges:
        check_own(life, begin, end)
        check_children(life, begin, end)
        last = month_text(end.at_ms - 1)
        for group in ("device", "child"):
            for company in life.companies[:2]:
                asked = (company, begin.month, last)
                given_out.append((asked, group, statement(life, *asked, group_by=group)))
    for snapshot in life.snapshots[1:]:
        check_lines_stood_where(life, snapshot)
    close_months(world)
    for _ in range(3):
        life.step()
    for asked, group, made in given_out:
        assert statement(life, *asked, group_by=group) == made
    assert len(+life.done) >= 9, life.done
    world.check()
