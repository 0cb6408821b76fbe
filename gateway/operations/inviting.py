"""Sends invitations: a link for an e-mail, a company and a role, good once and for 72 hours."""

from typing import NamedTuple

import msgspec
from sqlalchemy import and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.inviting import (
    GOOD_MS,
    OPEN_OF_COMPANY_MAX,
    SENT_OF_PERSON_MAX,
    SENT_WITHIN_MS,
    may_invite,
)
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Role
from gateway.operations.inside import keeps_roles
from gateway.operations.mailing import queue_mail
from gateway.operations.registry import Call
from gateway.people.accounts import email_key, is_email
from gateway.people.memberships import in_force
from gateway.people.tokens import hash_token, new_link_token
from gateway.storage.constraints import broke
from gateway.storage.locks import Raced
from gateway.storage.schema import company, invitation, membership, person
from gateway.storage.transaction import AnyRow

PATH = "/invitation"


class Made(NamedTuple):
    """An invitation that was sent; its link only where nobody mails it."""

    id: int
    link: str | msgspec.UnsetType


def invite(
    call: Call, *, email: str, company_id: int, role: Role, until: int | None = None
) -> Made:
    """Invites somebody into an open company; who is invited already gets a new link and this role.

    Does the same, by the same statements, whether there is an account of this address or not.
    Raises `Refused`.
    """
    require_giving(call, role, company_id)
    if not is_email(email):
        raise Refused(Code.VALIDATION, "email: not an address", field="email")
    lock_inviter(call)
    _refuse_members(call, email, company_id)
    found = call.tx.one(
        select(invitation).where(
            invitation.c.company_id == company_id,
            invitation.c.email_key == email_key(email),
            invitation.c.ended_at.is_(None),
        )
    )
    if found is not None:
        if found.expires_at > call.tx.now_ms:
            # Else somebody could take away what only others may give.
            require_giving(call, Role(found.role), company_id)
        return _send(call, company_id, email, role, until, found)
    _refuse_too_many(call, company_id)
    return _send(call, company_id, email, role, until)


def send_again(call: Call, row: AnyRow) -> Made:
    """A new link for an invitation that has not ended, from whoever sends it now.

    `row` was read under `lock_inviter`.
    """
    return _send(call, row.company_id, row.email, Role(row.role), row.until, row)


def require_giving(call: Call, role: Role, company_id: int) -> None:
    """Refuses whoever may not have somebody get this role in the company."""
    asking = keeps_roles(call.tx, company_id)
    asks = None if asking is None else asking.company_id
    if not may_invite(call.principal, role, call.treasury.path(company_id), asks=asks):
        raise Refused(
            Code.FORBIDDEN,
            f"You may neither give nor take the role {role.value} here; an administrator"
            f"{' of the company itself' if asks else ''} may.",
            field="role",
        )


def lock_inviter(call: Call) -> None:
    """What one person sends is counted, so it is sent one after the other."""
    assert call.principal.user_id is not None, "invitations are people's"
    call.tx.lock_person(call.principal.user_id)


def _refuse_members(call: Call, email: str, company_id: int) -> None:
    """Who is a member already is seen by everybody who invites."""
    member = call.tx.one(
        select(person.c.id)
        .join(membership, membership.c.person_id == person.c.id)
        .where(
            person.c.email_key == email_key(email),
            membership.c.company_id == company_id,
            in_force(call.tx.now_ms),
        )
    )
    if member is not None:
        raise member_already("email")


def member_already(field: str | None = None) -> Refused:
    """There is nothing to accept."""
    return Refused(
        Code.NAME_TAKEN,
        "This person is a member of the company already; change the role of the membership.",
        field=field,
    )


def _refuse_too_many(call: Call, company_id: int) -> None:
    open_ones = call.tx.scalar(
        select(func.count())
        .select_from(invitation)
        .where(
            invitation.c.company_id == company_id,
            invitation.c.ended_at.is_(None),
            invitation.c.expires_at > call.tx.now_ms,
        )
    )
    if open_ones >= OPEN_OF_COMPANY_MAX:
        raise Refused(
            Code.TOO_MANY_ATTEMPTS,
            f"The company has {OPEN_OF_COMPANY_MAX} open invitations; withdraw some of them.",
        )


def _send(
    call: Call,
    company_id: int,
    email: str,
    role: Role,
    until: int | None,
    before: AnyRow | None = None,
) -> Made:
    tx, token = call.tx, new_link_token()
    sends = _count_sending(call, before)
    values: dict[str, object] = {
        "email": email.strip(),
        "role": role.value,
        "until": until,
        "inviter_id": call.principal.user_id,
        "token_hash": hash_token(token),
        "sent_at": tx.now_ms,
        "sends": sends,
        "expires_at": tx.now_ms + GOOD_MS,
    }
    number = _insert(call, company_id, email, values) if before is None else before.id
    if before is not None:
        still = and_(
            invitation.c.id == number,
            invitation.c.token_hash == before.token_hash,
            invitation.c.ended_at.is_(None),
        )
        if tx.run(update(invitation).where(still).values(**values)) == 0:
            raise Raced("end or sending of an invitation")
    link = f"{call.site.public_url}{PATH}/{token}"
    _mail(call, company_id, email.strip(), role, until, link)
    return Made(number, msgspec.UNSET if call.site.mail else link)


def _insert(call: Call, company_id: int, email: str, values: dict[str, object]) -> int:
    more = {
        "company_id": company_id,
        "email_key": email_key(email),
        "created_at": call.tx.now_ms,
    }
    try:
        return call.tx.insert(insert(invitation), values | more)
    except IntegrityError as error:
        if not broke(error, "uq_invitation_open"):
            raise
        raise Raced("invitation of a person") from error


def _count_sending(call: Call, before: AnyRow | None) -> int:
    """How often this one was sent of late; refuses whoever sends too many."""
    tx, inviter = call.tx, call.principal.user_id
    since = tx.now_ms - SENT_WITHIN_MS
    sent = tx.scalar(
        select(func.coalesce(func.sum(invitation.c.sends), 0)).where(
            invitation.c.inviter_id == inviter, invitation.c.sent_at > since
        )
    )
    if sent >= SENT_OF_PERSON_MAX:
        raise Refused(
            Code.TOO_MANY_ATTEMPTS,
            f"You sent {SENT_OF_PERSON_MAX} invitations within an hour; wait, or let somebody "
            "else send this one.",
        )
    return 1 if before is None or before.sent_at <= since else before.sends + 1


def _mail(
    call: Call, company_id: int, email: str, role: Role, until: int | None, link: str
) -> None:
    names = call.tx.one(
        select(company.c.name, person.c.name.label("inviter"))
        .join(person, person.c.id == call.principal.user_id)
        .where(company.c.id == company_id)
    )
    assert names is not None
    values = {"link": link, "company": names.name, "role": role.value, "inviter": names.inviter}
    if until is not None:
        values["until"] = instant_text(until)
    # In the company's language: whether there is an account makes no difference.
    queue_mail(
        call.tx,
        site=call.site,
        template="invitation",
        recipient=email,
        language="",
        values=values,
        company_id=company_id,
    )
