"""Sign-ins: rows behind the cookies, with an idle and an absolute limit."""

from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.people.tokens import hash_token, new_csrf_token, new_public_id
from gateway.storage.schema import sign_in
from gateway.storage.transaction import Transaction

IDLE_MS = 12 * HOUR_MS
ABSOLUTE_MS = 7 * DAY_MS
# The instant of last use is written this seldom, so that looking at a page writes nothing.
TOUCH_MS = MINUTE_MS
SIGN_INS_OF_ONE_PERSON_MAX = 50
USER_AGENT_CHARS_MAX = 200


def begin(
    tx: Transaction,
    person_id: int,
    token: str,
    *,
    address: str = "",
    user_agent: str = "",
    second_factor: bool = False,
) -> str:
    """Makes the row behind a new cookie; returns its CSRF token.

    `address` and `user_agent` are shown to the person; `second_factor`: whether it was proven.
    """
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
            "address": address,
            "user_agent": user_agent,
            "second_factor": second_factor,
        },
    )
    return csrf


def proven(tx: Transaction, sign_in_id: str) -> None:
    """Its person has shown the second factor."""
    tx.run(update(sign_in).where(sign_in.c.id == sign_in_id).values(second_factor=True))


def renew(tx: Transaction, token: str, new_token: str) -> str:
    """The same sign-in under a new cookie, as at a change of rights; returns its CSRF token."""
    csrf = new_csrf_token()
    tx.run(
        update(sign_in)
        .where(sign_in.c.token_hash == hash_token(token))
        .values(token_hash=hash_token(new_token), csrf=csrf)
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


def end_all(tx: Transaction, person_id: int, *, but: str = "") -> int:
    """Ends all sign-ins of a person, but the one of this public id; how many were good."""
    which = and_(sign_in.c.person_id == person_id, sign_in.c.id != but)
    counted = tx.all(select(sign_in.c.id).where(which, good(tx.now_ms)))
    tx.run(delete(sign_in).where(which))
    return len(counted)


def good(now_ms: int, idle_ms: int = IDLE_MS) -> ColumnElement[bool]:
    """Sign-ins that have come to neither of their limits; some companies' people idle less."""
    return and_(sign_in.c.expires_at > now_ms, sign_in.c.used_at > now_ms - idle_ms)


def cleaned_agent(text: str) -> str:
    """What a browser says of itself, as it may be kept and shown: one line, and not endless."""
    plain = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(plain.split())[:USER_AGENT_CHARS_MAX]
