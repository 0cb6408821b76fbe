"""What a restored backup must not bring back: everything that is good only once, or for a while."""

from sqlalchemy import delete, func, select, update

from gateway.operations.audit_writing import record
from gateway.operations.credit_codes import void_codes
from gateway.operations.event_positions import leave_gap
from gateway.operations.session_ends import end_session
from gateway.storage.schema import (
    device,
    device_live,
    invitation,
    join_code,
    mail,
    outbox,
    password_reset,
    password_reset_asked,
    person,
    relay,
    session,
    sign_in,
    support_access,
)
from gateway.storage.transaction import Transaction
from wire.endings import Ended

ACTOR = "restore"
VERB = "installation.restored"


def void(tx: Transaction, made_at: str) -> dict[str, int]:
    """Ends what the backup, made then, holds and may have been used since; how much of each.

    Sign-ins, unused join codes and links for forgotten passwords are gone. Invitations have
    expired, and can be sent again. Support accesses are over, and no second factor is about to be
    taken away. Commands without an answer are unknown, and are not sent, nor are waiting mails.
    Sessions are over. Days in credit codes are back with the companies that made them. Each device
    is asked for all its values, since it may have told them to the database that is lost.
    Passwords, API tokens, recovery codes and answers kept for repeated requests stay.
    """
    tx.lock_devices(select(device.c.id))
    tx.lock_relays(select(relay.c.id))
    counts = {
        "join_codes": tx.run(delete(join_code).where(join_code.c.uses_left > 0)),
        "sign_ins": tx.run(delete(sign_in)),
        "reset_links": tx.run(delete(password_reset)),
        "invitations": _expire_invitations(tx),
        "support_accesses": _end_support(tx),
        "commands": _unknown(tx),
        "sessions": _end_sessions(tx),
        "credit_codes": void_codes(tx, ACTOR, VERB),
        "mails": _end_mails(tx),
    }
    tx.run(delete(password_reset_asked))
    tx.run(update(person).values(totp_reset_at=None))
    tx.run(update(device_live).values(need_full=True))
    leave_gap(tx)
    record(
        tx,
        VERB,
        actor=ACTOR,
        owner_id=None,
        company_id=None,
        device_id=None,
        serial=None,
        subject="",
        detail={"backup_made_at": made_at, **counts},
    )
    return counts


def _expire_invitations(tx: Transaction) -> int:
    """They may have been accepted or withdrawn since the backup."""
    good = (invitation.c.ended_at.is_(None), invitation.c.expires_at > tx.now_ms)
    return tx.run(update(invitation).where(*good).values(expires_at=tx.now_ms))


def _end_support(tx: Transaction) -> int:
    """Their company may have ended them since the backup."""
    good = (support_access.c.ended_at.is_(None), support_access.c.until > tx.now_ms)
    ended = {"ended_at": tx.now_ms, "ended_by": ACTOR}
    return tx.run(update(support_access).where(*good).values(**ended))


def _unknown(tx: Transaction) -> int:
    """They may have reached their devices or not."""
    return tx.run(
        update(outbox)
        .where(outbox.c.answered_at.is_(None))
        .values(
            sent_at=func.coalesce(outbox.c.sent_at, tx.now_ms),
            answered_at=tx.now_ms,
            outcome="unknown",
        )
    )


def _end_mails(tx: Transaction) -> int:
    """They may have been sent since the backup, and their links are void."""
    return tx.run(
        update(mail)
        .where(mail.c.next_at.is_not(None))
        .values(next_at=None, sealed=None, error="the database was restored from a backup")
    )


def _end_sessions(tx: Transaction) -> int:
    """Nobody will report what was counted after the backup, so they are settled at once."""
    rows = tx.all(select(session).where(session.c.ended_at.is_(None)))
    for row in rows:
        end_session(tx, row, Ended.RESTORED, ACTOR)
    tx.run(update(session).where(~session.c.settled).values(settled=True))
    return len(rows)
