"""Accepting an invitation: the bearer of its link becomes a member, if need be with an account."""

from typing import Annotated, NamedTuple

import msgspec
from sqlalchemy import and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.inviting import may_invite
from gateway.domain.names import NAME_CHARS_MAX, clean_name
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal, Right, Role, name_of_user
from gateway.operations.code_proof import CODE_CHARS_MAX
from gateway.operations.inside import keeps_roles
from gateway.operations.inviting import member_already
from gateway.operations.people import Me, Password, show_person
from gateway.operations.registry import Call, operation
from gateway.operations.session_facts import roles_of
from gateway.operations.treasury import Treasury
from gateway.people import sign_ins
from gateway.people.accounts import make_person
from gateway.people.passwords import why_not_a_password
from gateway.people.tokens import TOKEN_CHARS_MAX, hash_token
from gateway.storage.constraints import broke
from gateway.storage.locks import Raced
from gateway.storage.schema import company, invitation, membership, person
from gateway.storage.transaction import AnyRow, Transaction

OVER = (
    "This invitation is not good, or not any more: it was used, withdrawn or replaced by a newer "
    "one, its 72 hours are over, or whoever invited may not do so any longer. If you accepted it "
    "before, sign in; else ask for a new one."
)


class Link(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the link of an invitation ends with."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=TOKEN_CHARS_MAX)]


class AcceptInvitation(Link, kw_only=True):
    """A new account's password and name; or the password of the one there is, unless signed in."""

    password: Password = ""
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)] = ""
    code: Annotated[str, msgspec.Meta(max_length=CODE_CHARS_MAX)] = ""  # of a second factor


class PreparedAcceptance(AcceptInvitation, kw_only=True):
    """The same with what was made outside of the transaction."""

    password_hash: str = ""  # of a new account's password
    new_cookie: str = ""
    old_cookie: str = ""
    address: str = ""  # as the person is shown it, of the sign-in
    user_agent: str = ""


class LookedAt(msgspec.Struct):
    """What the bearer of a link is invited to, and whether the address has an account."""

    company_name: str
    email: str
    role: str
    until: str | None
    invited_by: str
    expires_at: str
    has_account: bool


class Accepted(msgspec.Struct):
    """The new membership, who one is now, and what a page sends as `X-CSRF-Token`."""

    company_id: str
    company_name: str
    role: str
    until: str | None
    me: Me
    csrf: str


class Found(NamedTuple):
    """An invitation that is good, and whose it would be."""

    row: AnyRow
    person_id: int | None

    @property
    def shown(self) -> LookedAt:
        row = self.row
        return LookedAt(
            row.company_name,
            row.email,
            row.role,
            None if row.until is None else instant_text(row.until),
            row.inviter_name,
            instant_text(row.expires_at),
            self.person_id is not None,
        )


def find(tx: Transaction, token: str) -> Found:
    """The invitation of a link. Raises `Refused`, alike for all that are not good."""
    row = tx.one(
        select(
            invitation,
            company.c.name.label("company_name"),
            company.c.closed_at,
            person.c.name.label("inviter_name"),
            person.c.operator,
            person.c.erased_at,
        )
        .join(company, company.c.id == invitation.c.company_id)
        .join(person, person.c.id == invitation.c.inviter_id)
        .where(invitation.c.token_hash == hash_token(token))
    )
    if row is None or not _is_good(tx, row):
        raise Refused(Code.INVITATION_OVER, OVER)
    return Found(row, tx.scalar(select(person.c.id).where(person.c.email_key == row.email_key)))


def _is_good(tx: Transaction, row: AnyRow) -> bool:
    now_ms = tx.now_ms
    if row.ended_at is not None or row.expires_at <= now_ms or row.closed_at is not None:
        return False
    if row.erased_at is not None or (row.until is not None and row.until <= now_ms):
        return False
    # At most what the inviter could give now, whatever it was when the mail was sent.
    inviter = Principal(
        name_of_user(row.inviter_id),
        row.inviter_id,
        bool(row.operator),
        memberships=roles_of(tx, {row.inviter_id}).get(row.inviter_id, {}),
    )
    asking = keeps_roles(tx, row.company_id)
    asks = None if asking is None else asking.company_id
    return may_invite(inviter, Role(row.role), Treasury.of(tx).path(row.company_id), asks=asks)


@operation(
    "invitations.look",
    "POST",
    "/invitations/look",
    right=Right.PUBLIC,
    result=LookedAt,
    errors=(Code.INVITATION_OVER,),
)
def look_at_invitation(call: Call, given: Link) -> LookedAt:
    """Shows what a link invites to, only to whoever has it; nothing is accepted."""
    found = find(call.tx, given.token)
    call.about(
        company_id=found.row.company_id, subject=str(found.row.id), person_id=found.person_id
    )
    return found.shown


