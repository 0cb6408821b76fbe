"""What /status tells of mails: how many wait, since when, and what went wrong last."""

import msgspec
from sqlalchemy import func, select

from gateway.domain.instants import SECOND_MS
from gateway.storage.schema import mail
from gateway.storage.transaction import Transaction

_UNSENT = mail.c.next_at.is_not(None)
_GIVEN_UP = (mail.c.next_at.is_(None), mail.c.sent_at.is_(None))


class Mails(msgspec.Struct):
    """The queue of mails; `given_up` are those of the last 30 days."""

    configured: bool
    unsent: int
    oldest_unsent_s: float
    given_up: int
    last_error: str | None  # of those that wait, else of the newest that was given up


def count_mails(tx: Transaction, *, configured: bool) -> Mails:
    """Counts what waits and what was given up; both have indexes of their own."""
    row = tx.one(select(func.count(), func.min(mail.c.created_at)).where(_UNSENT))
    assert row is not None
    oldest_s = 0.0 if row[1] is None else max(0, tx.now_ms - row[1]) / SECOND_MS
    error = tx.scalar(
        select(mail.c.error).where(_UNSENT, mail.c.error != "").order_by(mail.c.next_at).limit(1)
    ) or tx.scalar(select(mail.c.error).where(*_GIVEN_UP).order_by(mail.c.id.desc()).limit(1))
    given_up = tx.scalar(select(func.count()).select_from(mail).where(*_GIVEN_UP))
    return Mails(configured, row[0], round(oldest_s, 1), given_up or 0, error or None)
