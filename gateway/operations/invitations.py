"""Invitations as those see them who invite: made, listed, sent again, withdrawn."""

from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, select, update

from gateway.domain.instants import instant_text
from gateway.domain.inviting import ENDS, State, membership_end, state_of
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role
from gateway.operations.companies import company_row
from gateway.operations.inviting import invite, lock_inviter, require_giving, send_again
from gateway.operations.newest_first import newest, of_companies
from gateway.operations.people import Email
from gateway.operations.registry import Call, Page, company_number, operation, row_number
from gateway.storage.schema import company, invitation, person
from gateway.storage.transaction import AnyRow


class CreateInvitation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who is invited, into which company, as what; `until`: when the role ends by itself."""

    email: Email
    company_id: str
    role: Role
    until: str | None = None


class OneInvitation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names an invitation by its id."""

    invitation_id: str


class ListInvitations(Page, kw_only=True):
    """Which invitations: into one company and those below, in one state."""

    company: str = ""
    state: Literal["", "open", "expired", "accepted", "withdrawn", "closed"] = ""


class Invitation(msgspec.Struct):
    """An invitation: nothing changes until it is accepted. `closed`: the company was."""

    id: str
    company_id: str
    company_name: str
    email: str
    role: str
    until: str | None
    invited_by: str
    created_at: str
    sent_at: str
    expires_at: str
    state: State


class SentInvitation(Invitation, kw_only=True):
    """The invitation, and without a mail server its link: shown once, for you to hand on."""

    link: str | msgspec.UnsetType = msgspec.UNSET


class Invitations(msgspec.Struct):
    """A page of invitations, newest first."""

    items: list[Invitation]
    next_cursor: str | None


@operation(
    "invitations.create",
    "POST",
    "/invitations",
    right=Right.INVITE,
    result=SentInvitation,
    status=201,
    errors=(Code.NAME_TAKEN, Code.NOT_FOUND),
)
def create_invitation(call: Call, given: CreateInvitation) -> SentInvitation:
    """Invites somebody into a company; who is invited already gets a new link and this role."""
    number = company_number(given.company_id)
    _require_inviting(call, number)
    company_row(call, number)
    until = membership_end(given.until, call.tx.now_ms)
    made = invite(call, email=given.email, company_id=number, role=Role(given.role), until=until)
    return _sent(call, made.id, made.link)


@operation("invitations.list", "GET", "/invitations", right=Right.INVITE, result=Invitations)
def list_invitations(call: Call, given: ListInvitations) -> Invitations:
    """Lists the invitations into companies in which one may invite, newest first."""
    visible = call.visible_of(given.company, Right.INVITE)
    statement = _shown().where(of_companies(call, invitation.c.company_id, visible))
    if given.state:
        statement = statement.where(_is(given.state, call.tx.now_ms))
    rows, cursor = newest(call, statement, invitation.c.id, given)
    return Invitations([_invitation(call, row) for row in rows], cursor)


@operation(
    "invitations.resend",
    "POST",
    "/invitations/{invitation_id}/resend",
    right=Right.INVITE,
    result=SentInvitation,
    errors=(Code.INVITATION_OVER,),
)
def resend_invitation(call: Call, given: OneInvitation) -> SentInvitation:
    """Sends an invitation again, good for another 72 hours; the old link is dead."""
    lock_inviter(call)
    row = _own(call, given.invitation_id)
    if row.until is not None and row.until <= call.tx.now_ms:
        raise Refused(Code.INVITATION_OVER, "Its role would be over by now; invite once more.")
    made = send_again(call, row)
    return _sent(call, made.id, made.link)


@operation(
    "invitations.withdraw",
    "DELETE",
    "/invitations/{invitation_id}",
    right=Right.INVITE,
    result=Invitation,
    errors=(Code.INVITATION_OVER,),
    irrevocable=True,
)
def withdraw_invitation(call: Call, given: OneInvitation) -> Invitation:
    """Withdraws an invitation: its link is dead."""
    row = _own(call, given.invitation_id)
    still = and_(invitation.c.id == row.id, invitation.c.ended_at.is_(None))
    ended = {"ended_at": call.tx.now_ms, "ended_because": "withdrawn"}
    if call.tx.run(update(invitation).where(still).values(**ended)) == 0:
        raise _ended_already()
    shown = call.tx.one(_shown().where(invitation.c.id == row.id))
    return _invitation(call, shown)


def _require_inviting(call: Call, number: int) -> None:
    """Whoever invites in the company, or an operator who finds a root company its people."""
    path = call.treasury.path(number)
    if len(path) == 1 and call.allows(Right.OPERATE):
        call.about(company_id=number)
        call.require_open(number)
        return
    call.require(Right.INVITE, number, see=Right.SEE_COMPANIES, what="company")


def _own(call: Call, text: str) -> AnyRow:
    """An invitation that the caller may take back, and that has not ended. Raises `Refused`."""
    number = row_number(text, "invitation")
    row = call.tx.one(select(invitation).where(invitation.c.id == number))
    if row is None:
        raise call.missing(Right.INVITE, see=Right.INVITE, what="invitation")
    path = call.treasury.path(row.company_id)
    if len(path) != 1 or not call.allows(Right.OPERATE):
        call.require(Right.INVITE, row.company_id, see=Right.INVITE, what="invitation")
    call.about(
        company_id=row.company_id,
        subject=str(row.id),
        personal={"email": row.email},
        role=row.role,
    )
    call.require_open(row.company_id)
    require_giving(call, Role(row.role), row.company_id)
    if row.ended_at is not None:
        raise _ended_already()
    return row


def _ended_already() -> Refused:
    return Refused(
        Code.INVITATION_OVER, "It was accepted or withdrawn already; invite once more if needed."
    )


def _shown() -> Select[Any]:
    return (
        select(
            invitation,
            company.c.name.label("company_name"),
            person.c.name.label("inviter_name"),
        )
        .join(company, company.c.id == invitation.c.company_id)
        .join(person, person.c.id == invitation.c.inviter_id)
    )


def _is(state: State, now_ms: int) -> ColumnElement[bool]:
    if state in ENDS:
        return invitation.c.ended_because == state
    over = invitation.c.expires_at <= now_ms
    return and_(invitation.c.ended_at.is_(None), over if state == "expired" else ~over)


def _sent(call: Call, number: int, link: str | msgspec.UnsetType) -> SentInvitation:
    row = call.tx.one(_shown().where(invitation.c.id == number))
    return SentInvitation(**msgspec.structs.asdict(_invitation(call, row)), link=link)


def _invitation(call: Call, row: AnyRow | None) -> Invitation:
    assert row is not None
    return Invitation(
        id=str(row.id),
        company_id=str(row.company_id),
        company_name=row.company_name,
        email=row.email,
        role=row.role,
        until=None if row.until is None else instant_text(row.until),
        invited_by=row.inviter_name,
        created_at=instant_text(row.created_at),
        sent_at=instant_text(row.sent_at),
        expires_at=instant_text(row.expires_at),
        state=state_of(row.ended_because, row.expires_at, call.tx.now_ms),
    )
