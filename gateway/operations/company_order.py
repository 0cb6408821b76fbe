"""The order of a list of companies, and where its next page begins."""

from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, or_, select

from gateway.domain.refusals import Code, Refused
from gateway.operations.registry import Call, cursor_number
from gateway.operations.visible import Visible
from gateway.storage.schema import company

Order = Literal["id", "name"]


def columns_of(order: Order) -> list[ColumnElement[Any]]:
    """What the list is ordered by."""
    return [company.c.name_key, company.c.id] if order == "name" else [company.c.id]


def behind(
    call: Call, order: Order, cursor: str, visible: Visible
) -> tuple[ColumnElement[bool], ...]:
    """That a company stands behind the one that the cursor names. Raises `Refused`.

    Only one that the caller sees: else its place among others would tell its name.
    """
    number = cursor_number(cursor)
    if number is None:
        return ()
    if order == "id":
        return (company.c.id > number,)
    seen = visible.has(company.c.id)
    last = call.tx.scalar(select(company.c.name_key).where(company.c.id == number, seen))
    if last is None:
        raise Refused(Code.VALIDATION, "cursor: not one that a list gave out", field="cursor")
    same = and_(company.c.name_key == last, company.c.id > number)
    return (or_(company.c.name_key > last, same),)
