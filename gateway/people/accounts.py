"""Accounts of people: found by e-mail, made, and given API tokens."""

import json
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import insert, select, update

from gateway.domain.instants import DAY_MS
from gateway.domain.rights import Scope
from gateway.people.tokens import hash_token, new_api_token, new_public_id
from gateway.storage.schema import api_token, password_reset, person
from gateway.storage.transaction import Transaction

EMAIL_CHARS_MAX = 254
# Mail programs take them for the end of an address, or for another one beside it.
_SEPARATING = frozenset('()<>[]:;,"\\')
TOKEN_LIFETIME_MS = 3_650 * DAY_MS


class Account(NamedTuple):
    """What signing in needs to know of a person."""

    person_id: int
    password_hash: str


def email_key(email: str) -> str:
    """The form in which addresses are unique."""
    return unicodedata.normalize("NFKC", email.strip()).casefold()


def is_email(email: str) -> bool:
    """Whether mail could be sent there; the mail itself is the only real proof."""
    local, at, domain = email.strip().rpartition("@")
    return (
        bool(at and local and domain)
        and "@" not in local
        and all(domain.split("."))
        and _SEPARATING.isdisjoint(email)
        and len(email) <= EMAIL_CHARS_MAX
        and email.strip().isprintable()
        and " " not in email.strip()
    )


def account_of(tx: Transaction, email: str) -> Account | None:
    """The account with this address."""
    row = tx.one(
        select(person.c.id, person.c.password_hash).where(person.c.email_key == email_key(email))
    )
    return None if row is None else Account(row.id, row.password_hash)


def make_person(
    tx: Transaction, email: str, name: str, password_hash: str, *, operator: bool = False
) -> int:
    """A new account; the address must not be taken."""
    return tx.insert(
        insert(person),
        {
            "email": email.strip(),
            "email_key": email_key(email),
            "name": name,
            "password_hash": password_hash,
            "operator": operator,
            "created_at": tx.now_ms,
        },
    )


def make_operator(tx: Transaction, email: str, name: str, password_hash: str) -> int:
    """A new account marked for the installation; returns the person's id."""
    return make_person(tx, email, name, password_hash, operator=True)


def set_password(tx: Transaction, person_id: int, password_hash: str) -> None:
    """Another password, hashed already; links for a forgotten one are worth nothing any more."""
    tx.run(update(person).where(person.c.id == person_id).values(password_hash=password_hash))
    end_reset_links(tx, person_id)


def end_reset_links(tx: Transaction, person_id: int) -> None:
    """They stay as rows for a while: how many there are within an hour is limited."""
    good = (password_reset.c.person_id == person_id, password_reset.c.expires_at > tx.now_ms)
    tx.run(update(password_reset).where(*good).values(expires_at=tx.now_ms))


def make_token(
    tx: Transaction,
    person_id: int,
    name: str,
    *,
    token: str | None = None,
    lifetime_ms: int = TOKEN_LIFETIME_MS,
    scopes: Collection[Scope] = (Scope.ALL,),
    companies: Collection[int] = (),
) -> str:
    """Gives a person an API token and returns it: it cannot be read again.

    A transaction may be run twice: a caller that shows the token before the commit hands in its
    own (`tokens.new_api_token()`).
    """
    token = token or new_api_token()
    tx.run(
        insert(api_token),
        {
            "token_hash": hash_token(token),
            "id": new_public_id(),
            "person_id": person_id,
            "name": name,
            "scopes": json.dumps(sorted(scopes)),
            "companies": json.dumps(sorted(companies)),
            "created_at": tx.now_ms,
            "expires_at": tx.now_ms + lifetime_ms,
        },
    )
    return token


def touch_token(tx: Transaction, token: str) -> None:
    """Notes that an API token was used."""
    tx.run(
        update(api_token)
        .where(api_token.c.token_hash == hash_token(token))
        .values(used_at=tx.now_ms)
    )
