"""Which rows of a long history a caller gets, so that the newest page is found fast."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, func, select

from gateway.operations.registry import Call, Page, cursor_number
from gateway.operations.visible import Visible
from gateway.storage.schema import company_path
from gateway.storage.transaction import AnyRow

COMPANIES_FEW = 50


def of_companies(call: Call, column: Column[int], visible: Visible) -> ColumnElement[bool]:
    """Rows of these companies.

    Of few companies the rows are found by company. Of many they are nearly all there are, so that
    walking along in the order of the list is over soon; the sum keeps the database from sorting
    them first.
    """
    below = select(company_path.c.descendant_id).where(
        company_path.c.ancestor_id.in_(visible.below)
    )
    some = below.limit(COMPANIES_FEW + 1).subquery()
    many = call.tx.scalar(select(func.count()).select_from(some)) > COMPANIES_FEW
    return visible.has(column + 0 if many else column)


def newest(
    call: Call, statement: Select[Any], column: Column[int], page: Page
) -> tuple[Sequence[AnyRow], str | None]:
    """The page's rows, newest first by their number, and the cursor of the next page.

    Raises `Refused` for a cursor that no list gave out.
    """
    before = cursor_number(page.cursor)
    if before is not None:
        statement = statement.where(column < before)
    rows = call.tx.all(statement.order_by(column.desc()).limit(page.limit + 1))
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    return shown, str(getattr(shown[-1], column.name)) if more else None
