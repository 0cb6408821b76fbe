"""Moving companies in the tree, and stopping them."""

from typing import Annotated

import msgspec
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.companies import (
    Company,
    OneCompany,
    company_row,
    name_taken,
    note_places,
    require_above,
    show,
)
from gateway.operations.credit_requests import withdraw_requests
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import Call, company_number, operation
from gateway.storage.locks import Tree
from gateway.storage.schema import company, company_path, credit_request


class MoveCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a company goes; without a parent it becomes a root."""

    company_id: str
    parent_id: str | None = None
    use_parent_credits: bool = False


class SuspendCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why; its people read it."""

    company_id: str
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


@operation(
    "companies.move",
    "POST",
    "/companies/{company_id}/move",
    right=Right.MANAGE_COMPANIES,
    result=Company,
    errors=(Code.NAME_TAKEN, Code.WOULD_MAKE_A_CYCLE),
    tree=Tree.ALONE,
)
def move_company(call: Call, given: MoveCompany) -> Company:
    """Moves a company with all below it to another parent."""
    number = company_number(given.company_id)
    call.require(Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    parent_id = None if given.parent_id is None else company_number(given.parent_id, "parent_id")
    if row.parent_id is not None:
        require_above(call, number, "Moving")
        call.require_open(row.parent_id)
    if parent_id is not None:
        call.require(Right.MANAGE_COMPANIES, parent_id, see=Right.SEE_COMPANIES, what="company")
    if None in (row.parent_id, parent_id) and not call.allows(Right.OPERATE):
        raise Refused(Code.FORBIDDEN, "A root company is moved or made by an operator.")
    if parent_id is not None and number in call.treasury.path(parent_id):
        raise Refused(
            Code.WOULD_MAKE_A_CYCLE,
            "parent_id: the new parent is the company itself or below it",
            field="parent_id",
        )
    try:
        call.tx.run(
            update(company)
            .where(company.c.id == number)
            .values(
                parent_id=parent_id,
                use_parent_credits=given.use_parent_credits and parent_id is not None,
            )
        )
    except IntegrityError as error:
        raise name_taken(row.name) from error
    if parent_id != row.parent_id:
        asked = credit_request.c.company_id == number
        withdraw_requests(call, asked, "The company went to another parent.")
    move_paths(call, number, parent_id)
    note_places(call, number)
    queue_recheck(call.tx, number)
    return show(call, company_row(call, number))


def move_paths(call: Call, number: int, parent_id: int | None) -> None:
    """Sets the company and all below it under another parent in the closure of the tree."""
    below = select(company_path.c.descendant_id).where(company_path.c.ancestor_id == number)
    call.tx.run(
        delete(company_path).where(
            company_path.c.descendant_id.in_(below), company_path.c.ancestor_id.not_in(below)
        )
    )
    if parent_id is not None:
        call.tx.run(
            text(
                "INSERT INTO company_path (ancestor_id, descendant_id, depth)"
                " SELECT up.ancestor_id, down.descendant_id, up.depth + down.depth + 1"
                " FROM company_path AS up CROSS JOIN company_path AS down"
                " WHERE up.descendant_id = :parent AND down.ancestor_id = :moved"
            ),
            {"parent": parent_id, "moved": number},
        )


@operation(
    "companies.suspend",
    "POST",
    "/companies/{company_id}/suspend",
    right=Right.MANAGE_COMPANIES,
    result=Company,
    tree=Tree.ALONE,
)
def suspend_company(call: Call, given: SuspendCompany) -> Company:
    """Stops new periods of a company and all below, with a reason that its people read."""
    return _suspend(call, company_number(given.company_id), given.reason)


@operation(
    "companies.resume",
    "POST",
    "/companies/{company_id}/resume",
    right=Right.MANAGE_COMPANIES,
    result=Company,
    tree=Tree.ALONE,
)
def resume_company(call: Call, given: OneCompany) -> Company:
    """Ends a suspension; what waited is paid for within a minute."""
    return _suspend(call, company_number(given.company_id), None)


def _suspend(call: Call, number: int, reason: str | None) -> Company:
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    require_above(call, number, "Suspension")
    row = company_row(call, number)
    if (reason is None) != (row.suspended_at is None) or reason != row.suspended_reason:
        since = None if reason is None else row.suspended_at or call.tx.now_ms
        call.tx.run(
            update(company)
            .where(company.c.id == number)
            .values(suspended_reason=reason, suspended_at=since)
        )
        queue_recheck(call.tx, number)
    return show(call, company_row(call, number))
