"""Mails each company's statement of a month to its billing address, on the 2nd of the next one."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import select

from gateway.domain.instants import month_of
from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal, Role
from gateway.domain.statements import after, instant_of, month_before, month_begin, month_text
from gateway.operations.clock_state import trust_of
from gateway.operations.documents import Document
from gateway.operations.mailing import WAITING_MAX, queue_mail, waiting
from gateway.operations.month_marks import closed_months
from gateway.operations.registry import Call, Site
from gateway.operations.statements import AskStatement, Statement, show_statement
from gateway.people.accounts import is_email
from gateway.people.mail_messages import Attachment
from gateway.storage.installation_facts import get, put
from gateway.storage.schema import company
from gateway.storage.transaction import AnyRow, Transaction
from gateway.web.statement_texts import ALWAYS, BALANCE, BESIDE, words_of

COMPANIES_AT_ONCE = 50
DAY_OF_MONTH = 2
ATTACHED_CHARS_MAX = 5_000_000  # many servers take no mail above 10 MB, and base64 adds a third
_DONE = "statements_mailed"
# Whoever reads it may see what billing of that company sees, and nothing else.
_NOBODY = 0


def queue_some(tx: Transaction, site: Site) -> bool:
    """Queues the statements of some companies; False when none is left this month.

    Each once, on whichever gateway, and none while the clock or the month's end is in doubt.
    """
    if not site.mail or not trust_of(tx).sure or not tx.alone("statement mails"):
        return False
    if datetime.fromtimestamp(tx.now_ms / 1000, UTC).day < DAY_OF_MONTH:
        return False
    month = month_before(month_of(tx.now_ms))
    done_month, last = json.loads(get(tx, _DONE) or "[0, 0]")
    if done_month > month or month not in closed_months(tx):
        return False
    if waiting(tx) > WAITING_MAX // 2:
        return False  # people's own mails find room, too
    rows = tx.all(
        select(company)
        .where(company.c.id > (last if done_month == month else 0), company.c.closed_at.is_(None))
        .order_by(company.c.id)
        .limit(COMPANIES_AT_ONCE)
    )
    for row in rows:
        if row.created_at < instant_of(after(month_begin(month))):
            _queue(tx, site, row, month_text(month_begin(month)))
    if rows:
        put(tx, _DONE, json.dumps([month, rows[-1].id]))
    return bool(rows)


def _queue(tx: Transaction, site: Site, row: AnyRow, month: str) -> None:
    recipient = row.billing_email
    if not is_email(recipient):
        return
    queue_mail(
        tx,
        site=site,
        template="statement",
        recipient=recipient,
        language="",
        values={
            "company": row.name,
            "company_id": str(row.id),
            "month": month,
            "link": f"{site.public_url}/companies/{row.id}/statement?from={month}",
        },
        company_id=row.id,
    )


def attachment_of(
    tx: Transaction, *, site: Site, values: Mapping[str, str], language: str
) -> tuple[Sequence[Mapping[str, str]], Attachment | None]:
    """The totals of the statement that a mail is about, and its table unless that is too long.

    They are made when the mail is sent: a month that is over never changes. Raises `ValueError`
    when the company is gone.
    """
    company_id, month = values["company_id"], values["month"]
    reader = Principal("billing", _NOBODY, memberships={int(company_id): Role.BILLING})
    call = Call(tx, reader, site)
    try:
        made = show_statement(call, AskStatement(company_id=company_id, from_=month))
        table = show_statement(call, AskStatement(company_id=company_id, from_=month, format="csv"))
    except Refused as refused:
        raise ValueError(refused.detail) from refused
    assert isinstance(made, Statement)
    assert isinstance(table, Document)
    attached = None
    if len(table.text) <= ATTACHED_CHARS_MAX:
        attached = Attachment(table.file_name, table.text)
    return _totals(made, language), attached


def _totals(made: Statement, language: str) -> list[dict[str, str]]:
    """As a person reckons: what there was, what came and went, what is left, what it costs."""
    words = words_of(language)
    figures = [
        {"words": words(name), "value": str(value)}
        for name in (*BALANCE, *BESIDE)
        if (value := getattr(made.total, name)) or name in ALWAYS
    ]
    costs = [
        {"words": words("amount"), "value": f"{one.amount} {one.currency}"} for one in made.amounts
    ]
    return figures + costs
