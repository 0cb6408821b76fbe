"""The queue of mails: which are due, who sends them, and what became of them.

A mail is claimed for a while (a lease), sent, and marked. Should its gateway end in between, it is
due again once the lease is over: it is sent at least once, and twice only when a gateway ended
between the server's word and the mark.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Update, and_, case, or_, select, update

from gateway.domain.instants import HOUR_MS
from gateway.domain.mails import GIVEN_UP_AFTER_MS, next_try_ms
from gateway.operations.clock_state import trust_of
from gateway.storage.schema import mail
from gateway.storage.transaction import AnyRow, Transaction

AT_ONCE = 10
NOTED_AT_ONCE = 500
TOO_LATE = "not sent within two days"
# No mail waits longer: one that seems to was queued or put off by a clock that ran ahead.
_AHEAD_MS = 2 * HOUR_MS
_PATIENT = ("notice", "statement")  # they let others pass, for which a person may be waiting


def _due(now_ms: int) -> ColumnElement[bool]:
    late = or_(mail.c.next_at <= now_ms, mail.c.next_at > now_ms + _AHEAD_MS)
    return and_(mail.c.next_at.is_not(None), late)


def anything_due(tx: Transaction) -> bool:
    """Whether a mail is to be sent now; asked each second, so it only reads."""
    return tx.one(select(mail.c.id).where(_due(tx.now_ms)).limit(1)) is not None


def claim(tx: Transaction, lease_ms: int) -> Sequence[AnyRow]:
    """Some mails that nobody else sends before the lease is over."""
    _give_up_old(tx)
    turn = case((mail.c.template.in_(_PATIENT), 1), else_=0)
    which = (
        select(mail.c.id).where(_due(tx.now_ms)).order_by(turn, mail.c.next_at, mail.c.id)
    ).limit(AT_ONCE)
    mine = tx.claim(which)
    if not mine:
        return []
    chosen = mail.c.id.in_(mine)
    values = {"next_at": tx.now_ms + lease_ms, "attempts": mail.c.attempts + 1}
    tx.run(update(mail).where(chosen, _due(tx.now_ms)).values(values))
    return tx.all(select(mail).where(chosen).order_by(turn, mail.c.created_at, mail.c.id))


def _give_up_old(tx: Transaction) -> None:
    """Ends what was tried for two days; not while the clock may be wrong about that."""
    if trust_of(tx).doubt:
        return
    tried = or_(mail.c.attempts > 0, mail.c.error != "")
    old = mail.c.created_at <= tx.now_ms - GIVEN_UP_AFTER_MS
    which = select(mail.c.id).where(_due(tx.now_ms), tried, old).limit(NOTED_AT_ONCE)
    mine = tx.claim(which)
    if mine:
        reason = case((mail.c.error == "", TOO_LATE), else_=TOO_LATE + ": " + mail.c.error)
        tx.run(
            update(mail).where(mail.c.id.in_(mine)).values(next_at=None, sealed=None, error=reason)
        )


def _still_mine(row: AnyRow) -> Update:
    """Nobody else has claimed it since, which would take a lease that ran out."""
    mine = (mail.c.id == row.id, mail.c.attempts == row.attempts, mail.c.next_at.is_not(None))
    return update(mail).where(*mine)


def sent(tx: Transaction, row: AnyRow) -> None:
    """The server has taken it: its values are no longer needed."""
    done = {"sent_at": tx.now_ms, "next_at": None, "sealed": None, "error": ""}
    tx.run(_still_mine(row).values(done))


def put_off(tx: Transaction, row: AnyRow, reason: str) -> bool:
    """It is tried again later; False when that is over."""
    again = next_try_ms(row.created_at, row.attempts, tx.now_ms)
    if again is None:
        give_up(tx, row, f"{TOO_LATE}: {reason}")
        return False
    tx.run(_still_mine(row).values(next_at=again, error=reason))
    return True


def give_up(tx: Transaction, row: AnyRow, reason: str) -> None:
    """It is not tried again; why stays for a person to read."""
    tx.run(_still_mine(row).values(next_at=None, sealed=None, error=reason))


def release(tx: Transaction, rows: Sequence[AnyRow], reason: str = "") -> None:
    """They were claimed and not tried: they are due as before."""
    for row in rows:
        back = {"next_at": tx.now_ms, "attempts": mail.c.attempts - 1}
        tx.run(_still_mine(row).values({**back, "error": reason or mail.c.error}))


def note_trouble(tx: Transaction, reason: str) -> None:
    """The server takes nothing: what waits says so, and is none the worse for it."""
    if not tx.alone("mail trouble"):
        return
    which = select(mail.c.id).where(_due(tx.now_ms), mail.c.error != reason).limit(NOTED_AT_ONCE)
    mine = tx.claim(which)
    if mine:
        tx.run(update(mail).where(mail.c.id.in_(mine)).values(error=reason))
