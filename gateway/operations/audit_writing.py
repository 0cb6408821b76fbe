"""Writes the audit: an entry for each thing that was done, in the transaction that does it."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from gateway.domain.audit_chain import SALT_BYTES, digest_of
from gateway.domain.happenings import happening_of
from gateway.domain.rights import user_of
from gateway.operations.happening import happened
from gateway.storage.statements import insert_one
from gateway.storage.transaction import Transaction

TEXT_CHARS_MAX = 200
ITEMS_MAX = 20  # of a list; how many there were is said, too

# Fields of inputs that nobody may ever read again.
SECRETS = frozenset(
    {
        "code",
        "csrf",
        "csv",
        "current_password",
        "key",
        "link",
        "new_password",
        "old_password",
        "old_token",
        "password",
        "password_hash",
        "recovery_code",
        "secret",
        "token",
        "token_hash",
        "totp",
    }
)
# Fields that only look like it.
NOT_SECRETS = frozenset({"code_id", "require_totp", "token_id", "serial_key"})
LIKE_A_SECRET = re.compile(r"pass|secret|token|code|hash|otp|csrf|csv|link|seal|cookie|\bkey")
# Fields whose values belong to a person, and may be erased.
PERSONAL = frozenset(
    {"address", "administrator_email", "billing_email", "email", "support", "user_agent"}
)
# What they are called where the thing is a person, and not a device or a company.
PERSONAL_OF_PEOPLE = frozenset({"name"})
_OF_PEOPLE = frozenset(
    {"account", "invitations", "me", "members", "people", "sign-ins", "tokens", "users"}
)
# Long texts, which are to be read where they are kept.
_LEFT_OUT = frozenset({"notes"})
# Operations that write entries of their own: their verb says better what was done.
OWN_VERBS: Mapping[str, str] = {
    "clock.accept": "clock.accepted",
    "relays.drain": "relays.drain",  # with what it carries
    "companies.close": "company.closed",
    "devices.act-many": "devices.extend",  # or what is done otherwise, of each device
    "devices.forget": "device.forgotten",
    "devices.import": "devices.imported",
    "devices.move": "device.moved",
    "devices.move-many": "device.moved",
    "devices.replace": "device.replaced",
    "devices.undo-replace": "device.replacement_undone",
    "imports.undo": "devices.import_undone",
    # By the job, if there is such an account: strangers do not fill the audit.
    "password-resets.create": "password-reset.mailed",
    "sessions.close": "session.ended",
    "sessions.open": "session.opened",
    "sessions.ticket": "session.ticket",
    "targets.change": "target.changed",
    "targets.create": "target.created",
    "targets.delete": "target.deleted",
}
_COLUMNS = (
    "at",
    "actor",
    "owner_id",
    "verb",
    "company_id",
    "device_id",
    "serial",
    "subject",
    "detail",
    "digests",
)
_ADD_AND_NAME = f"{insert_one('audit', _COLUMNS)} RETURNING id"
_ADD_PERSONAL = (
    "INSERT INTO audit_personal (audit_id, name, person_id, value, salt) VALUES (?, ?, ?, ?, ?)"
)


class Personal(NamedTuple):
    """A value that may be erased, and whose it is, if that is somebody with an account."""

    name: str
    value: str
    person_id: int | None = None


@dataclass(slots=True)
class About:
    """What an operation says of itself for its entry, besides its input."""

    company_id: int | None = None
    device_id: int | None = None
    serial: str | None = None
    subject: str | None = None
    actor: str | None = None  # where it is known only at the end, as of a sign-in
    person_id: int | None = None  # whose the personal values are, if not the actor's
    personal: dict[str, str] = field(default_factory=dict)
    detail: dict[str, object] = field(default_factory=dict)


def record(
    tx: Transaction,
    verb: str,
    *,
    actor: str,
    owner_id: int | None,
    company_id: int | None,
    device_id: int | None,
    serial: str | None,
    subject: str,
    detail: Mapping[str, object],
    personal: Iterable[Personal] = (),
) -> None:
    """Writes an entry in the transaction that does the thing: without it, it is not done.

    Those who watch the company hear of it, if it is of a kind that they watch for.
    """
    told = happening_of(verb)
    if told is not None and company_id is not None:
        happened(
            tx,
            told,
            company_id,
            serial=serial,
            subject=subject,
            person_id=owner_id,
            detail={"verb": verb},
        )
    salted = [(_storable(one), os.urandom(SALT_BYTES)) for one in personal]
    digests = {one.name: digest_of(salt, one.value) for one, salt in salted}
    values = (
        tx.now_ms,
        actor,
        owner_id,
        verb,
        company_id,
        device_id,
        serial,
        subject,
        _json(detail),
        _json(digests),
    )
    if not salted:
        tx.add_at_end("audit", _COLUMNS, values)
        return
    entry = tx.fetch(_ADD_AND_NAME, values)[0][0]
    rows = [(entry, one.name, one.person_id, one.value, salt) for one, salt in salted]
    tx.change_many(_ADD_PERSONAL, rows)


def record_operation(
    tx: Transaction,
    name: str,
    fields: Collection[str],
    path_fields: Collection[str],
    *,
    actor: str,
    given: msgspec.Struct,
    result: Any,
    about: About,
) -> None:
    """The entry of an operation that was carried out: its input without what is secret.

    `fields` are those that the caller may send; what was added outside of the transaction is not
    the caller's, but for the address and the program that it came from.
    """
    noun = name.partition(".")[0]
    sent = {key: getattr(given, key) for key in fields}
    # A field that is a word of Python has a line after it: `from_`.
    sent = {key.rstrip("_"): value for key, value in sent.items() if value is not msgspec.UNSET}
    for key in ("address", "user_agent"):
        if key not in sent and (came := getattr(given, key, "")):
            sent[key] = came
    personal = dict(about.personal)
    detail = _cleaned(sent, noun in _OF_PEOPLE, personal)
    serial = about.serial or sent.get("serial")
    for key in (*path_fields, "serial"):
        detail.pop(key, None)
    subject = about.subject or getattr(result, "id", None) or serial
    if subject is None:
        subject = "/".join(str(sent[key]) for key in path_fields)
    done_by = about.actor or actor
    owner = about.person_id if about.person_id is not None else user_of(done_by)
    record(
        tx,
        name,
        actor=done_by,
        owner_id=None,
        company_id=_company(noun, sent, result, about),
        device_id=about.device_id,
        serial=serial,
        subject=str(subject),
        detail=detail | about.detail,
        personal=[Personal(key, value, owner) for key, value in personal.items() if value],
    )


def _storable(one: Personal) -> Personal:
    """What strangers sent, as an address or the name of a program, may be no text at all."""
    text = _text(one.value.replace("\x00", "\ufffd"))
    return one._replace(value=text[:TEXT_CHARS_MAX])


def _json(given: Mapping[str, object]) -> str:
    try:
        return msgspec.json.encode(given).decode()
    except UnicodeEncodeError:  # there is such a half in it
        return _text(json.dumps(dict(given), ensure_ascii=False))


def _text(given: str) -> str:
    """Without halves of characters, which no database keeps and nobody could read again."""
    return given.encode(errors="replace").decode()


@lru_cache(maxsize=1_024)
def is_secret(name: str) -> bool:
    """Whether the values of such a field are left out; one that only might be is, too."""
    return name in SECRETS or (LIKE_A_SECRET.search(name) is not None and name not in NOT_SECRETS)


def _company(noun: str, sent: Mapping[str, Any], result: Any, about: About) -> int | None:
    """A company that was made is what was asked for; else where the caller had to have a right."""
    made = getattr(result, "id", None) if noun == "companies" else None
    if isinstance(made, str) and made.isdecimal():
        return int(made)
    if about.company_id is not None:
        return about.company_id
    named = sent.get("company_id")
    return int(named) if isinstance(named, str) and named.isdecimal() else None


def _cleaned(
    values: Mapping[str, Any], of_people: bool, personal: dict[str, str]
) -> dict[str, object]:
    """The values that everybody may read who reads the entry; personal ones are put aside."""
    kept: dict[str, object] = {}
    for name, value in values.items():
        if is_secret(name) or name in _LEFT_OUT or value in ("", None):
            continue
        if name in PERSONAL or (of_people and name in PERSONAL_OF_PEOPLE):
            if isinstance(value, str):
                personal[name] = value.strip()
            continue
        kept[name] = _short(value, of_people, personal)
    return kept


def _short(value: Any, of_people: bool, personal: dict[str, str]) -> object:
    if type(value) in (int, bool):
        return value
    plain = value if type(value) is str else msgspec.to_builtins(value, str_keys=True)
    if isinstance(plain, str):
        return plain[:TEXT_CHARS_MAX]
    if isinstance(plain, dict):
        return _cleaned(plain, of_people, personal)
    if isinstance(plain, list | tuple):
        first = [_short(one, of_people, personal) for one in plain[:ITEMS_MAX]]
        return first if len(plain) <= ITEMS_MAX else [*first, f"… {len(plain)} in all"]
    return plain
