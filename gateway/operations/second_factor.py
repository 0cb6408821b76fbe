"""The second factor of one's own account, and its loss: operators take one away after a day."""

from typing import Annotated

import msgspec
from sqlalchemy import delete, insert, select, update

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role
from gateway.operations.accounts import person_of
from gateway.operations.audit_writing import record
from gateway.operations.code_proof import (
    CODE_CHARS_MAX,
    code_wrong,
    factor_of,
    prove_code,
    sealed_secret,
    use_step,
)
from gateway.operations.mailing import queue_mail
from gateway.operations.people import Nothing, Password
from gateway.operations.registry import Call, not_found, operation, row_number
from gateway.people import sign_ins, totp
from gateway.people.memberships import in_force
from gateway.people.recovery_codes import hash_code, new_codes
from gateway.storage.schema import membership, person, recovery_code
from gateway.storage.transaction import AnyRow, Transaction

TAKEN_AFTER_MS = DAY_MS
TAKEN_AT_ONCE = 100
MAILED_MAX = 50  # administrators who are told of one reset
PASSWORD_WRONG = "password: this is not the password of your account"
CodeText = Annotated[str, msgspec.Meta(min_length=1, max_length=CODE_CHARS_MAX)]
_OFF = {"totp_secret": None, "totp_since": None, "totp_step": None, "totp_reset_at": None}


