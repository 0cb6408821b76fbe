"""Who a request comes from, read in the same transaction as what it does."""

import json
from dataclasses import dataclass, replace
from enum import Enum, auto

from sqlalchemy import bindparam, select

from gateway.domain.rights import ANONYMOUS, Principal, Role, Scope, Token, name_of_user
from gateway.people.demands import Demands, demands_on
from gateway.people.memberships import in_force
from gateway.people.sign_ins import IDLE_MS
from gateway.people.tokens import TOKEN_CHARS_MAX, hash_token
from gateway.storage.schema import api_token, membership, person, sign_in
from gateway.storage.transaction import AnyRow, Transaction

_ROLES = frozenset(Role)
_SCOPES = frozenset(Scope)


class Means(Enum):
    """How a caller proves who it is."""

    NOTHING = auto()
    BEARER = auto()
    COOKIE = auto()
    ADMIN_SOCKET = auto()  # the file system did: only the data directory's owner can open it


@dataclass(frozen=True, slots=True)
class Credential:
    """What came with a request; `token` is empty but for a bearer and a cookie."""

    means: Means
    token: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.means.name})"  # never the token


NO_CREDENTIAL = Credential(Means.NOTHING)


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal, and of a sign-in by cookie what its pages must prove."""

    principal: Principal
    csrf: str | None = None
    used_at_ms: int = 0


NOBODY = Identity(ANONYMOUS)


def principal_of(tx: Transaction, credential: Credential) -> Principal:
    """The caller with its present rights; anonymous when the credential is not good any more."""
    return identity_of(tx, credential).principal


# Made once: putting statements together takes longer than running them.
_BY_TOKEN = (
    select(
        person.c.id,
        person.c.operator,
        person.c.totp_since,
        api_token.c.id.label("token_id"),
        api_token.c.scopes,
        api_token.c.companies,
        api_token.c.used_at,
    )
    .join(api_token, api_token.c.person_id == person.c.id)
    .where(api_token.c.token_hash == bindparam("hash"), api_token.c.expires_at > bindparam("now"))
)
_BY_COOKIE = (
    select(
        person.c.id,
        person.c.operator,
        person.c.totp_since,
        sign_in.c.id.label("sign_in_id"),
        sign_in.c.csrf,
        sign_in.c.used_at,
    )
    .join(sign_in, sign_in.c.person_id == person.c.id)
    .where(
        sign_in.c.token_hash == bindparam("hash"),
        sign_in.c.expires_at > bindparam("now"),
        sign_in.c.used_at > bindparam("idle_since"),
    )
)
_FIRST_OPERATOR = (
    select(person.c.id, person.c.operator).where(person.c.operator).order_by(person.c.id).limit(1)
)
_ROLES_OF = select(membership.c.company_id, membership.c.role).where(
    membership.c.person_id == bindparam("person"), in_force(bindparam("now"))
)


def identity_of(tx: Transaction, credential: Credential) -> Identity:
    """The same with what a page must know of its sign-in."""
    if len(credential.token) > TOKEN_CHARS_MAX:
        return NOBODY
    row: AnyRow | None
    if credential.means is Means.BEARER:
        row = tx.one(_BY_TOKEN, {"hash": hash_token(credential.token), "now": tx.now_ms})
        if row is None:
            return NOBODY
        demands = demands_on(tx, row.id)
        principal = _demanded(row, demands, _principal(tx, row, _token(row)))
        return Identity(principal, used_at_ms=row.used_at or 0)
    if credential.means is Means.COOKIE:
        row = tx.one(
            _BY_COOKIE,
            {
                "hash": hash_token(credential.token),
                "now": tx.now_ms,
                "idle_since": tx.now_ms - IDLE_MS,
            },
        )
        if row is None:
            return NOBODY
        demands = demands_on(tx, row.id)
        if row.used_at <= tx.now_ms - demands.idle_ms:
            return NOBODY
        principal = _demanded(row, demands, _principal(tx, row, sign_in_id=row.sign_in_id))
        return Identity(principal, row.csrf, row.used_at)
    if credential.means is Means.ADMIN_SOCKET:
        # Whoever opens the socket owns the data directory and could write the database itself,
        # so it acts as the first operator and stands in the ledger under that name.
        row = tx.one(_FIRST_OPERATOR)
        return NOBODY if row is None else Identity(_principal(tx, row))
    return NOBODY


def _demanded(row: AnyRow, demands: Demands, principal: Principal) -> Principal:
    """Without the second factor that a company demands there are no roles, until it is set up."""
    if not demands.second_factor or row.totp_since is not None:
        return principal
    return replace(principal, operator=False, memberships={}, second_factor_needed=True)


def _token(row: AnyRow) -> Token:
    """What the token leaves; a scope that this version does not know gives nothing."""
    scopes = frozenset(Scope(name) for name in json.loads(row.scopes) if name in _SCOPES)
    return Token(row.token_id, scopes, frozenset(json.loads(row.companies)))


def _principal(
    tx: Transaction, row: AnyRow, token: Token | None = None, sign_in_id: str = ""
) -> Principal:
    """A person with all rights of the moment."""
    # A role that this version does not know gives nothing.
    memberships = {
        company_id: Role(role)
        for company_id, role in tx.all(_ROLES_OF, {"person": row.id, "now": tx.now_ms})
        if role in _ROLES
    }
    return Principal(
        name_of_user(row.id),
        user_id=row.id,
        operator=bool(row.operator),
        memberships=memberships,
        token=token,
        sign_in=sign_in_id,
    )
