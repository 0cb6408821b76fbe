"""One's own account: the name, the language, the password."""

from typing import Annotated, Literal

import msgspec
from sqlalchemy import select, update

from gateway.domain.names import NAME_CHARS_MAX, clean_name
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.mailing import queue_mail
from gateway.operations.people import Me, Password, show_person
from gateway.operations.registry import Call, operation
from gateway.people import sign_ins
from gateway.people.accounts import set_password
from gateway.people.passwords import why_not_a_password
from gateway.storage.schema import person

OLD_WRONG = "old_password: this is not the password of your account"


class ChangeMe(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What changes; an empty language is that of one's company."""

    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    language: Literal["", "en", "es"] | msgspec.UnsetType = msgspec.UNSET


class ChangePassword(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The password there is, and the one that takes its place."""

    old_password: Password
    new_password: Password


class ProvenPassword(ChangePassword, kw_only=True):
    """The same, checked and hashed outside of the transaction: that takes long."""

    checked_hash: str  # what the old password was checked against
    new_hash: str


class PasswordChanged(msgspec.Struct):
    """How many other sign-ins ended with it."""

    sign_ins_ended: int


def person_of(call: Call) -> int:
    """Whose account it is: that of whoever asks, and of nobody else."""
    assert call.principal.user_id is not None, "the right is of people only"
    return call.principal.user_id


def require_password(password: str, field: str) -> None:
    """Refuses what nobody may choose as password."""
    wrong = why_not_a_password(password)
    if wrong is not None:
        raise Refused(Code.VALIDATION, f"{field}: {wrong}", field=field)


@operation("me.change", "PATCH", "/me", right=Right.OWN_ACCOUNT, result=Me)
def change_me(call: Call, given: ChangeMe) -> Me:
    """Changes one's own name or language; needs a sign-in, not an API token."""
    person_id = person_of(call)
    values: dict[str, str] = {}
    if given.name is not msgspec.UNSET:
        try:
            values["name"] = clean_name(given.name)
        except ValueError as error:
            raise Refused(Code.VALIDATION, f"name: {error}", field="name") from error
    if given.language is not msgspec.UNSET:
        values["language"] = given.language
    if not values:
        raise Refused(Code.VALIDATION, "give what changes: name or language")
    call.tx.lock_person(person_id)
    call.tx.run(update(person).where(person.c.id == person_id).values(**values))
    call.about(subject=str(person_id))
    return show_person(call, person_id)


@operation(
    "me.change-password",
    "POST",
    "/me/password",
    right=Right.OWN_ACCOUNT,
    result=PasswordChanged,
    errors=(Code.CREDENTIALS_WRONG,),
    guessed=Code.CREDENTIALS_WRONG,
)
def change_password(call: Call, given: ChangePassword) -> PasswordChanged:
    """Changes one's own password, and ends all sign-ins but the one that asks."""
    tx, person_id = call.tx, person_of(call)
    require_password(given.new_password, "new_password")
    tx.lock_person(person_id)
    row = tx.one(select(person.c.email, person.c.password_hash).where(person.c.id == person_id))
    assert row is not None
    if not isinstance(given, ProvenPassword) or given.checked_hash != row.password_hash:
        # Unproven, or changed while it was being checked.
        raise Refused(Code.CREDENTIALS_WRONG, OLD_WRONG, field="old_password")
    set_password(tx, person_id, given.new_hash)
    ended = sign_ins.end_all(tx, person_id, but=call.principal.sign_in)
    queue_mail(
        tx,
        site=call.site,
        template="password_changed",
        recipient=row.email,
        language="",
        values={},
        person_id=person_id,
    )
    call.about(subject=str(person_id), sign_ins_ended=ended)
    return PasswordChanged(ended)
