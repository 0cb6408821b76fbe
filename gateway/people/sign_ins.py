"""Sign-ins: rows behind the cookies, with an idle and an absolute limit."""

from sqlalchemy import delete, insert, select, update

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.people.tokens import hash_token, new_csrf_token, new_public_id
from gateway.storage.schema import sign_in
from gateway.storage.transaction import Transaction

IDLE_MS = 12 * HOUR_MS
ABSOLUTE_MS = 7 * DAY_MS
# The instant of last use is written this seldom, so that looking at a page writes nothing.
TOUCH_MS = MINUTE_MS
SIGN_INS_OF_ONE_PERSON_MAX = 50


def begin(tx: Transaction, person_id: int, token: str) -> str:
    """Makes the row behind a new cookie; returns its CSRF token."""
    tx.lock_person(person_id)
    tx.run(
        delete(sign_in).where(
            sign_in.c.person_id == person_id,
            (sign_in.c.expires_at <= tx.now_ms) | (sign_in.c.used_at <= tx.now_ms - IDLE_MS),
        )
    )
    kept = (
        select(sign_in.c.token_hash)
        .where(sign_in.c.person_id == person_id)
        .order_by(sign_in.c.used_at.desc())
        .limit(SIGN_INS_OF_ONE_PERSON_MAX - 1)
    )
    tx.run(
        delete(sign_in).where(
            sign_in.c.person_id == person_id, sign_in.c.token_hash.not_in(kept.scalar_subquery())
        )
    )
    csrf = new_csrf_token()
    tx.run(
        insert(sign_in),
        {
            "token_hash": hash_token(token),
            "id": new_public_id(),
            "person_id": person_id,
            "csrf": csrf,
            "created_at": tx.now_ms,
            "used_at": tx.now_ms,
            "expires_at": tx.now_ms + ABSOLUTE_MS,
        },
    )
    return csrf


def touch(tx: Transaction, token: str) -> None:
    """Notes that the cookie was used."""
    tx.run(
        update(sign_in).where(sign_in.c.token_hash == hash_token(token)).values(used_at=tx.now_ms)
    )


def end(tx: Transaction, token: str) -> None:
    """The cookie is worth nothing from now on."""
    tx.run(delete(sign_in).where(sign_in.c.token_hash == hash_token(token)))
