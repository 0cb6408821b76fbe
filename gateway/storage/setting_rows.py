"""Which settings are in force in a company: its own, or those of the nearest company above."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, select

from gateway.storage.schema import company_path, setting
from gateway.storage.transaction import Transaction


class Found(NamedTuple):
    """A value that a company set, and how far above the company asked about it stands."""

    value: Any
    company_id: int
    depth: int


def _seen_from(which: ColumnElement[bool]) -> Any:
    return (
        select(
            company_path.c.descendant_id,
            company_path.c.ancestor_id,
            company_path.c.depth,
            setting.c.key,
            setting.c.value,
        )
        .join(setting, setting.c.company_id == company_path.c.ancestor_id)
        .where(which)
        .order_by(company_path.c.depth.desc())
    )


_OF_ONE = _seen_from(company_path.c.descendant_id == bindparam("company"))
_OF_MANY = _seen_from(company_path.c.descendant_id.in_(bindparam("companies", expanding=True)))
_VALUE = """
SELECT s.value FROM company_path AS p JOIN setting AS s ON s.company_id = p.ancestor_id
WHERE p.descendant_id = ? AND s.key = ? ORDER BY p.depth LIMIT 1
"""


def settings_of(tx: Transaction, company_id: int) -> dict[str, Found]:
    """By key what is set for a company, by itself or above; nothing of what nobody set."""
    return {
        row.key: Found(json.loads(row.value), row.ancestor_id, row.depth)
        for row in tx.all(_OF_ONE, {"company": company_id})  # the nearest comes last
    }


def settings_of_many(tx: Transaction, company_ids: Collection[int]) -> dict[int, dict[str, Found]]:
    """The same for many companies at once."""
    found: dict[int, dict[str, Found]] = {number: {} for number in company_ids}
    for row in tx.all(_OF_MANY, {"companies": list(company_ids)}):
        said = Found(json.loads(row.value), row.ancestor_id, row.depth)
        found[row.descendant_id][row.key] = said
    return found


def setting_of(tx: Transaction, company_id: int, key: str) -> Any:
    """One value that is set for the company; None: nobody set it."""
    rows = tx.fetch(_VALUE, (company_id, key))
    return json.loads(rows[0][0]) if rows else None
