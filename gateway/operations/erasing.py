"""Erases a person: the account and every personal value, while what was done stays in the books.

The ledger and the audit keep `user:7` as actor. The audit's chain covers salted digests of personal
values, so it stays whole when the values are gone.
"""

import json
import re
from typing import Any

import msgspec
from sqlalchemy import Column, and_, delete, func, or_, select, update

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role, name_of_user
from gateway.operations.accounts import person_of
from gateway.operations.audit_writing import TEXT_CHARS_MAX
from gateway.operations.memberships import require_another_administrator
from gateway.operations.people import Password
from gateway.operations.registry import Call, Page, cursor_number, not_found, operation, row_number
from gateway.people.accounts import email_key
from gateway.people.memberships import in_force
from gateway.storage.locks import Tree
from gateway.storage.schema import (
    api_token,
    audit_personal,
    company,
    idempotency,
    invitation,
    mail,
    membership,
    notice_due,
    password_reset,
    password_reset_asked,
    person,
    recovery_code,
    setting,
    sign_in,
)
from gateway.storage.transaction import AnyRow, Transaction

ERASED = "erased"
PASSWORD_WRONG = "password: this is not the password of your account"
_BETWEEN_WORDS = re.compile(r'[\s()<>\[\]:;,"\\]+')  # no address has such a character


class User(msgspec.Struct):
    """An account; of one that was erased nothing is left but its number."""

    id: str
    email: str
    name: str
    operator: bool
    created_at: str
    erased_at: str | None
    second_factor: bool
    second_factor_ends_at: str | None  # when a reset takes it away


class Users(msgspec.Struct):
    """A page of accounts, by number."""

    items: list[User]
    next_cursor: str | None


class ListUsers(Page, kw_only=True):
    """All accounts, or that of one e-mail address."""

    email: str = ""


