"""Members of a company: who has which role in it and until when, changed and taken away."""

from typing import Annotated, Any

import msgspec
from sqlalchemy import Select, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.inviting import membership_end
from gateway.domain.names import NAME_CHARS_MAX
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role
from gateway.operations.companies import company_row
from gateway.operations.inviting import member_already, require_giving
from gateway.operations.people import Email, Password
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    cursor_number,
    operation,
    row_number,
)
from gateway.people.accounts import account_of, is_email, make_person
from gateway.people.memberships import in_force
from gateway.people.passwords import why_not_a_password
from gateway.storage.constraints import broke
from gateway.storage.locks import Raced, Tree
from gateway.storage.schema import company, membership, person
from gateway.storage.transaction import AnyRow


class Member(msgspec.Struct):
    """A person with a role in a company; `until`: when it ends by itself."""

    id: str
    company_id: str
    person_id: str
    email: str
    name: str
    role: str
    until: str | None
    created_at: str
    second_factor: bool
    company_name: str


class Members(msgspec.Struct):
    """A page of members."""

    items: list[Member]
    next_cursor: str | None


class ListMembers(Page, kw_only=True):
    """The members of which company."""

    company_id: str


class FindMembers(Page, kw_only=True):
    """Of which company and those below; `q`: a part of the name or the e-mail address;
    `membership_id`: only this one."""

    company: str = ""
    membership_id: str = ""
    q: Annotated[str, msgspec.Meta(max_length=200)] = ""


