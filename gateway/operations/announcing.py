"""Writes down what a company's people are to be told; each thing once."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Insert, delete, exists, insert, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.happenings import Happening
from gateway.domain.instants import month_of
from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.notices import Notice
from gateway.domain.payers import limit_step
from gateway.domain.rights import Right, roles_with
from gateway.operations.happening import happened
from gateway.people.memberships import in_force
from gateway.storage.installation_facts import put
from gateway.storage.schema import (
    company,
    installation,
    membership,
    notice,
    notice_due,
    person,
)
from gateway.storage.transaction import Transaction

MAIL_KEY = "mail"
_ON = "on"


def tell(
    tx: Transaction,
    company_id: int,
    kind: str,
    subject: str,
    detail: Mapping[str, object],
    key: str,
) -> bool:
    """Tells a company's people something, once for each key; whether it was new.

    `subject` is what it is about, as text: a serial, a company's id. `detail` is read by the
    company's people, so nothing of companies above their direct parent belongs into it.
    """
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    added = dialect.insert(notice).on_conflict_do_nothing().returning(notice.c.id)
    values = {
        "company_id": company_id,
        "kind": Notice(kind).value,
        "subject": subject,
        "detail": json.dumps(dict(detail)),
        "key": key,
        "at": tx.now_ms,
    }
    notice_id = tx.scalar(added, values)
    if notice_id is None:
        return False
    tx.run(_to_be_mailed(tx, company_id, notice_id))
    happened(tx, Happening.NOTICE_TOLD, company_id, subject=str(notice_id), detail={"notice": kind})
    return True


def _to_be_mailed(tx: Transaction, company_id: int, notice_id: int) -> Insert:
    """Who is to be mailed a notice: the company's administrators and billing, if mails are sent."""
    readers = (
        select(membership.c.person_id, literal(notice_id))
        .join(person, person.c.id == membership.c.person_id)
        .where(
            membership.c.company_id == company_id,
            membership.c.role.in_([role.value for role in roles_with(Right.SEE_CREDITS)]),
            in_force(tx.now_ms),
            person.c.erased_at.is_(None),
            exists().where(installation.c.key == MAIL_KEY, installation.c.value == _ON),
        )
    )
    return insert(notice_due).from_select(["person_id", "notice_id"], readers)


def note_mail(tx: Transaction, *, on: bool) -> None:
    """At a start: whether mails are sent. What was to be mailed without a server never is."""
    put(tx, MAIL_KEY, _ON if on else "")
    if not on:
        tx.run(delete(notice_due))


def tell_limit(
    tx: Transaction, company_id: int, limit: int, taken: tuple[int, int], above: Sequence[int]
) -> None:
    """Tells companies `above` when another step of a company's monthly limit of credits is used.

    `taken`: the days that it took from above this month, before and after a charge.
    """
    percent = limit_step(limit * DAYS_PER_CREDIT, *taken)
    if percent is None:
        return
    name = tx.scalar(select(company.c.name).where(company.c.id == company_id))
    detail = {"percent": percent, "limit": limit, "company": name}
    about = f"parent_limit_used {company_id} {month_of(tx.now_ms)} {limit} {percent}"
    for reader in above:
        key = f"{about} {reader}"
        tell(tx, reader, Notice.PARENT_LIMIT_USED, str(company_id), detail, key)
