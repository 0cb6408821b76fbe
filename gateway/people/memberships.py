"""Which memberships count now."""

from sqlalchemy import BindParameter, ColumnElement, or_

from gateway.storage.schema import membership


def in_force(now_ms: int | BindParameter[int]) -> ColumnElement[bool]:
    """Memberships that have not ended by themselves."""
    return or_(membership.c.until.is_(None), membership.c.until > now_ms)
