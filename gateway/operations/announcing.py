"""Writes down what a company's people are to be told; each thing once."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.instants import month_of
from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.notices import Notice
from gateway.domain.payers import limit_step
from gateway.storage.schema import company, notice
from gateway.storage.transaction import Transaction


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
    return tx.scalar(added, values) is not None


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
