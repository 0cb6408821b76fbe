"""Looks up the addresses for which a new password was asked, and queues the mails with links."""

import msgspec
from sqlalchemy import delete, select

from gateway.domain.rights import GATEWAY
from gateway.operations.audit_writing import record
from gateway.operations.mailing import queue_mail
from gateway.operations.password_resets import new_link
from gateway.operations.registry import Site
from gateway.storage.schema import password_reset_asked, person
from gateway.storage.transaction import Transaction

AT_ONCE = 20
VERB = "password-reset.mailed"


def anything_asked(tx: Transaction) -> bool:
    """Whether somebody asked; looked at each second, so it only reads."""
    return tx.one(select(password_reset_asked.c.id).limit(1)) is not None


def queue_some(tx: Transaction, site: Site) -> int:
    """Answers some of those who asked; how many, 0 also when another gateway is at it."""
    some = select(password_reset_asked.c.id).order_by(password_reset_asked.c.id).limit(AT_ONCE)
    ids = tx.claim(some)
    if not ids:
        return 0
    mine = password_reset_asked.c.id.in_(ids)
    asked = tx.all(select(password_reset_asked.c.email_key).where(mine).distinct())
    tx.run(delete(password_reset_asked).where(mine))
    rows = tx.all(
        select(person.c.id, person.c.email)
        .where(
            person.c.email_key.in_([row.email_key for row in asked]), person.c.erased_at.is_(None)
        )
        .order_by(person.c.id)  # each is locked, and all lock in this order
    )
    for row in rows:
        _mail(tx, site, row.id, row.email)
    return len(ids)


def _mail(tx: Transaction, site: Site, person_id: int, email: str) -> None:
    link = new_link(tx, site, person_id)
    if link is msgspec.UNSET:
        return
    assert isinstance(link, str)
    queue_mail(
        tx,
        site=site,
        template="password_reset",
        recipient=email,
        language="",
        values={"link": link},
        person_id=person_id,
    )
    record(
        tx,
        VERB,
        actor=GATEWAY.name,
        owner_id=None,
        company_id=None,
        device_id=None,
        serial=None,
        subject=str(person_id),
        detail={},
    )
