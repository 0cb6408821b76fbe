"""Closing a company: what it held goes where it is told, and nothing but reading is left."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import and_, delete, or_, select, update

from gateway.domain.ledger import Kind
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.booking import FORFEITED, Booking, pool_account
from gateway.operations.carrying import is_over, lots_of
from gateway.operations.companies import (
    Company,
    company_row,
    note_places,
    require_above,
    show,
)
from gateway.operations.company_tree import move_paths
from gateway.operations.credit_requests import withdraw_requests
from gateway.operations.forgetting import forget_tenure
from gateway.operations.moving import Move, begin_move, devices_of, end_move
from gateway.operations.queueing import queue_recheck
from gateway.operations.registration_end import book_end, take_login
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.session_locks import lock_sessions_of
from gateway.storage.locks import Tree
from gateway.storage.schema import (
    account,
    company,
    credit_code,
    credit_request,
    invitation,
    join_code,
    membership,
    person,
    support_access,
)
from gateway.storage.transaction import AnyRow
from wire.endings import Ended

_CAUSE = "company_closed"


class CloseCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What becomes of its devices: they `move` (to the parent, or to the company `to`), are
    `unregister`ed, or `release`d: unregistered and forgotten, so that anybody can register them.

    The companies below go to its parent; `use_parent_credits` is their flag from then on.
    """

    company_id: str
    devices: Literal["move", "unregister", "release"] = "move"
    to: str | None = None
    use_parent_credits: bool = False


class Closed(msgspec.Struct):
    """The company as it is for good, and what went where."""

    company: Company
    devices_moved: int
    devices_unregistered: int
    companies_moved: int
    days_moved: int  # to the parent
    days_forfeited: int  # of a root company, and of devices that were unregistered


class _Plan(NamedTuple):
    """What is to be closed, with everything it holds, locked but for its accounts."""

    number: int
    parent_id: int | None
    move: Move | None
    ending: Sequence[AnyRow]  # devices that are unregistered
    children: Sequence[AnyRow]


@operation(
    "companies.close",
    "POST",
    "/companies/{company_id}/close",
    right=Right.MANAGE_COMPANIES,
    result=Closed,
    errors=(Code.NAME_TAKEN, Code.COMPANY_CLOSED),
    tree=Tree.ALONE,
    moves_credits=True,
    irrevocable=True,
)
def close_company(call: Call, given: CloseCompany) -> Closed:
    """Closes a company for good: devices, companies below and credits go where they are told."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    require_above(call, number, "Closing")
    row = company_row(call, number)
    if row.parent_id is not None:
        call.require(Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    plan = _planned(call, row, given)
    codes = _open_codes(call, number)
    ends = _ends_of_pools(call, plan, codes)
    _prepare(call, plan, codes, ends)
    forfeited = _end_devices(call, plan)
    if plan.move is not None:
        end_move(call, plan.move)
    days = _book(call, plan, codes, ends)
    _raise_children(call, plan, given.use_parent_credits)
    _end_rights(call, row)
    call.tx.run(
        update(company)
        .where(company.c.id == number)
        .values(closed_at=call.tx.now_ms, use_parent_credits=False)
    )
    _take_logins(call, plan, forget=given.devices == "release")
    moved = 0 if plan.move is None else len(plan.move.found)
    counts = {
        "devices_moved": moved,
        "devices_unregistered": len(plan.ending),
        "companies_moved": len(plan.children),
        "days_moved": 0 if row.parent_id is None else days,
        "days_forfeited": forfeited + (days if row.parent_id is None else 0),
    }
    record(
        call.tx,
        "company.closed",
        actor=call.principal.name,
        owner_id=None,
        company_id=number,
        device_id=None,
        serial=None,
        subject=str(number),
        detail=counts,
    )
    return Closed(show(call, company_row(call, number)), **counts)


def _planned(call: Call, row: AnyRow, given: CloseCompany) -> _Plan:
    """Where everything goes, and whether it can. Raises `Refused`."""
    if given.to is not None and given.devices != "move":
        raise Refused(Code.VALIDATION, "to: only with `devices` set to `move`", field="to")
    to = row.parent_id
    if given.to is not None:
        to = company_number(given.to, "to")
        call.require(Right.MOVE_DEVICES, to, see=Right.SEE_COMPANIES, what="company")
        company_row(call, to)
        if to == row.id:
            raise Refused(Code.VALIDATION, "to: this is the company that is closed", field="to")
    children = call.tx.all(
        select(company).where(company.c.parent_id == row.id).order_by(company.c.id)
    )
    _require_free_names(call, row, children)
    found = devices_of(call, row.id, "company_id")
    if given.devices != "move":
        lock_sessions_of(call.tx, [one.id for one in found])
        for one in found:
            end_sessions_of(call.tx, one.id, Ended.UNREGISTERED, call.principal.name)
        return _Plan(row.id, row.parent_id, None, found, children)
    if found and to is None:
        raise Refused(
            Code.VALIDATION,
            "to: a root company has no parent; say where its devices go, or set `devices` to "
            "`unregister` or `release`",
            field="to",
        )
    move = None if to is None else begin_move(call, found, to, None)
    return _Plan(row.id, row.parent_id, move, (), children)


def _require_free_names(call: Call, row: AnyRow, children: Sequence[AnyRow]) -> None:
    """The companies below become siblings of the one that is closed, whose name is free then."""
    beside = (
        company.c.parent_id.is_(None)
        if row.parent_id is None
        else (company.c.parent_id == row.parent_id)
    )
    taken = {
        one.name_key
        for one in call.tx.all(
            select(company.c.name_key).where(
                beside, company.c.id != row.id, company.c.closed_at.is_(None)
            )
        )
    }
    for child in children:
        if child.closed_at is None and child.name_key in taken:
            raise Refused(
                Code.NAME_TAKEN,
                f"{child.name!r} goes up, where a company is named like it; rename one of them.",
                field="name",
            )


def _open_codes(call: Call, number: int) -> Sequence[AnyRow]:
    """Accounts of credit codes that nobody has redeemed."""
    return call.tx.all(
        select(account)
        .join(credit_code, credit_code.c.id == account.c.code_id)
        .where(
            credit_code.c.company_id == number,
            credit_code.c.redeemed_at.is_(None),
            credit_code.c.deleted_at.is_(None),
        )
        .order_by(account.c.id)
    )


def _ends_of_pools(call: Call, plan: _Plan, codes: Sequence[AnyRow]) -> dict[int, int]:
    """Each pool of the company, with the parent's of the same lot; of a root, where days end."""
    for code in codes:
        pool_account(call.tx, plan.number, code.expires_day, free=code.free, redeemed=code.redeemed)
    pools = call.tx.all(
        select(account)
        .where(account.c.company_id == plan.number, account.c.kind == "pool")
        .order_by(account.c.id)
    )
    if plan.parent_id is None:
        return {pool.id: FORFEITED for pool in pools}
    return {
        pool.id: pool_account(
            call.tx, plan.parent_id, pool.expires_day, free=pool.free, redeemed=pool.redeemed
        )
        for pool in pools
    }


