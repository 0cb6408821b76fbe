"""Warns companies once a day: of credits that run dry, and of lots that will expire unspent."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import select

from gateway.domain.forecasts import (
    DRY_WARNINGS,
    EXPIRY_WARNINGS,
    look_ahead,
    warned_at,
)
from gateway.domain.instants import day_text
from gateway.domain.notices import Notice
from gateway.operations.announcing import tell
from gateway.operations.clock_state import trust_of
from gateway.operations.forecasts import burning, covered_by
from gateway.operations.treasury import Treasury
from gateway.storage.installation_facts import get, put
from gateway.storage.schema import INTO_POOLS, company
from gateway.storage.transaction import Transaction

COMPANIES_AT_ONCE = 20
_DONE = "warned"
_LAST_FILLED = """
SELECT max(t.seq) FROM account AS a JOIN transfer AS t ON t.to_account = a.id AND t.{into}
WHERE a.kind = 'pool' AND a.company_id = ?
""".replace("{into}", INTO_POOLS)


class Due(NamedTuple):
    """What a company is to be told."""

    company_id: int
    kind: Notice
    detail: dict[str, object]
    key: str


class Look(NamedTuple):
    """A look at some companies: how far it went, and what it found."""

    before: str
    after: str
    companies: int
    found: list[Due]


def look(tx: Transaction) -> Look | None:
    """Looks at some companies that were not looked at today; None when none is left.

    It only reads, as a large company takes a while.
    """
    if not trust_of(tx).sure:
        return None
    before = get(tx, _DONE) or "[0, 0]"
    day, last = json.loads(before)
    if day > tx.today:
        return None  # the clock went back
    rows = tx.all(
        select(company.c.id)
        .where(company.c.id > (last if day == tx.today else 0), company.c.closed_at.is_(None))
        .order_by(company.c.id)
        .limit(COMPANIES_AT_ONCE)
    )
    if not rows:
        return None
    found = [warning for row in rows for warning in _warnings(tx, row.id)]
    return Look(before, json.dumps([tx.today, rows[-1].id]), len(rows), found)


def keep(tx: Transaction, seen: Look) -> bool:
    """Tells what was found, unless another gateway has done so meanwhile."""
    if not tx.alone("warnings") or (get(tx, _DONE) or "[0, 0]") != seen.before:
        return False
    for one in seen.found:
        tell(tx, one.company_id, one.kind, str(one.company_id), one.detail, one.key)
    put(tx, _DONE, seen.after)
    return True


def _warnings(tx: Transaction, company_id: int) -> Iterator[Due]:
    treasury = Treasury.of(tx)
    using = burning(tx, company_id)
    lots = treasury.lots(company_id)
    if not using and not lots:
        return
    outlook = look_ahead(lots, using, tx.today)
    if outlook.dry_day is not None and covered_by(treasury, company_id) is None:
        yield from _of_dryness(tx, company_id, outlook.dry_day)
    for lot in outlook.wasted:
        left = lot.expires_day - tx.today
        step = warned_at(left, EXPIRY_WARNINGS)
        if step is not None and left >= 0:
            detail = {"days": lot.days, "on": day_text(lot.expires_day), "days_left": left}
            key = f"lot_expires {company_id} {lot.expires_day} {lot.free} {step}"
            yield Due(company_id, Notice.LOT_EXPIRES, detail, key)


def _of_dryness(tx: Transaction, company_id: int, dry_day: int) -> Iterator[Due]:
    """At each step once, and anew after credits came."""
    left = max(0, dry_day - tx.today)
    step = warned_at(left, DRY_WARNINGS)
    if step is None:
        return
    ((filled,),) = tx.fetch(_LAST_FILLED, (company_id,))
    detail: dict[str, object] = {"on": day_text(dry_day), "days_left": left}
    key = f"run_dry {company_id} {filled or 0} {step}"
    yield Due(company_id, Notice.CREDITS_RUN_DRY, detail, key)