class OneUser(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names an account by its number."""

    user_id: str


class EraseMe(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The password, once more: nothing brings the account back."""

    password: Password


class ProvenErasure(EraseMe, kw_only=True):
    """The same, checked outside of the transaction: that takes long."""

    checked_hash: str


class Erased(msgspec.Struct):
    """The number that stays in the books, and since when nothing else does."""

    id: str
    erased_at: str


@operation("users.list", "GET", "/users", right=Right.OPERATE, result=Users)
def list_users(call: Call, given: ListUsers) -> Users:
    """Lists the accounts of the installation; for operators, who are asked to erase one."""
    wanted = select(person).where(person.c.id > (cursor_number(given.cursor) or 0))
    if given.email:
        wanted = wanted.where(person.c.email_key == email_key(given.email))
    rows = call.tx.all(wanted.order_by(person.c.id).limit(given.limit + 1))
    items = [_user(row) for row in rows[: given.limit]]
    return Users(items, items[-1].id if len(rows) > given.limit else None)


@operation(
    "users.erase",
    "POST",
    "/users/{user_id}/erase",
    right=Right.OPERATE,
    result=Erased,
    errors=(Code.LAST_ADMINISTRATOR,),
    tree=Tree.ALONE,
    irrevocable=True,
)
def erase_user(call: Call, given: OneUser) -> Erased:
    """Erases a person who asked for it: account, roles, sign-ins, tokens, every personal value."""
    return _erase(call, row_number(given.user_id, "user"))


@operation(
    "me.erase",
    "DELETE",
    "/me",
    right=Right.OWN_ACCOUNT,
    result=Erased,
    errors=(Code.CREDENTIALS_WRONG, Code.LAST_ADMINISTRATOR),
    tree=Tree.ALONE,
    guessed=Code.CREDENTIALS_WRONG,
    irrevocable=True,
)
def erase_me(call: Call, given: EraseMe) -> Erased:
    """Erases one's own account and every personal value, by the password."""
    person_id = person_of(call)
    call.tx.lock_person(person_id)
    kept = call.tx.scalar(select(person.c.password_hash).where(person.c.id == person_id))
    if not isinstance(given, ProvenErasure) or given.checked_hash != kept:
        raise Refused(Code.CREDENTIALS_WRONG, PASSWORD_WRONG, field="password")
    return _erase(call, person_id)


def _erase(call: Call, person_id: int) -> Erased:
    tx = call.tx
    tx.lock_person(person_id)
    row = tx.one(select(person).where(person.c.id == person_id, person.c.erased_at.is_(None)))
    if row is None:
        raise not_found("user")
    _require_others(call, row)
    _delete_belongings(tx, row)
    _delete_mentions(tx, row)
    tx.run(
        update(person)
        .where(person.c.id == person_id)
        .values(
            email=f"{ERASED}-{person_id}",
            email_key=f"{ERASED}-{person_id}",
            name=ERASED,
            password_hash="-",
            operator=False,
            language="",
            totp_secret=None,
            totp_since=None,
            totp_step=None,
            totp_reset_at=None,
            erased_at=tx.now_ms,
        )
    )
    tx.leave_no_trace()
    call.about(subject=str(person_id))
    return Erased(str(person_id), instant_text(tx.now_ms))


def _require_others(call: Call, row: AnyRow) -> None:
    """Refuses when the installation or a company would be left to nobody."""
    tx = call.tx
    others = select(func.count()).where(person.c.operator, person.c.id != row.id)
    if row.operator and not tx.scalar(others):
        raise Refused(
            Code.LAST_ADMINISTRATOR,
            "This is the installation's last operator: first make another one.",
        )
    administered = tx.all(
        select(membership.c.company_id, membership.c.until)
        .join(company, company.c.id == membership.c.company_id)
        .where(
            membership.c.person_id == row.id,
            membership.c.role == Role.ADMINISTRATOR.value,
            in_force(tx.now_ms),
            company.c.closed_at.is_(None),
        )
        .order_by(membership.c.company_id)
    )
    for one in administered:
        require_another_administrator(call, one.company_id, row.id, lasting=one.until is None)


def _delete_belongings(tx: Transaction, row: AnyRow) -> None:
    """What there is only because there is the account."""
    for table in (membership, sign_in, api_token, recovery_code, password_reset, notice_due):
        tx.run(delete(table).where(table.c.person_id == row.id))
    asked = password_reset_asked.c.email_key == row.email_key
    tx.run(delete(password_reset_asked).where(asked))
    # Answers that are kept for repeated requests are sealed; the own ones are nobody's any more.
    name = name_of_user(row.id)
    own = or_(idempotency.c.principal == name, idempotency.c.principal.startswith(f"{name}/"))
    tx.run(delete(idempotency).where(own))


def _delete_mentions(tx: Transaction, row: AnyRow) -> None:
    """Where else the address stands, and in the audit whatever is of this person."""
    tx.run(delete(invitation).where(invitation.c.email_key == row.email_key))
    sent = mail.c.recipient.in_(_mentioning(tx, mail.c.recipient, row.email))
    tx.run(delete(mail).where(or_(mail.c.person_id == row.id, sent)))
    billed = company.c.billing_email.in_(_mentioning(tx, company.c.billing_email, row.email))
    tx.run(update(company).where(billed).values(billing_email=""))
    for one in tx.all(select(setting).where(setting.c.value.contains("@"))):
        value = json.loads(one.value)
        if (left := _without(value, row.email)) != value:
            which = (setting.c.company_id == one.company_id, setting.c.key == one.key)
            tx.run(update(setting).where(*which).values(value=json.dumps(left)))
    _delete_from_audit(tx, row)


def _delete_from_audit(tx: Transaction, row: AnyRow) -> None:
    """Values of this person, whoever did it: who invited somebody owns the address until then.

    Of values that are nobody's, those that this person has as well.
    """
    value, whose = audit_personal.c.value, audit_personal.c.person_id
    named = and_(audit_personal.c.name == "name", value == row.name)
    own = select(value).where(whose == row.id, audit_personal.c.name == "address")
    came = and_(audit_personal.c.name == "address", value.in_(own))
    nobodys = and_(whose.is_(None), or_(named, came))
    tx.run(delete(audit_personal).where(nobodys))  # as long as there are the own ones
    mentioned = value.in_(_mentioning(tx, value, row.email))
    tx.run(delete(audit_personal).where(or_(whose == row.id, mentioned)))


def _mentioning(tx: Transaction, column: Column[str], email: str) -> list[str]:
    """The values that name the address, however it is written.

    Databases do not know all of the letters that `email_key` takes for the same.
    """
    found = tx.all(select(column).where(column.contains("@")).distinct())
    return [value for (value,) in found if _mentions(value, email)]


def _mentions(text: str, email: str) -> bool:
    # The audit cuts long values off.
    keys = {email_key(email), email_key(email[:TEXT_CHARS_MAX])}
    return any(
        email_key(word) in keys or email_key(word.rstrip(".")) in keys
        for word in _BETWEEN_WORDS.split(text)
    )


def _without(value: Any, email: str) -> Any:
    """A setting in which no text names the address."""
    if isinstance(value, str):
        return "" if _mentions(value, email) else value
    if isinstance(value, dict):
        return {key: _without(one, email) for key, one in value.items()}
    return value


def _user(row: AnyRow) -> User:
    erased_at = None if row.erased_at is None else instant_text(row.erased_at)
    email = row.email if row.erased_at is None else ERASED
    created_at = instant_text(row.created_at)
    ends_at = None if row.totp_reset_at is None else instant_text(row.totp_reset_at)
    return User(
        str(row.id),
        email,
        row.name,
        row.operator,
        created_at,
        erased_at,
        row.totp_since is not None,
        ends_at,
    )
