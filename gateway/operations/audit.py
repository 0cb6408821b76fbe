"""The audit: what people did that others may have to answer for; rows are never changed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select

from gateway.domain.instants import instant_text
from gateway.domain.rights import Right, user_of
from gateway.operations.newest_first import newest, of_companies
from gateway.operations.registry import Call, Page, operation
from gateway.storage.schema import audit, person
from gateway.storage.transaction import AnyRow, Transaction


class Entry(msgspec.Struct):
    """One thing that was done; `subject` is the id of what it was done to.

    `actor` is who did it: of a person `Name (user:7)`, else `gateway`, `relay:relay-1`. `owner` is
    the person whose session it was done to, if it was one.
    """

    id: str
    at: str
    verb: str
    actor: str
    owner: str | None
    company_id: str | None
    serial: str | None
    subject: str
    detail: dict[str, Any]


class Entries(msgspec.Struct):
    """A page of the audit, newest first."""

    items: list[Entry]
    next_cursor: str | None


class ListAudit(Page, kw_only=True):
    """Which entries: of a company and those below, of a serial, of one verb, about one subject."""

    company: str = ""
    serial: str = ""
    verb: str = ""
    subject: str = ""


def record(
    tx: Transaction,
    verb: str,
    *,
    actor: str,
    owner_id: int | None,
    company_id: int | None,
    device_id: int | None,
    serial: str | None,
    subject: str,
    detail: Mapping[str, object],
) -> None:
    """Writes an entry in the transaction that does the thing: without it, it is not done."""
    tx.run(
        insert(audit),
        {
            "at": tx.now_ms,
            "actor": actor,
            "owner_id": owner_id,
            "verb": verb,
            "company_id": company_id,
            "device_id": device_id,
            "serial": serial,
            "subject": subject,
            "detail": json.dumps(dict(detail)),
        },
    )


@operation("audit.list", "GET", "/audit", right=Right.SEE_AUDIT, result=Entries)
def list_audit(call: Call, given: ListAudit) -> Entries:
    """Lists what was done in the companies that one may see, newest first."""
    visible = call.visible_of(given.company, Right.SEE_AUDIT)
    statement = select(audit).where(of_companies(call, audit.c.company_id, visible))
    for column, wanted in (
        (audit.c.serial, given.serial),
        (audit.c.verb, given.verb),
        (audit.c.subject, given.subject),
    ):
        if wanted:
            statement = statement.where(column == wanted)
    rows, cursor = newest(call, statement, audit.c.id, given)
    names = _names(call.tx, rows)
    return Entries([_shown(row, names) for row in rows], cursor)


def _names(tx: Transaction, rows: Sequence[AnyRow]) -> dict[int, str]:
    """Of all persons in these entries."""
    ids = {row.owner_id for row in rows} | {user_of(row.actor) for row in rows}
    found = tx.all(select(person.c.id, person.c.name).where(person.c.id.in_(ids - {None})))
    return {row.id: row.name for row in found}


def _shown(row: AnyRow, names: Mapping[int, str]) -> Entry:
    name = names.get(user_of(row.actor) or 0)
    return Entry(
        str(row.id),
        instant_text(row.at),
        row.verb,
        row.actor if name is None else f"{name} ({row.actor})",
        names.get(row.owner_id),
        None if row.company_id is None else str(row.company_id),
        row.serial,
        row.subject,
        msgspec.json.decode(row.detail, type=dict[str, Any]),
    )
