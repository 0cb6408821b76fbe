"""Everything that is stored about a person, for this person alone."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Select, or_, select

from gateway.domain.instants import instant_text
from gateway.domain.rights import Right, name_of_user
from gateway.operations.accounts import person_of
from gateway.operations.people import Me, Nothing, show_person
from gateway.operations.registry import Call, operation
from gateway.storage.schema import (
    api_token,
    audit,
    audit_personal,
    invitation,
    mail,
    membership,
    person,
    session,
    sign_in,
)
from gateway.storage.transaction import AnyRow

ROWS_MAX = 10_000  # of each kind, the newest
_INSTANTS = frozenset({"at", "until"})

Row = Mapping[str, Any]


class MyExport(msgspec.Struct):
    """What is stored about a person; of each kind at most the newest 10,000.

    `audit` holds what the person did and what was done to the account, with the personal values
    that belong to it. Secrets are kept as hashes only, so they are not in it.
    """

    at: str
    me: Me
    created_at: str
    memberships: list[Row]
    invitations: list[Row]
    sign_ins: list[Row]
    api_tokens: list[Row]
    mails: list[Row]
    sessions: list[Row]
    audit: list[Row]


@operation("me.export", "GET", "/me/export", right=Right.OWN_ACCOUNT, result=MyExport)
def export_me(call: Call, _given: Nothing) -> MyExport:
    """Exports everything that is stored about oneself."""
    tx, person_id = call.tx, person_of(call)
    row = tx.one(select(person).where(person.c.id == person_id))
    assert row is not None
    return MyExport(
        at=instant_text(tx.now_ms),
        me=show_person(call, person_id),
        created_at=instant_text(row.created_at),
        memberships=_of(call, membership, membership.c.person_id == person_id),
        invitations=_of(call, invitation, invitation.c.email_key == row.email_key),
        sign_ins=_of(call, sign_in, sign_in.c.person_id == person_id),
        api_tokens=_of(call, api_token, api_token.c.person_id == person_id),
        mails=_of(call, mail, mail.c.person_id == person_id),
        sessions=_of(call, session, session.c.person_id == person_id),
        audit=_audit(call, person_id),
    )


# What the gateway needs to know and nobody else: hashes, what is sealed, inner numbers.
_HIDDEN = frozenset({"token_hash", "csrf", "sealed", "email_key", "person_id", "host"})


def _of(call: Call, table: Any, whose: Any) -> list[Row]:
    newest = table.c.created_at.desc()
    rows = call.tx.all(select(table).where(whose).order_by(newest).limit(ROWS_MAX))
    return [_shown(row, table.columns.keys()) for row in rows]


def _audit(call: Call, person_id: int) -> list[Row]:
    own = select(audit_personal.c.audit_id).where(audit_personal.c.person_id == person_id)
    about = or_(
        audit.c.actor == name_of_user(person_id), audit.c.owner_id == person_id, audit.c.id.in_(own)
    )
    rows = call.tx.all(_newest(select(audit).where(about)))
    values: dict[int, dict[str, str]] = {}
    theirs = select(audit_personal).where(audit_personal.c.person_id == person_id)
    for row in call.tx.all(theirs):
        values.setdefault(row.audit_id, {})[row.name] = row.value
    kept = ("id", "at", "actor", "verb", "company_id", "serial", "subject", "detail")
    return [{**_shown(row, kept), "personal": values.get(row.id, {})} for row in rows]


def _newest(statement: Select[Any]) -> Select[Any]:
    return statement.order_by(audit.c.id.desc()).limit(ROWS_MAX)


def _shown(row: AnyRow, names: Any) -> Row:
    """A row with its instants as text and its ids as the API has them."""
    shown: dict[str, Any] = {}
    for name in names:
        value = getattr(row, name)
        if name in _HIDDEN:
            continue
        if isinstance(value, int) and (name in _INSTANTS or name.endswith("_at")):
            value = instant_text(value)
        elif isinstance(value, int) and (name == "id" or name.endswith("_id")):
            value = str(value)
        shown[name] = value
    return shown
