"""The audit as people read it: who did what, in sentences, and as a file."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import ColumnElement, Select, false, or_, select

from gateway.domain.audit_sentences import INSIDE_VERBS, sentence
from gateway.domain.instants import instant_text, parse_instant
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, name_of_user, user_of
from gateway.operations.csv_text import Cell
from gateway.operations.documents import CSV_TYPE, Document, TableFormat, table_document
from gateway.operations.newest_first import newest, of_companies
from gateway.operations.registry import Call, Page, operation
from gateway.operations.visible import Visible
from gateway.storage.schema import audit, audit_personal, person
from gateway.storage.transaction import AnyRow, Transaction

EXPORTED_MAX = 20_000
ERASED = "erased"
_AT_ONCE = 500
HEADER = ("id", "at", "actor", "verb", "company", "serial", "subject", "sentence", "detail")


class Entry(msgspec.Struct):
    """One thing that was done; `subject` is the id of what it was done to.

    `actor` is who did it: of a person `Name (user:7)`, else `gateway`, `relay:relay-1`. `owner` is
    the person whose session it was done to, if it was one. `personal` holds names and addresses:
    `erased` where the person was erased, or their time was over.
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
    personal: dict[str, str]
    sentence: str


class Entries(msgspec.Struct):
    """A page of the audit, newest first."""

    items: list[Entry]
    next_cursor: str | None


class ListAudit(Page, kw_only=True):
    """Which entries: of a company and those below, of a serial, of one verb, about one subject, of
    one actor (`user:7`, or only `7`), and from one instant up to another (RFC 3339)."""

    company: str = ""
    serial: str = ""
    verb: str = ""
    subject: str = ""
    actor: str = ""
    from_: str = msgspec.field(name="from", default="")
    to: str = ""


class ExportAudit(ListAudit, kw_only=True):
    """The same as a file: `csv`, `csv-excel` (semicolons, with a byte order mark) or `json`; at
    most 20,000 entries a part, `cursor` being the number of the last one of the part before."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=EXPORTED_MAX)] = EXPORTED_MAX
    format: TableFormat = "csv"

    def __post_init__(self) -> None:
        """A part is larger than a page."""


@operation("audit.list", "GET", "/audit", right=Right.SEE_AUDIT, result=Entries)
def list_audit(call: Call, given: ListAudit) -> Entries:
    """Lists what was done in the companies that one may see, newest first.

    Operators read besides what belongs to no company, as sign-ins. Where a company asks people
    from above to stay out, they are told nothing of its sessions and targets.
    """
    rows, cursor = newest(call, _asked(call, given), audit.c.id, given)
    return Entries(_entries(call.tx, rows), cursor)


@operation(
    "audit.export",
    "GET",
    "/audit/export",
    right=Right.SEE_AUDIT,
    result=Entries,
    file_type=CSV_TYPE,
)
def export_audit(call: Call, given: ExportAudit) -> Entries | Document:
    """Exports the audit as CSV or JSON, newest first."""
    rows, cursor = newest(call, _asked(call, given), audit.c.id, given)
    entries = _entries(call.tx, rows)
    if given.format == "json":
        return Entries(entries, cursor)
    return table_document("audit", given.format, HEADER, (_cells(one) for one in entries))


def _asked(call: Call, given: ListAudit) -> Select[Any]:
    visible = call.visible_of(given.company, Right.SEE_AUDIT)
    operates = not given.company and call.allows(Right.OPERATE)
    nobodys = audit.c.company_id.is_(None) if operates else false()
    statement = select(audit).where(or_(of_companies(call, audit.c.company_id, visible), nobodys))
    inside = call.visible(Right.SEE_SESSIONS)
    if inside.doors.shut:
        statement = statement.where(_not_shut_off(call, inside))
    actor = name_of_user(int(given.actor)) if _is_number(given.actor) else given.actor
    for column, wanted in (
        (audit.c.serial, given.serial),
        (audit.c.verb, given.verb),
        (audit.c.subject, given.subject),
        (audit.c.actor, actor),
    ):
        if wanted:
            statement = statement.where(column == wanted)
    if given.from_:
        statement = statement.where(audit.c.at >= _instant("from", given.from_))
    if given.to:
        statement = statement.where(audit.c.at < _instant("to", given.to))
    return statement


def _not_shut_off(call: Call, inside: Visible) -> ColumnElement[bool]:
    """Entries but those of sessions and targets in companies that ask people from above to stay
    out; what one did oneself, and what was done to one's own session, is told in any case."""
    oneself = call.principal
    return or_(
        audit.c.verb.not_in(INSIDE_VERBS),
        inside.has(audit.c.company_id),
        audit.c.actor == oneself.name,
        audit.c.owner_id == oneself.user_id,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _instant(name: str, text: str) -> int:
    try:
        return parse_instant(text)
    except (ValueError, OverflowError) as error:
        raise Refused(
            Code.VALIDATION,
            f"{name}: an instant as 2027-01-31T12:00:00Z",
            field=name,
        ) from error


def _entries(tx: Transaction, rows: Sequence[AnyRow]) -> list[Entry]:
    names = _names(tx, rows)
    values = _values(tx, [row.id for row in rows if row.digests != "{}"])
    return [_shown(row, names, values.get(row.id, {})) for row in rows]


def _names(tx: Transaction, rows: Sequence[AnyRow]) -> dict[int, str]:
    """Of all persons in these entries; who was erased is called that."""
    found = [row.owner_id for row in rows] + [user_of(row.actor) for row in rows]
    ids = sorted({number for number in found if number is not None})
    names = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = person.c.id.in_(ids[start : start + _AT_ONCE])
        for row in tx.all(select(person.c.id, person.c.name, person.c.erased_at).where(some)):
            names[row.id] = row.name if row.erased_at is None else ERASED
    return names


def _values(tx: Transaction, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """The personal values of entries that are kept still."""
    found: dict[int, dict[str, str]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = audit_personal.c.audit_id.in_(ids[start : start + _AT_ONCE])
        for row in tx.all(select(audit_personal).where(some)):
            found.setdefault(row.audit_id, {})[row.name] = row.value
    return found


def _shown(row: AnyRow, names: Mapping[int, str], values: Mapping[str, str]) -> Entry:
    name = names.get(user_of(row.actor) or 0)
    actor = row.actor if name is None else f"{name} ({row.actor})"
    covered = msgspec.json.decode(row.digests, type=dict[str, str])
    return Entry(
        str(row.id),
        instant_text(row.at),
        row.verb,
        actor,
        names.get(row.owner_id),
        None if row.company_id is None else str(row.company_id),
        row.serial,
        row.subject,
        msgspec.json.decode(row.detail, type=dict[str, Any]),
        {key: values.get(key, ERASED) for key in covered},
        sentence(row.verb, actor, row.subject),
    )


def _cells(one: Entry) -> list[Cell]:
    detail = json.dumps(one.detail | one.personal, ensure_ascii=False)
    return [
        one.id,
        one.at,
        one.actor,
        one.verb,
        one.company_id,
        one.serial,
        one.subject,
        one.sentence,
        detail,
    ]
