"""Which rows of a long history a caller gets, so that the newest page is found fast."""

from sqlalchemy import Column, ColumnElement, func, select

from gateway.operations.registry import Call
from gateway.storage.schema import company_path

COMPANIES_FEW = 50


def of_companies(call: Call, column: Column[int], roots: tuple[int, ...]) -> ColumnElement[bool]:
    """Rows of the companies below these.

    Of few companies the rows are found by company. Of many they are nearly all there are, so that
    walking back from the newest is over soon; the sum keeps the database from sorting them first.
    """
    below = select(company_path.c.descendant_id).where(company_path.c.ancestor_id.in_(roots))
    some = below.limit(COMPANIES_FEW + 1).subquery()
    many = call.tx.scalar(select(func.count()).select_from(some)) > COMPANIES_FEW
    return (column + 0 if many else column).in_(below)