class CreateMember(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who becomes a member; a person who has no account yet needs a password."""

    company_id: str
    email: Email
    role: Role
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)] = ""
    password: Password = ""


class HashedMember(CreateMember, kw_only=True):
    """The same with the password hashed outside of the transaction: that takes long."""

    password_hash: str = ""


class OneMembership(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a membership by its id."""

    membership_id: str


class ChangeMembership(OneMembership, kw_only=True):
    """Another role, or when it ends by itself (RFC 3339; null: never)."""

    role: Role | msgspec.UnsetType = msgspec.UNSET
    until: str | msgspec.UnsetType | None = msgspec.UNSET


_MEMBERS: Select[Any] = (
    select(
        membership.c.id,
        membership.c.company_id,
        membership.c.person_id,
        person.c.email,
        person.c.name,
        membership.c.role,
        membership.c.until,
        membership.c.created_at,
        person.c.totp_since,
        company.c.name.label("company_name"),
    )
    .join_from(membership, person, person.c.id == membership.c.person_id)
    .join(company, company.c.id == membership.c.company_id)
)


@operation(
    "members.list",
    "GET",
    "/companies/{company_id}/members",
    right=Right.INVITE,
    result=Members,
)
def list_members(call: Call, given: ListMembers) -> Members:
    """Lists a company's own members."""
    number = company_number(given.company_id)
    if not call.allows(Right.OPERATE):
        call.require(Right.INVITE, number, see=Right.SEE_COMPANIES, what="company", reading=True)
    company_row(call, number)
    rows = call.tx.all(
        _MEMBERS.where(
            membership.c.company_id == number,
            membership.c.id > (cursor_number(given.cursor) or 0),
            in_force(call.tx.now_ms),
        )
        .order_by(membership.c.id)
        .limit(given.limit + 1)
    )
    items = [_member(row) for row in rows[: given.limit]]
    return Members(items, items[-1].id if len(rows) > given.limit else None)


@operation("members.find", "GET", "/members", right=Right.INVITE, result=Members)
def find_members(call: Call, given: FindMembers) -> Members:
    """Lists the members of all companies in which one may invite, or of some of them."""
    visible = call.visible_of(given.company, Right.INVITE)
    statement = _MEMBERS.where(
        visible.has(membership.c.company_id),
        membership.c.id > (cursor_number(given.cursor) or 0),
        in_force(call.tx.now_ms),
    )
    if given.membership_id:
        number = row_number(given.membership_id, "membership")
        statement = statement.where(membership.c.id == number)
    if given.q.strip():
        typed = given.q.strip().lower()
        statement = statement.where(
            or_(
                func.lower(person.c.name).contains(typed, autoescape=True),
                person.c.email_key.contains(typed, autoescape=True),
            )
        )
    rows = call.tx.all(statement.order_by(membership.c.id).limit(given.limit + 1))
    items = [_member(row) for row in rows[: given.limit]]
    return Members(items, items[-1].id if len(rows) > given.limit else None)


@operation(
    "members.create",
    "POST",
    "/companies/{company_id}/members",
    right=Right.OPERATE,
    result=Member,
    status=201,
    errors=(Code.NAME_TAKEN, Code.NOT_FOUND),
)
def create_member(call: Call, given: CreateMember) -> Member:
    """Gives a person a role in a company; makes the account when there is none."""
    number = company_number(given.company_id)
    company_row(call, number)
    call.require_open(number)
    # Being operator opens no company.
    require_giving(call, given.role, number)
    if not is_email(given.email):
        raise Refused(Code.VALIDATION, "email: not an address", field="email")
    person_id = _person_for(call, given)
    call.about(company_id=number, person_id=person_id)
    try:
        id_ = call.tx.insert(
            insert(membership),
            {
                "person_id": person_id,
                "company_id": number,
                "role": given.role.value,
                "created_at": call.tx.now_ms,
            },
        )
    except IntegrityError as error:
        if not broke(error, "uq_membership_person_id_company_id"):
            raise
        raise member_already("email") from error
    return _shown(call, id_)


@operation(
    "members.change",
    "PATCH",
    "/memberships/{membership_id}",
    right=Right.INVITE,
    result=Member,
    errors=(Code.LAST_ADMINISTRATOR,),
    tree=Tree.ALONE,
)
def change_member(call: Call, given: ChangeMembership) -> Member:
    """Changes a member's role, or when it ends; never one's own."""
    row = _found(call, given.membership_id)
    if row.person_id == call.principal.user_id:
        raise Refused(
            Code.FORBIDDEN,
            "Nobody changes their own role: ask another administrator, or leave the company.",
        )
    role = row.role if given.role is msgspec.UNSET else given.role.value
    until = row.until
    if given.until is not msgspec.UNSET:
        until = membership_end(given.until, call.tx.now_ms)
    require_giving(call, Role(row.role), row.company_id)
    require_giving(call, Role(role), row.company_id)
    if role != Role.ADMINISTRATOR or (until is not None and until != row.until):
        _require_another_administrator(call, row)
    call.tx.run(update(membership).where(membership.c.id == row.id).values(role=role, until=until))
    call.about(before={"role": row.role, "until": _instant(row.until)})
    return _shown(call, row.id)


@operation(
    "members.remove",
    "DELETE",
    "/memberships/{membership_id}",
    right=Right.SIGNED_IN,
    result=Member,
    errors=(Code.LAST_ADMINISTRATOR, Code.FORBIDDEN),
    tree=Tree.ALONE,
    irrevocable=True,
)
def remove_member(call: Call, given: OneMembership) -> Member:
    """Takes away a role; one's own, too: so one leaves a company."""
    row = _found(call, given.membership_id)
    if row.person_id != call.principal.user_id:
        require_giving(call, Role(row.role), row.company_id)
    _require_another_administrator(call, row)
    shown = _shown(call, row.id)
    call.tx.run(delete(membership).where(membership.c.id == row.id))
    call.about(role=row.role)
    return shown


def require_another_administrator(
    call: Call, company_id: int, person_id: int, *, lasting: bool
) -> None:
    """Refuses when nobody else in the company itself would be its administrator.

    `lasting`: the other's role must not end by itself, either.
    """
    others = select(func.count()).where(
        membership.c.company_id == company_id,
        membership.c.person_id != person_id,
        membership.c.role == Role.ADMINISTRATOR.value,
        membership.c.until.is_(None) if lasting else in_force(call.tx.now_ms),
    )
    if not call.tx.scalar(others):
        raise Refused(
            Code.LAST_ADMINISTRATOR,
            "This is the company's last administrator: first invite another one, without an end,"
            " and wait until it is accepted; or close the company.",
        )


def _require_another_administrator(call: Call, row: AnyRow) -> None:
    if row.role == Role.ADMINISTRATOR:
        require_another_administrator(
            call, row.company_id, row.person_id, lasting=row.until is None
        )


def _found(call: Call, text: str) -> AnyRow:
    """A membership in force that the caller may see: where one invites, and one's own."""
    number = row_number(text, "membership")
    row = call.tx.one(_MEMBERS.where(membership.c.id == number, in_force(call.tx.now_ms)))
    if row is None:
        raise call.missing(Right.INVITE, see=Right.INVITE, what="membership")
    own = row.person_id == call.principal.user_id and call.carried(Right.INVITE, row.company_id)
    by_operator = len(call.treasury.path(row.company_id)) == 1 and call.allows(Right.OPERATE)
    if not own and not by_operator:
        call.require(Right.INVITE, row.company_id, see=Right.INVITE, what="membership")
    call.require_open(row.company_id)
    call.about(
        company_id=row.company_id,
        subject=str(row.id),
        person_id=row.person_id,
        personal={"email": row.email},
    )
    return row


def _shown(call: Call, membership_id: int) -> Member:
    row = call.tx.one(_MEMBERS.where(membership.c.id == membership_id))
    assert row is not None
    return _member(row)


def _member(row: AnyRow) -> Member:
    return Member(
        str(row.id),
        str(row.company_id),
        str(row.person_id),
        row.email,
        row.name,
        row.role,
        _instant(row.until),
        instant_text(row.created_at),
        row.totp_since is not None,
        row.company_name,
    )


def _instant(at: int | None) -> str | None:
    return None if at is None else instant_text(at)


def _person_for(call: Call, given: CreateMember) -> int:
    account = account_of(call.tx, given.email)
    if account is not None:
        if given.password:
            raise Refused(
                Code.VALIDATION,
                "password: this person has an account and a password; leave it out",
                field="password",
            )
        return account.person_id
    wrong = why_not_a_password(given.password)
    if wrong is not None:
        raise Refused(Code.VALIDATION, f"password: {wrong}", field="password")
    # Without the hash this would be a way around the desk that hashes outside of transactions.
    assert isinstance(given, HashedMember)
    assert given.password_hash
    name = " ".join(given.name.split()) or given.email.strip()
    try:
        return make_person(call.tx, given.email, name, given.password_hash)
    except IntegrityError as error:
        if not broke(error, "uq_person_email_key"):
            raise
        # Somebody made the account at the same time.
        raise Raced("account of a person") from error
