"""Writes down what happens, for those who watch: in the transaction in which it does."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.domain.happenings import Happening
from gateway.storage.transaction import Transaction

_COLUMNS = ("at", "kind", "company_id", "serial", "subject", "person_id", "detail")


class Happened(NamedTuple):
    """One thing that happened in a company, as its row."""

    at: int
    kind: str
    company_id: int
    serial: str | None
    subject: str
    person_id: int | None
    detail: str


def told_as(
    tx: Transaction,
    kind: Happening,
    company_id: int,
    *,
    serial: str | None = None,
    subject: str = "",
    person_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Happened:
    """The row of an event, for whoever writes many of them together."""
    return Happened(
        tx.now_ms,
        kind.value,
        company_id,
        serial,
        subject or serial or str(company_id),
        person_id,
        json.dumps(dict(detail)) if detail else "{}",
    )


def happened(
    tx: Transaction,
    kind: Happening,
    company_id: int,
    *,
    serial: str | None = None,
    subject: str = "",
    person_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Tells of one thing those who have the kind's right in the company, once this is committed.

    `person_id`: whose it is, as a session; this person hears of it without that right, too.
    Everybody who hears of it reads `detail`, so nothing belongs there that needs another right.
    """
    row = told_as(
        tx,
        kind,
        company_id,
        serial=serial,
        subject=subject,
        person_id=person_id,
        detail=detail,
    )
    tx.add_at_end("event", _COLUMNS, row)


def all_happened(tx: Transaction, rows: Sequence[Happened]) -> None:
    """Tells of many things in one step."""
    for row in rows:
        tx.add_at_end("event", _COLUMNS, row)


def balance_changed(tx: Transaction, company_ids: Sequence[int | None]) -> None:
    """Credits were booked: each company hears it once of a transaction, however many they were."""
    for company_id in company_ids:
        if company_id is not None and company_id not in tx.credited:
            tx.credited.add(company_id)
            happened(tx, Happening.CREDITS_CHANGED, company_id)