class SetUpTotp(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The password, once more."""

    password: Password


class ProvenSetUp(SetUpTotp, kw_only=True):
    """The same, checked outside of the transaction: that takes long."""

    checked_hash: str


class TotpSecret(msgspec.Struct):
    """What an app must know, shown once: `uri` is for a QR code, `secret` for typing.

    It is in force once a code of the app is confirmed.
    """

    secret: str
    uri: str


class ConfirmTotp(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The app's code of now."""

    code: CodeText


class RecoveryCodes(msgspec.Struct):
    """Each takes the place of the app once; shown now and never again."""

    recovery_codes: list[str]


class RemoveTotp(SetUpTotp, kw_only=True):
    """The password, and a code of the app or a recovery code."""

    code: CodeText


class ProvenRemoval(RemoveTotp, kw_only=True):
    """The same, checked outside of the transaction."""

    checked_hash: str


class SecondFactor(msgspec.Struct):
    """Whether there is a second factor, and when an operator's reset takes it away."""

    second_factor: bool
    ends_at: str | None


class OneUser(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a person by the id of the account."""

    user_id: str


@operation(
    "me.set-up-totp",
    "POST",
    "/me/totp",
    right=Right.OWN_ACCOUNT,
    result=TotpSecret,
    errors=(Code.CREDENTIALS_WRONG, Code.SECOND_FACTOR_SET),
    guessed=Code.CREDENTIALS_WRONG,
)
def set_up(call: Call, given: SetUpTotp) -> TotpSecret:
    """Begins to set up a second factor: makes the secret that an app takes from a QR code."""
    person_id = person_of(call)
    call.tx.lock_person(person_id)
    _require_password(call, person_id, given.checked_hash if isinstance(given, ProvenSetUp) else "")
    row = factor_of(call, person_id)
    if row.totp_since is not None:
        raise Refused(
            Code.SECOND_FACTOR_SET, "There is a second factor already; remove that one first."
        )
    secret = totp.new_secret()
    kept = {"totp_secret": sealed_secret(call, person_id, secret), "totp_step": None}
    call.tx.run(update(person).where(person.c.id == person_id).values(**kept))
    call.about(subject=str(person_id))
    return TotpSecret(totp.text_of(secret), totp.uri_of(secret, row.email))


@operation(
    "me.confirm-totp",
    "POST",
    "/me/totp/confirm",
    right=Right.OWN_ACCOUNT,
    result=RecoveryCodes,
    errors=(Code.CREDENTIALS_WRONG, Code.SECOND_FACTOR_SET, Code.NOTHING_WAITS),
    guessed=Code.CREDENTIALS_WRONG,
)
def confirm(call: Call, given: ConfirmTotp) -> RecoveryCodes:
    """Puts the second factor in force by a code of the app; other sign-ins end."""
    tx, person_id = call.tx, person_of(call)
    tx.lock_person(person_id)
    row = factor_of(call, person_id)
    if row.totp_since is not None:
        raise Refused(Code.SECOND_FACTOR_SET, "The second factor is in force already.")
    if row.totp_secret is None:
        raise Refused(Code.NOTHING_WAITS, "Set up a second factor first: POST /me/totp.")
    code = "".join(given.code.split())
    if not totp.is_code(code):
        raise code_wrong()
    use_step(call, person_id, row, code)
    tx.run(update(person).where(person.c.id == person_id).values(totp_since=tx.now_ms))
    sign_ins.proven(tx, call.principal.sign_in)
    ended = sign_ins.end_all(tx, person_id, but=call.principal.sign_in)
    call.about(subject=str(person_id), sign_ins_ended=ended)
    return RecoveryCodes(_new_recovery_codes(tx, person_id))


@operation(
    "me.recovery-codes",
    "POST",
    "/me/totp/recovery-codes",
    right=Right.OWN_ACCOUNT,
    result=RecoveryCodes,
    errors=(Code.CREDENTIALS_WRONG, Code.NOTHING_WAITS),
    guessed=Code.CREDENTIALS_WRONG,
)
def renew_recovery_codes(call: Call, given: ConfirmTotp) -> RecoveryCodes:
    """Makes new recovery codes, by a code of the app; the old ones are void."""
    person_id = person_of(call)
    if not prove_code(call, person_id, given.code).second_factor:
        raise Refused(Code.NOTHING_WAITS, "There is no second factor; set one up first.")
    call.about(subject=str(person_id))
    return RecoveryCodes(_new_recovery_codes(call.tx, person_id))


@operation(
    "me.remove-totp",
    "DELETE",
    "/me/totp",
    right=Right.OWN_ACCOUNT,
    result=SecondFactor,
    errors=(Code.CREDENTIALS_WRONG, Code.NOTHING_WAITS),
    guessed=Code.CREDENTIALS_WRONG,
)
def remove(call: Call, given: RemoveTotp) -> SecondFactor:
    """Removes one's own second factor, by password and code."""
    person_id = person_of(call)
    call.tx.lock_person(person_id)
    checked = given.checked_hash if isinstance(given, ProvenRemoval) else ""
    _require_password(call, person_id, checked)
    if factor_of(call, person_id).totp_since is None:
        raise Refused(Code.NOTHING_WAITS, "There is no second factor to remove.")
    prove_code(call, person_id, given.code)
    _take_away(call.tx, person_id)
    call.about(subject=str(person_id))
    return SecondFactor(second_factor=False, ends_at=None)


@operation("me.keep-totp", "DELETE", "/me/totp/reset", right=Right.OWN_ACCOUNT, result=SecondFactor)
def keep(call: Call, _given: Nothing) -> SecondFactor:
    """Stops an operator's reset of one's second factor; signing in with it does so, too."""
    person_id = person_of(call)
    call.tx.lock_person(person_id)
    call.tx.run(update(person).where(person.c.id == person_id).values(totp_reset_at=None))
    call.about(subject=str(person_id))
    has = factor_of(call, person_id).totp_since is not None
    return SecondFactor(second_factor=has, ends_at=None)


@operation(
    "users.reset-totp",
    "POST",
    "/users/{user_id}/reset-totp",
    right=Right.OPERATE,
    result=SecondFactor,
    errors=(Code.NOTHING_WAITS,),
)
def reset(call: Call, given: OneUser) -> SecondFactor:
    """Takes away a lost second factor in 24 hours, unless its person signs in with it before.

    The person and the administrators of the person's companies are told at once.
    """
    tx, number = call.tx, row_number(given.user_id, "user")
    found = tx.one(select(person.c.name).where(person.c.id == number, person.c.erased_at.is_(None)))
    if found is None:
        raise not_found("user")
    tx.lock_person(number)
    row = factor_of(call, number)
    if row.totp_since is None:
        raise Refused(Code.NOTHING_WAITS, "This person has no second factor.")
    call.about(subject=str(number), person_id=number)
    if row.totp_reset_at is not None:
        return SecondFactor(second_factor=True, ends_at=instant_text(row.totp_reset_at))
    at = tx.now_ms + TAKEN_AFTER_MS
    tx.run(update(person).where(person.c.id == number).values(totp_reset_at=at))
    values = {"person": found.name, "at": instant_text(at)}
    for told in _told(tx, number):
        queue_mail(
            tx,
            site=call.site,
            template="totp_reset_asked",
            recipient=told.email,
            language="",
            values=values,
            person_id=told.id,
        )
    return SecondFactor(second_factor=True, ends_at=instant_text(at))


def take_away_due(tx: Transaction) -> int:
    """Carries out the resets whose day is over; how many."""
    due = tx.all(
        select(person.c.id)
        .where(person.c.totp_reset_at <= tx.now_ms)
        .order_by(person.c.id)
        .limit(TAKEN_AT_ONCE)
    )
    taken = 0
    for row in due:
        tx.lock_person(row.id)
        still = (person.c.id == row.id, person.c.totp_reset_at <= tx.now_ms)
        if tx.run(update(person).where(*still).values(totp_reset_at=None)) == 0:
            continue  # its person signed in meanwhile
        _take_away(tx, row.id)
        taken += 1
        record(
            tx,
            "users.totp_taken_away",
            actor="gateway",
            owner_id=row.id,
            company_id=None,
            device_id=None,
            serial=None,
            subject=str(row.id),
            detail={},
        )
    return taken


def _told(tx: Transaction, person_id: int) -> list[AnyRow]:
    """The person, and who administers a company in which the person has a role."""
    theirs = select(membership.c.company_id).where(
        membership.c.person_id == person_id, in_force(tx.now_ms)
    )
    administrators = select(membership.c.person_id).where(
        membership.c.company_id.in_(theirs),
        membership.c.role == Role.ADMINISTRATOR.value,
        in_force(tx.now_ms),
    )
    either = (person.c.id == person_id) | person.c.id.in_(administrators)
    # Whose factor it is comes first, whatever else there is to send.
    own_first = person.c.id != person_id
    found = select(person.c.id, person.c.email).where(either, person.c.erased_at.is_(None))
    return list(tx.all(found.order_by(own_first, person.c.id).limit(MAILED_MAX)))


def _take_away(tx: Transaction, person_id: int) -> None:
    tx.run(update(person).where(person.c.id == person_id).values(**_OFF))
    tx.run(delete(recovery_code).where(recovery_code.c.person_id == person_id))


def _new_recovery_codes(tx: Transaction, person_id: int) -> list[str]:
    tx.run(delete(recovery_code).where(recovery_code.c.person_id == person_id))
    codes = new_codes()
    rows = [{"code_hash": hash_code(code), "person_id": person_id} for code in codes]
    for row in rows:
        tx.run(insert(recovery_code), row)
    return codes


def _require_password(call: Call, person_id: int, checked_hash: str) -> None:
    """Refuses unless the password was checked, and against the one there is still."""
    kept = call.tx.scalar(select(person.c.password_hash).where(person.c.id == person_id))
    if not checked_hash or checked_hash != kept:
        raise Refused(Code.CREDENTIALS_WRONG, PASSWORD_WRONG, field="password")