def _prepare(call: Call, plan: _Plan, codes: Sequence[AnyRow], ends: dict[int, int]) -> None:
    """Locks every account that anything of this may change."""
    move = plan.move
    devices = {row.id for row in plan.ending}
    payers: tuple[int, ...] = ()
    if move is not None:
        devices |= {*move.followers, *move.followers.values()}
        payers = move.charged
    elif any(is_over(row, call.tx.now_ms) for row in plan.ending):
        payers = (plan.number,)
    lots = {lot.account_id for row in plan.ending for lot in lots_of(call, row)}
    accounts = {code.id for code in codes} | set(ends) | set(ends.values()) | lots
    call.treasury.prepare(payers, devices, accounts - {FORFEITED})


def _end_devices(call: Call, plan: _Plan) -> int:
    """Unregisters them; how many days were forfeited."""
    return sum(book_end(call, row, cause=_CAUSE).days_forfeited for row in plan.ending)


def _take_logins(call: Call, plan: _Plan, *, forget: bool) -> None:
    for row in plan.ending:
        take_login(call, row)
        if forget:
            forget_tenure(call, row)


def _book(call: Call, plan: _Plan, codes: Sequence[AnyRow], ends: dict[int, int]) -> int:
    """What is in open codes comes back, and all there is goes up; how many days."""
    tx = call.tx
    booking = Booking(tx, call.principal.name, _CAUSE, plan.number, call.treasury.path(plan.number))
    for code in codes:
        if code.balance:
            pool = pool_account(
                tx, plan.number, code.expires_day, free=code.free, redeemed=code.redeemed
            )
            booking.post(Kind.CODE_DELETE, code.id, pool, code.balance, free=code.free)
    numbers = {code.code_id for code in codes}
    tx.run(
        update(credit_code)
        .where(credit_code.c.id.in_(numbers))
        .values(deleted_at=tx.now_ms, deleted_because=_CAUSE)
    )
    held = tx.all(select(account).where(account.c.id.in_(ends), account.c.balance > 0))
    for lot in held:
        booking.post(Kind.CLOSE, lot.id, ends[lot.id], lot.balance, free=lot.free)
    if plan.parent_id is not None and held:
        queue_recheck(tx, plan.parent_id)
    return sum(lot.balance for lot in held)


def _raise_children(call: Call, plan: _Plan, use_parent_credits: bool) -> None:
    """The companies below go to the parent; of a root company they become roots."""
    for child in plan.children:
        flag = use_parent_credits and plan.parent_id is not None and child.closed_at is None
        call.tx.run(
            update(company)
            .where(company.c.id == child.id)
            .values(parent_id=plan.parent_id, use_parent_credits=flag)
        )
        move_paths(call, child.id, plan.parent_id)
        note_places(call, child.id)
        queue_recheck(call.tx, child.id)


def _end_rights(call: Call, row: AnyRow) -> None:
    """Nobody is anything in the company any more, and nothing of it waits for anybody.

    Nobody is above a root company, so the operators in it go on reading it.
    """
    tx = call.tx
    people = delete(membership).where(membership.c.company_id == row.id)
    if row.parent_id is None:
        operators = select(person.c.id).where(person.c.operator)
        people = people.where(membership.c.person_id.not_in(operators))
    tx.run(people)
    tx.run(delete(join_code).where(join_code.c.company_id == row.id))
    open_ones = and_(invitation.c.company_id == row.id, invitation.c.ended_at.is_(None))
    tx.run(update(invitation).where(open_ones).values(ended_at=tx.now_ms, ended_because="closed"))
    running = (support_access.c.ended_at.is_(None), support_access.c.until > tx.now_ms)
    let_in = update(support_access).where(support_access.c.company_id == row.id, *running)
    tx.run(let_in.values(ended_at=tx.now_ms, ended_by=call.principal.name))
    asked = or_(credit_request.c.company_id == row.id, credit_request.c.parent_id == row.id)
    withdraw_requests(call, asked, "The company was closed.")
