"""A company asks the one above it for credits; one answer ends the request."""

from typing import Annotated, Literal

import msgspec
from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.announcing import tell
from gateway.operations.companies import company_row
from gateway.operations.credit_moves import CreditCount, CreditsOf, DayCount, Moved, Note, move
from gateway.operations.credits import days_asked
from gateway.operations.newest_first import newest
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    not_found,
    operation,
    row_number,
)
from gateway.operations.seeing import Upwards
from gateway.storage.constraints import broke
from gateway.storage.schema import credit_request
from gateway.storage.transaction import AnyRow


class AskForCredits(CreditsOf, kw_only=True):
    """For which company, and how many `credits` or `days`."""

    note: Note = ""


class CreditRequest(msgspec.Struct):
    """Who asks whom for how much, and what came of it."""

    id: str
    company_id: str
    parent_id: str
    days: int
    credits: int
    note: str
    state: str
    asked_by: str
    asked_at: str
    answered_by: str | None
    answered_at: str | None
    answer: str | None


class Requests(msgspec.Struct):
    """A page of requests, newest first."""

    items: list[CreditRequest]
    next_cursor: str | None


class ListRequests(Page, kw_only=True):
    """Which requests: by state, all without; of a company that made them, or was asked."""

    company: str = ""
    state: Literal["", "open", "accepted", "refused", "withdrawn"] = ""


class AcceptRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which request; another amount than was asked for, if given."""

    request_id: str
    credits: CreditCount | None = None
    days: DayCount | None = None
    note: Note = ""


class RefuseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which request, and why; whoever asked reads it."""

    request_id: str
    answer: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Accepted(msgspec.Struct):
    """The request as it stands now, and the move that answered it."""

    request: CreditRequest
    moved: Moved


