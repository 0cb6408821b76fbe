"""Lists what a company's people were told."""

import json
from typing import Any

import msgspec
from sqlalchemy import select

from gateway.domain.instants import instant_text
from gateway.domain.notices import Notice, notice_sentence
from gateway.domain.rights import Right
from gateway.operations.newest_first import newest
from gateway.operations.registry import Call, Page, company_number, operation
from gateway.storage.schema import notice


class Told(msgspec.Struct):
    """One thing that the company's people are told."""

    id: str
    kind: str
    subject: str
    detail: dict[str, Any]
    at: str
    sentence: str


class Notices(msgspec.Struct):
    """A page of notices, newest first."""

    items: list[Told]
    next_cursor: str | None


class ListNotices(Page, kw_only=True):
    """Of which company."""

    company_id: str


@operation(
    "notices.list",
    "GET",
    "/companies/{company_id}/notices",
    right=Right.SEE_CREDITS,
    result=Notices,
)
def list_notices(call: Call, given: ListNotices) -> Notices:
    """Lists what a company's administrators and billing were told, newest first."""
    number = company_number(given.company_id)
    call.require(Right.SEE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
    statement = select(notice).where(notice.c.company_id == number)
    rows, cursor = newest(call, statement, notice.c.id, given)
    items = []
    for row in rows:
        facts = json.loads(row.detail)
        said = notice_sentence(Notice(row.kind), row.subject, facts)
        items.append(Told(str(row.id), row.kind, row.subject, facts, instant_text(row.at), said))
    return Notices(items, cursor)
