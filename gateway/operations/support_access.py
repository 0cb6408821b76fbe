"""Support access: a company that asks people from above to stay out lets them in for a time."""

from typing import Annotated

import msgspec
from sqlalchemy import insert, select, update

from gateway.domain.instants import MINUTE_MS, instant_text
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role, user_of
from gateway.operations.announcing import tell
from gateway.operations.companies import company_row
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    cursor_number,
    not_found,
    operation,
    row_number,
)
from gateway.storage.schema import person, support_access
from gateway.storage.transaction import AnyRow

MINUTES_MAX = 10_080  # a week
_LETS_IN = frozenset({Role.ADMINISTRATOR, Role.ADVANCED})


class GrantSupport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """For how long people from above may look inside, and what for."""

    company_id: str
    minutes: Annotated[int, msgspec.Meta(ge=1, le=MINUTES_MAX)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class ListSupport(Page, kw_only=True):
    """Of which company."""

    company_id: str


class OneSupport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a support access of a company."""

    company_id: str
    access_id: str


class SupportAccess(msgspec.Struct):
    """Who let people from above in, what for and until when. `in_force`: it is not over."""

    id: str
    company_id: str
    granted_by: str
    reason: str
    granted_at: str
    until: str
    in_force: bool
    ended_at: str | None
    ended_by: str | None
    granted_by_name: str | None  # null where the person was erased
    ended_by_name: str | None


class SupportAccesses(msgspec.Struct):
    """A page of support accesses, the newest first."""

    items: list[SupportAccess]
    next_cursor: str | None


@operation(
    "support-access.grant",
    "POST",
    "/companies/{company_id}/support-access",
    right=Right.SHARE,
    result=SupportAccess,
    status=201,
)
def grant_support(call: Call, given: GrantSupport) -> SupportAccess:
    """Lets people from above in for a time; the company's own people do."""
    number = company_number(given.company_id)
    _require_own(call, number)
    reason = " ".join(given.reason.split())
    if not reason:
        raise Refused(Code.VALIDATION, "reason: say what for", field="reason")
    until = call.tx.now_ms + given.minutes * MINUTE_MS
    values = {"company_id": number, "granted_by": call.principal.name, "reason": reason}
    access_id = call.tx.insert(
        insert(support_access), {**values, "granted_at": call.tx.now_ms, "until": until}
    )
    call.about(until=instant_text(until))
    _announce(call, number, access_id, reason, until)
    return _shown(call, _row(call, number, access_id))


@operation(
    "support-access.list",
    "GET",
    "/companies/{company_id}/support-access",
    right=Right.SEE_COMPANIES,
    result=SupportAccesses,
)
def list_support(call: Call, given: ListSupport) -> SupportAccesses:
    """Lists who was let in and when: the same for the company and for those above it."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    statement = select(support_access).where(support_access.c.company_id == number)
    cursor = cursor_number(given.cursor)
    if cursor is not None:
        statement = statement.where(support_access.c.id < cursor)
    rows = call.tx.all(statement.order_by(support_access.c.id.desc()).limit(given.limit + 1))
    items = [_shown(call, row) for row in rows[: given.limit]]
    return SupportAccesses(items, items[-1].id if len(rows) > given.limit else None)


@operation(
    "support-access.end",
    "DELETE",
    "/companies/{company_id}/support-access/{access_id}",
    right=Right.SHARE,
    result=SupportAccess,
)
def end_support(call: Call, given: OneSupport) -> SupportAccess:
    """Ends a support access; sessions of people from above close within seconds."""
    number = company_number(given.company_id)
    _require_own(call, number)
    access_id = row_number(given.access_id, "support access")
    row = _row(call, number, access_id)
    still = (support_access.c.id == access_id, support_access.c.ended_at.is_(None))
    if row.until > call.tx.now_ms:  # one that is over stays as it was
        ended = {"ended_at": call.tx.now_ms, "ended_by": call.principal.name}
        call.tx.run(update(support_access).where(*still).values(**ended))
    return _shown(call, _row(call, number, access_id))


def _require_own(call: Call, number: int) -> None:
    """Nobody lets themselves in: refuses who has no role in the company itself."""
    call.require(Right.SHARE, number, see=Right.SEE_COMPANIES, what="company")
    if call.principal.memberships.get(number) not in _LETS_IN:
        raise Refused(
            Code.FORBIDDEN,
            "Only administrators and advanced users of the company itself let people from above "
            "in; ask one of them.",
        )


def _row(call: Call, number: int, access_id: int) -> AnyRow:
    row = call.tx.one(
        select(support_access).where(
            support_access.c.id == access_id, support_access.c.company_id == number
        )
    )
    if row is None:
        raise not_found("support access")
    return row


def _announce(call: Call, number: int, access_id: int, reason: str, until: int) -> None:
    """Tells the company's people and those of its direct parent."""
    row = company_row(call, number)
    facts = {"company": row.name, "until": instant_text(until), "reason": reason}
    for told in (number, row.parent_id):
        if told is not None:
            key = f"support_access {access_id} {told}"
            tell(call.tx, told, Notice.SUPPORT_ACCESS, str(number), facts, key)


def _shown(call: Call, row: AnyRow) -> SupportAccess:
    return SupportAccess(
        str(row.id),
        str(row.company_id),
        row.granted_by,
        row.reason,
        instant_text(row.granted_at),
        instant_text(row.until),
        row.ended_at is None and row.until > call.tx.now_ms,
        None if row.ended_at is None else instant_text(row.ended_at),
        row.ended_by,
        _name(call, row.granted_by),
        None if row.ended_by is None else _name(call, row.ended_by),
    )


def _name(call: Call, actor: str) -> str | None:
    number = user_of(actor)
    if number is None:
        return None
    named = select(person.c.name).where(person.c.id == number, person.c.erased_at.is_(None))
    found = call.tx.scalar(named)
    return None if found is None else str(found)
