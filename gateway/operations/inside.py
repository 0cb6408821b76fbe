"""Whether a company asks people from above to stay out of what is inside."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select

from gateway.storage.schema import company_path, setting, support_access
from gateway.storage.transaction import Transaction

OPEN, ASK = "open", "ask"
_NEAREST = """
SELECT p.ancestor_id, p.depth, s.value FROM company_path AS p
JOIN setting AS s ON s.company_id = p.ancestor_id AND s.key = 'inside'
WHERE p.descendant_id = ? ORDER BY p.depth LIMIT 1
"""
_GRANTED = """
SELECT 1 FROM support_access AS a JOIN company_path AS p ON p.ancestor_id = a.company_id
WHERE p.descendant_id = ? AND p.depth <= ? AND a.ended_at IS NULL AND a.until > ? LIMIT 1
"""


def asks(tx: Transaction, company_id: int) -> int | None:
    """The company, this one or above it, that wants nobody from above inside; None: nobody does.

    A support access that is in force opens it.
    """
    asking = keeps_roles(tx, company_id)
    if asking is None or tx.fetch(_GRANTED, (company_id, asking.depth, tx.now_ms)):
        return None
    return asking.company_id


class Asking(NamedTuple):
    """The company that asks, and how far above it stands."""

    company_id: int
    depth: int


def keeps_roles(tx: Transaction, company_id: int) -> Asking | None:
    """The same whatever access was granted: whoever is let in for a while gives no roles there,
    and takes none, or they could stay."""
    nearest = tx.fetch(_NEAREST, (company_id,))
    if not nearest or json.loads(nearest[0][2]) != ASK:
        return None
    return Asking(int(nearest[0][0]), int(nearest[0][1]))


@dataclass(frozen=True, slots=True)
class Doors:
    """Companies that shut their door to people from above, and those that opened it."""

    shut: frozenset[int] = frozenset()
    open: frozenset[int] = frozenset()


def doors_below(tx: Transaction, companies: Collection[int]) -> Doors:
    """What `asks` goes by, for these companies and all below: each goes by its nearest door."""
    below = select(company_path.c.descendant_id).where(company_path.c.ancestor_id.in_(companies))
    rows = tx.all(
        select(setting.c.company_id, setting.c.value).where(
            setting.c.key == "inside", setting.c.company_id.in_(below)
        )
    )
    shut = {row.company_id for row in rows if json.loads(row.value) == ASK}
    if not shut:
        return Doors()
    granted = tx.all(
        select(support_access.c.company_id).where(
            support_access.c.ended_at.is_(None),
            support_access.c.until > tx.now_ms,
            support_access.c.company_id.in_(below),
        )
    )
    opened = {row.company_id for row in rows} - shut | {row.company_id for row in granted}
    return Doors(frozenset(shut - opened), frozenset(opened))