@operation(
    "credit-requests.create",
    "POST",
    "/credits/requests",
    right=Right.MOVE_CREDITS,
    result=CreditRequest,
    status=201,
    errors=(Code.REQUEST_OPEN, Code.COMPANY_CLOSED),
)
def ask(call: Call, given: AskForCredits) -> CreditRequest:
    """Asks the company right above for credits; its people are told."""
    tx, number = call.tx, company_number(given.company_id)
    call.require(Right.MOVE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    if row.parent_id is None:
        raise Refused(
            Code.VALIDATION,
            "company_id: a root company has nobody above it to ask",
            field="company_id",
        )
    days = days_asked(given.credits, given.days)
    try:
        id_ = tx.insert(
            insert(credit_request),
            {
                "company_id": number,
                "parent_id": row.parent_id,
                "days": days,
                "note": given.note,
                "state": "open",
                "asked_by": call.principal.name,
                "asked_at": tx.now_ms,
            },
        )
    except IntegrityError as error:
        if not broke(error, "uq_credit_request_open"):
            raise
        raise Refused(
            Code.REQUEST_OPEN, "This company asked already and waits for an answer."
        ) from error
    detail = {"days": days, "company": row.name, "note": given.note}
    tell(tx, row.parent_id, Notice.CREDITS_REQUESTED, str(number), detail, f"request {id_}")
    return _shown(call, _found(call, id_))


@operation(
    "credit-requests.list",
    "GET",
    "/credits/requests",
    right=Right.SEE_CREDITS,
    result=Requests,
)
def list_requests(call: Call, given: ListRequests) -> Requests:
    """Lists requests that one's companies made or were asked, newest first."""
    mine = call.visible(Right.SEE_CREDITS)
    statement = select(credit_request).where(
        or_(mine.has(credit_request.c.company_id), mine.has(credit_request.c.parent_id))
    )
    if given.company:
        one = company_number(given.company)
        call.require(Right.SEE_CREDITS, one, see=Right.SEE_COMPANIES, what="company")
        ends = (credit_request.c.company_id, credit_request.c.parent_id)
        statement = statement.where(or_(*(end == one for end in ends)))
    if given.state:
        statement = statement.where(credit_request.c.state == given.state)
    rows, cursor = newest(call, statement, credit_request.c.id, given)
    return Requests([_shown(call, row) for row in rows], cursor)


@operation(
    "credit-requests.accept",
    "POST",
    "/credits/requests/{request_id}/accept",
    right=Right.MOVE_CREDITS,
    result=Accepted,
    errors=(Code.REQUEST_ANSWERED, Code.CREDITS_INSUFFICIENT, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def accept(call: Call, given: AcceptRequest) -> Accepted:
    """Moves what was asked for, or another amount, to the company that asked."""
    row = _asked_of_me(call, given.request_id)
    asked = given.credits is None and given.days is None
    days = row.days if asked else days_asked(given.credits, given.days)
    _answer(call, row, "accepted", given.note)
    moved = move(call, row.parent_id, row.company_id, days, note=given.note)
    _tell_asker(call, row, {"state": "accepted", "days": days, "note": given.note})
    return Accepted(_shown(call, _found(call, row.id)), moved)


@operation(
    "credit-requests.refuse",
    "POST",
    "/credits/requests/{request_id}/refuse",
    right=Right.MOVE_CREDITS,
    result=CreditRequest,
    errors=(Code.REQUEST_ANSWERED, Code.COMPANY_CLOSED),
)
def refuse(call: Call, given: RefuseRequest) -> CreditRequest:
    """Says no, with a reason that whoever asked reads."""
    row = _asked_of_me(call, given.request_id)
    _answer(call, row, "refused", given.answer)
    _tell_asker(call, row, {"state": "refused", "days": row.days, "note": given.answer})
    return _shown(call, _found(call, row.id))


def _asked_of_me(call: Call, text: str) -> AnyRow:
    number = row_number(text, "request")
    row = call.tx.one(select(credit_request).where(credit_request.c.id == number))
    if row is None:
        see = Right.SEE_CREDITS
        raise call.missing(see, see=see, what="request", looks=2)
    if not (
        call.allows(Right.SEE_CREDITS, row.company_id)
        or call.allows(Right.SEE_CREDITS, row.parent_id)
    ):
        raise not_found("request")
    if not call.allows(Right.MOVE_CREDITS, row.parent_id):
        raise Refused(
            Code.FORBIDDEN, "A request is answered by people of the company that was asked."
        )
    call.about(company_id=row.parent_id, asker=str(row.company_id))
    call.require_open(row.parent_id)
    return row


def _answer(call: Call, row: AnyRow, state: str, text: str) -> None:
    """Of two answers at once one counts."""
    answered = call.tx.run(
        update(credit_request)
        .where(and_(credit_request.c.id == row.id, credit_request.c.state == "open"))
        .values(
            state=state,
            answered_by=call.principal.name,
            answered_at=call.tx.now_ms,
            answer=text,
        )
    )
    if not answered:
        raise Refused(
            Code.REQUEST_ANSWERED, "This request was answered already, or is not asked any more."
        )


def withdraw_requests(call: Call, which: ColumnElement[bool], why: str) -> None:
    """Nobody waits for these any more: whoever asked can ask again, whoever is above then."""
    call.tx.run(
        update(credit_request)
        .where(which, credit_request.c.state == "open")
        .values(
            state="withdrawn",
            answered_by=call.principal.name,
            answered_at=call.tx.now_ms,
            answer=why,
        )
    )


def _tell_asker(call: Call, row: AnyRow, detail: dict[str, object]) -> None:
    key = f"request {row.id} answered"
    tell(call.tx, row.company_id, Notice.REQUEST_ANSWERED, str(row.id), detail, key)


def _found(call: Call, id_: int) -> AnyRow:
    row = call.tx.one(select(credit_request).where(credit_request.c.id == id_))
    assert row is not None
    return row


def _shown(call: Call, row: AnyRow) -> CreditRequest:
    upwards = Upwards(call, row.company_id)
    # A company that was moved since has another parent than the one it asked.
    known = upwards.knows(row.parent_id) or call.allows(Right.SEE_CREDITS, row.parent_id)
    return CreditRequest(
        str(row.id),
        str(row.company_id),
        str(row.parent_id) if known else "above",
        row.days,
        row.days // DAYS_PER_CREDIT,
        row.note,
        row.state,
        row.asked_by,
        instant_text(row.asked_at),
        row.answered_by,
        None if row.answered_at is None else instant_text(row.answered_at),
        row.answer,
    )
