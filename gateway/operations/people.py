"""People: who one is, signing in and out, and the members of a company."""

from typing import Annotated

import msgspec
from sqlalchemy import select

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, name_of_user
from gateway.operations.code_proof import CODE_CHARS_MAX, prove_code
from gateway.operations.registry import Call, operation
from gateway.people import sign_ins
from gateway.people.accounts import EMAIL_CHARS_MAX, account_of
from gateway.people.memberships import in_force
from gateway.people.passwords import PASSWORD_CHARS_MAX
from gateway.storage.schema import company, membership, person

Email = Annotated[str, msgspec.Meta(max_length=EMAIL_CHARS_MAX)]
Password = Annotated[str, msgspec.Meta(max_length=PASSWORD_CHARS_MAX)]
WRONG = "E-mail or password is wrong."


class Membership(msgspec.Struct):
    """A role in one company."""

    company_id: str
    company_name: str
    role: str
    id: str  # by which one leaves
    until: str | None  # when it ends by itself


class Me(msgspec.Struct):
    """Who asks."""

    id: str
    email: str
    name: str
    operator: bool
    language: str  # empty: that of one's company
    second_factor: bool  # whether signing in asks for a code as well
    memberships: list[Membership]
    second_factor_ends_at: str | None  # when an operator's reset takes it away


class Nothing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Takes nothing."""


class SignIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """E-mail and password; where there is a second factor, its code or a recovery code as well."""

    email: Email
    password: Password
    code: Annotated[str, msgspec.Meta(max_length=CODE_CHARS_MAX)] = ""


class ProvenSignIn(SignIn, kw_only=True):
    """A sign-in whose password was found right, outside of the transaction: that takes long."""

    person_id: int
    password_hash: str  # the one it was checked against
    token: str  # the new cookie's content
    old_token: str = ""
    address: str = ""  # as the person is shown it
    user_agent: str = ""


class SignedIn(msgspec.Struct):
    """Who one is now, and what a page sends as `X-CSRF-Token` with everything but GET."""

    me: Me
    csrf: str
    recovery_codes_left: int | msgspec.UnsetType = msgspec.UNSET  # where one of them was used


class SignOut(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Takes nothing: the cookie says which sign-in ends."""


class ProvenSignOut(SignOut, kw_only=True):
    """The cookie's content, as the request carried it."""

    token: str


class SignedOut(msgspec.Struct):
    """The sign-in is over."""

    signed_out: bool


def show_person(call: Call, person_id: int) -> Me:
    """A person with all roles."""
    row = call.tx.one(select(person).where(person.c.id == person_id))
    assert row is not None
    roles = call.tx.all(
        select(
            membership.c.company_id,
            company.c.name,
            membership.c.role,
            membership.c.id,
            membership.c.until,
        )
        .join(company, company.c.id == membership.c.company_id)
        .where(membership.c.person_id == person_id, in_force(call.tx.now_ms))
        .order_by(membership.c.company_id)
    )
    return Me(
        str(row.id),
        row.email,
        row.name,
        row.operator,
        row.language,
        row.totp_since is not None,
        [
            Membership(
                str(role.company_id),
                role.name,
                role.role,
                str(role.id),
                None if role.until is None else instant_text(role.until),
            )
            for role in roles
        ],
        None if row.totp_reset_at is None else instant_text(row.totp_reset_at),
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
    errors=(Code.CREDENTIALS_WRONG, Code.CODE_NEEDED, Code.TOO_MANY_ATTEMPTS),
)
def sign_in(call: Call, given: SignIn) -> SignedIn:
    """Signs in: sets a cookie, and answers who one is."""
    if not isinstance(given, ProvenSignIn):
        raise Refused(Code.CREDENTIALS_WRONG, WRONG)
    account = account_of(call.tx, given.email)
    if account is None or account != (given.person_id, given.password_hash):
        # The password was changed while it was being checked.
        raise Refused(Code.CREDENTIALS_WRONG, WRONG)
    proof = prove_code(call, account.person_id, given.code)
    csrf = sign_ins.begin(
        call.tx,
        account.person_id,
        given.token,
        address=given.address,
        user_agent=given.user_agent,
        second_factor=proof.second_factor,
    )
    if given.old_token:
        sign_ins.end(call.tx, given.old_token)
    number = str(account.person_id)
    call.about(actor=name_of_user(account.person_id), subject=number)
    left = proof.recovery_codes_left
    if left is not None:
        call.about(recovery_codes_left=left)
    shown = show_person(call, account.person_id)
    return SignedIn(shown, csrf, msgspec.UNSET if left is None else left)


@operation("people.sign_out", "POST", "/logout", right=Right.SIGNED_IN, result=SignedOut)
def sign_out(call: Call, given: SignOut) -> SignedOut:
    """Ends the sign-in of the cookie that comes with it."""
    if not isinstance(given, ProvenSignOut):
        return SignedOut(False)  # a bearer of a token has no sign-in to end
    sign_ins.end(call.tx, given.token)
    return SignedOut(True)
