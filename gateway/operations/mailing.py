"""Queues mails: a row each, whose values nobody can read in the database."""

import json
from collections.abc import Mapping

from sqlalchemy import func, insert, select

from gateway.domain.mails import TEMPLATES, mail_language
from gateway.domain.settings import Key
from gateway.join.sealing import seal
from gateway.operations.registry import Site
from gateway.storage.schema import mail, person
from gateway.storage.setting_rows import setting_of
from gateway.storage.transaction import Transaction

WAITING_MAX = 10_000  # some megabytes; a mail server that is away for two days meets no more
QUEUE_FULL = "the queue was full"


def bound_to(template: str, recipient: str) -> str:
    """What the values of a mail are sealed for: another recipient's row cannot open them."""
    return f"mail:{template}:{recipient}"


def queue_mail(
    tx: Transaction,
    *,
    site: Site,
    template: str,
    recipient: str,
    language: str,
    values: Mapping[str, str],
    person_id: int | None = None,
    company_id: int | None = None,
) -> None:
    """Queues a mail, to be sent once the transaction is committed.

    Without a mail server nothing is kept. `values` are those that `TEMPLATES` names for the
    template. An empty language is the person's, else the company's, else English. When too many
    wait, the mail is given up at once, and stays visible as that.
    """
    needed = TEMPLATES[template]
    assert needed <= values.keys(), f"{template}: {sorted(needed - values.keys())} are missing"
    link = values.get("link")
    assert link is None or link.startswith(f"{site.public_url}/"), "a link of another address"
    if not site.mail:
        return
    full = waiting(tx) >= WAITING_MAX
    text = json.dumps(dict(values)).encode()
    tx.run(
        insert(mail),
        {
            "recipient": recipient,
            "template": template,
            "language": mail_language(language) or language_of(tx, person_id, company_id),
            "sealed": None
            if full
            else seal(site.master_key, text, bound_to=bound_to(template, recipient)),
            "person_id": person_id,
            "company_id": company_id,
            "created_at": tx.now_ms,
            "next_at": None if full else tx.now_ms,
            "attempts": 0,
            "error": QUEUE_FULL if full else "",
        },
    )


def waiting(tx: Transaction) -> int:
    """How many mails are still to be sent, `WAITING_MAX` at most."""
    some = select(mail.c.id).where(mail.c.next_at.is_not(None)).limit(WAITING_MAX)
    return int(tx.scalar(select(func.count()).select_from(some.subquery())) or 0)


def language_of(tx: Transaction, person_id: int | None, company_id: int | None) -> str:
    """The language in which a person reads mails, or a company: its own, or the next one above."""
    if person_id is not None:
        chosen = tx.scalar(select(person.c.language).where(person.c.id == person_id))
        if known := mail_language(chosen or ""):
            return known
    if company_id is not None:
        found = setting_of(tx, company_id, Key.LANGUAGE)
        if isinstance(found, str) and (known := mail_language(found)):
            return known
    return "en"