@operation(
    "invitations.accept",
    "POST",
    "/invitations/accept",
    right=Right.PUBLIC,
    result=Accepted,
    errors=(
        Code.INVITATION_OVER,
        Code.OTHER_ACCOUNT,
        Code.NAME_TAKEN,
        Code.SIGNED_OUT,
        Code.FORBIDDEN,
        Code.CREDENTIALS_WRONG,
        Code.CODE_NEEDED,
    ),
)
def accept_invitation(call: Call, given: AcceptInvitation) -> Accepted:
    """Accepts an invitation, as the person of its address, and sets a cookie: one is signed in."""
    tx, principal = call.tx, call.principal
    prepared = given if isinstance(given, PreparedAcceptance) else PreparedAcceptance(token="")
    found = find(tx, given.token)
    if principal.user_id is None:
        person_id = _new_person(call, found, prepared)
    else:
        require_the_invited(principal, found)
        person_id = principal.user_id
    row = found.row
    call.about(
        company_id=row.company_id,
        subject=str(row.id),
        actor=name_of_user(person_id),
        personal={"email": row.email},
        role=row.role,
    )
    _use_up(tx, row)
    _make_member(tx, row, person_id)
    csrf = ""
    if prepared.old_cookie:
        csrf = sign_ins.renew(tx, prepared.old_cookie, prepared.new_cookie)
    elif prepared.new_cookie:
        csrf = sign_ins.begin(
            tx,
            person_id,
            prepared.new_cookie,
            address=prepared.address,
            user_agent=prepared.user_agent,
        )
    until = None if row.until is None else instant_text(row.until)
    me = show_person(call, person_id)
    return Accepted(str(row.company_id), row.company_name, row.role, until, me, csrf)


def require_the_invited(principal: Principal, found: Found) -> None:
    """Refuses who is signed in as somebody else; a token accepts nothing for its person."""
    if principal.token is not None:
        raise Refused(
            Code.FORBIDDEN,
            "An API token accepts no invitation: sign in, or send the password and no token.",
        )
    if principal.user_id != found.person_id:
        raise Refused(
            Code.OTHER_ACCOUNT,
            "The invitation is for another address than that of the account you are signed in "
            "with. Sign out, then open the link again.",
        )


def require_password_of_new(given: AcceptInvitation) -> None:
    """Refuses a password or a name that no new account can have."""
    wrong = why_not_a_password(given.password)
    if wrong is not None:
        raise Refused(Code.VALIDATION, f"password: {wrong}", field="password")
    _name(given, "")


def sign_in_first() -> Refused:
    """The address has an account, and nobody has shown to be its person."""
    return Refused(
        Code.SIGNED_OUT,
        "There is an account with the address of this invitation: sign in, or give its password.",
    )


def _new_person(call: Call, found: Found, given: PreparedAcceptance) -> int:
    """An account for the invited address, which has none."""
    row = found.row
    if found.person_id is not None:
        raise sign_in_first()
    require_password_of_new(given)
    if not given.password_hash:
        # Nobody signed in any more, and no account was to be made when the request came.
        raise sign_in_first()
    try:
        return make_person(call.tx, row.email, _name(given, row.email), given.password_hash)
    except IntegrityError as error:
        if not broke(error, "uq_person_email_key"):
            raise
        raise Raced("account of a person") from error


def _name(given: AcceptInvitation, else_: str) -> str:
    if not given.name.strip():
        return else_
    try:
        return clean_name(given.name)
    except ValueError as error:
        raise Refused(Code.VALIDATION, f"name: {error}", field="name") from error


def _use_up(tx: Transaction, row: AnyRow) -> None:
    """Nobody accepts it again, nor with the link of before."""
    still = and_(
        invitation.c.id == row.id,
        invitation.c.token_hash == row.token_hash,
        invitation.c.ended_at.is_(None),
    )
    ended = {"ended_at": tx.now_ms, "ended_because": "accepted"}
    if tx.run(update(invitation).where(still).values(**ended)) == 0:
        raise Refused(Code.INVITATION_OVER, OVER)


def _make_member(tx: Transaction, row: AnyRow, person_id: int) -> None:
    place = {"person_id": person_id, "company_id": row.company_id}
    values = {"role": row.role, "until": row.until, "created_at": tx.now_ms}
    before = tx.one(select(membership).filter_by(**place))
    if before is not None:
        if before.until is None or before.until > tx.now_ms:
            raise member_already()
        tx.run(update(membership).where(membership.c.id == before.id).values(**values))
        return
    try:
        tx.insert(insert(membership), place | values)
    except IntegrityError as error:
        if not broke(error, "uq_membership_person_id_company_id"):
            raise
        raise Raced("membership of a person") from error
