"""People: who one is, signing in and out, and the members of a company."""

from typing import Annotated

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.names import NAME_CHARS_MAX
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role
from gateway.operations.companies import company_row
from gateway.operations.registry import Call, Page, company_number, cursor_number, operation
from gateway.people import sign_ins
from gateway.people.accounts import EMAIL_CHARS_MAX, account_of, is_email, make_person
from gateway.people.passwords import PASSWORD_CHARS_MAX, why_not_a_password
from gateway.storage.constraints import broke
from gateway.storage.locks import Raced
from gateway.storage.schema import company, membership, person
from gateway.storage.transaction import AnyRow

Email = Annotated[str, msgspec.Meta(max_length=EMAIL_CHARS_MAX)]
Password = Annotated[str, msgspec.Meta(max_length=PASSWORD_CHARS_MAX)]
WRONG = "E-mail or password is wrong."


class Membership(msgspec.Struct):
    """A role in one company."""

    company_id: str
    company_name: str
    role: str


class Me(msgspec.Struct):
    """Who asks."""

    id: str
    email: str
    name: str
    operator: bool
    memberships: list[Membership]


class Nothing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Takes nothing."""


class SignIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """E-mail and password."""

    email: Email
    password: Password


class ProvenSignIn(SignIn, kw_only=True):
    """A sign-in whose password was found right, outside of the transaction: that takes long."""

    person_id: int
    password_hash: str  # the one it was checked against
    token: str  # the new cookie's content
    old_token: str = ""


class SignedIn(msgspec.Struct):
    """Who one is now, and what a page sends as `X-CSRF-Token` with everything but GET."""

    me: Me
    csrf: str


class SignOut(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Takes nothing: the cookie says which sign-in ends."""


class ProvenSignOut(SignOut, kw_only=True):
    """The cookie's content, as the request carried it."""

    token: str


class SignedOut(msgspec.Struct):
    """The sign-in is over."""

    signed_out: bool


class Member(msgspec.Struct):
    """A person with a role in a company."""

    id: str
    company_id: str
    person_id: str
    email: str
    name: str
    role: str
    created_at: str


class Members(msgspec.Struct):
    """A page of members."""

    items: list[Member]
    next_cursor: str | None


class ListMembers(Page, kw_only=True):
    """The members of which company."""

    company_id: str


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


def show_person(call: Call, person_id: int) -> Me:
    """A person with all roles."""
    row = call.tx.one(select(person).where(person.c.id == person_id))
    assert row is not None
    roles = call.tx.all(
        select(membership.c.company_id, company.c.name, membership.c.role)
        .join(company, company.c.id == membership.c.company_id)
        .where(membership.c.person_id == person_id)
        .order_by(membership.c.company_id)
    )
    return Me(
        str(row.id),
        row.email,
        row.name,
        row.operator,
        [Membership(str(role.company_id), role.name, role.role) for role in roles],
    )


@operation("me.show", "GET", "/me", right=Right.SIGNED_IN, result=Me)
def show_me(call: Call, _given: Nothing) -> Me:
    """Shows who one is and one's roles."""
    assert call.principal.user_id is not None
    return show_person(call, call.principal.user_id)


@operation(
    "people.sign_in",
    "POST",
    "/login",
    right=Right.PUBLIC,
    result=SignedIn,
    errors=(Code.CREDENTIALS_WRONG, Code.TOO_MANY_ATTEMPTS),
)
def sign_in(call: Call, given: SignIn) -> SignedIn:
    """Signs in: sets a cookie, and answers who one is."""
    if not isinstance(given, ProvenSignIn):
        raise Refused(Code.CREDENTIALS_WRONG, WRONG)
    account = account_of(call.tx, given.email)
    if account is None or account != (given.person_id, given.password_hash):
        # The password was changed while it was being checked.
        raise Refused(Code.CREDENTIALS_WRONG, WRONG)
    csrf = sign_ins.begin(call.tx, account.person_id, given.token)
    if given.old_token:
        sign_ins.end(call.tx, given.old_token)
    return SignedIn(show_person(call, account.person_id), csrf)


@operation("people.sign_out", "POST", "/logout", right=Right.SIGNED_IN, result=SignedOut)
def sign_out(call: Call, given: SignOut) -> SignedOut:
    """Ends the sign-in of the cookie that comes with it."""
    if not isinstance(given, ProvenSignOut):
        return SignedOut(False)  # a bearer of a token has no sign-in to end
    sign_ins.end(call.tx, given.token)
    return SignedOut(True)


_MEMBERS = select(
    membership.c.id,
    membership.c.company_id,
    membership.c.person_id,
    person.c.email,
    person.c.name,
    membership.c.role,
    membership.c.created_at,
).join(person, person.c.id == membership.c.person_id)


def _member(row: AnyRow) -> Member:
    return Member(
        str(row.id),
        str(row.company_id),
        str(row.person_id),
        row.email,
        row.name,
        row.role,
        instant_text(row.created_at),
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
        call.require(Right.INVITE, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    rows = call.tx.all(
        _MEMBERS.where(
            membership.c.company_id == number, membership.c.id > (cursor_number(given.cursor) or 0)
        )
        .order_by(membership.c.id)
        .limit(given.limit + 1)
    )
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
    if not is_email(given.email):
        raise Refused(Code.VALIDATION, "email: not an address", field="email")
    person_id = _person_for(call, given)
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
        raise Refused(
            Code.NAME_TAKEN, "This person is a member of the company already.", field="email"
        ) from error
    row = call.tx.one(_MEMBERS.where(membership.c.id == id_))
    assert row is not None
    return _member(row)


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
