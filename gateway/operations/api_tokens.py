"""API tokens: for scripts, of a person, and never more than the person."""

import json
from typing import Annotated

import msgspec
from sqlalchemy import delete, func, select

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.names import NAME_CHARS_MAX, clean_name
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Scope
from gateway.operations.accounts import person_of
from gateway.operations.people import Nothing
from gateway.operations.registry import Call, company_number, not_found, operation
from gateway.people.accounts import TOKEN_LIFETIME_MS, make_token
from gateway.people.tokens import hash_token, new_api_token
from gateway.storage.schema import api_token
from gateway.storage.transaction import AnyRow

TOKENS_MAX = 100
COMPANIES_MAX = 100
DAYS_MAX = TOKEN_LIFETIME_MS // DAY_MS
DAYS_USUAL = 365


class CreateToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What it is for: it may at most what you may at that moment, and of that only its scopes.

    Scopes: `all`; `read` looks at everything but credits; `devices` registers, activates, moves,
    imports and sends commands; `remote` opens sessions and saves targets; `credits` sees and moves
    credits and reads statements; `companies` makes and changes companies; `people` invites and
    removes; `operate`, of operators, the installation. No scope reaches anybody's password, second
    factor or tokens. Companies: each with all below; none means all that you may reach.
    """

    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=len(Scope))]
    companies: Annotated[list[str], msgspec.Meta(max_length=COMPANIES_MAX)] = []
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX)] = DAYS_USUAL


class OneToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a token by its id, which opens nothing."""

    token_id: str


class ApiToken(msgspec.Struct):
    """A token as it is listed; its text is shown once, when it is made."""

    id: str
    name: str
    scopes: list[str]
    companies: list[str]
    created_at: str
    expires_at: str
    used_at: str | None


class MadeToken(ApiToken, kw_only=True):
    """The new token: send it as `Authorization: Bearer …`. It cannot be shown again."""

    token: str


class ApiTokens(msgspec.Struct):
    """All tokens of an account, the newest first."""

    items: list[ApiToken]


class TokenDeleted(msgspec.Struct):
    """From now on it is worth nothing."""

    id: str


@operation("tokens.list", "GET", "/me/tokens", right=Right.OWN_ACCOUNT, result=ApiTokens)
def list_tokens(call: Call, _given: Nothing) -> ApiTokens:
    """Lists one's own API tokens that are good."""
    rows = call.tx.all(
        select(api_token)
        .where(api_token.c.person_id == person_of(call), api_token.c.expires_at > call.tx.now_ms)
        .order_by(api_token.c.created_at.desc(), api_token.c.id)
    )
    return ApiTokens([_shown(row) for row in rows])


@operation(
    "tokens.create",
    "POST",
    "/me/tokens",
    right=Right.OWN_ACCOUNT,
    result=MadeToken,
    status=201,
    errors=(Code.NOT_FOUND,),
)
def create_token(call: Call, given: CreateToken) -> MadeToken:
    """Makes an API token, whose text is shown only now; needs a sign-in, not another token."""
    tx, person_id = call.tx, person_of(call)
    try:
        name = clean_name(given.name)
    except ValueError as error:
        raise Refused(Code.VALIDATION, f"name: {error}", field="name") from error
    if Scope.OPERATE in given.scopes and not call.principal.operator:
        raise Refused(
            Code.FORBIDDEN,
            "scopes: operate is for operators of the installation; leave it out",
            field="scopes",
        )
    companies = _companies(call, given.companies)
    tx.lock_person(person_id)
    own = (api_token.c.person_id == person_id, api_token.c.expires_at > tx.now_ms)
    if tx.scalar(select(func.count()).select_from(api_token).where(*own)) >= TOKENS_MAX:
        raise Refused(
            Code.VALIDATION, f"There are {TOKENS_MAX} tokens already; delete one that is not used."
        )
    token = make_token(
        tx,
        person_id,
        name,
        token=new_api_token(),
        lifetime_ms=given.expires_in_days * DAY_MS,
        scopes=set(given.scopes),
        companies=companies,
    )
    row = tx.one(select(api_token).where(api_token.c.token_hash == hash_token(token)))
    assert row is not None
    return MadeToken(**msgspec.structs.asdict(_shown(row)), token=token)


@operation(
    "tokens.delete",
    "DELETE",
    "/me/tokens/{token_id}",
    right=Right.OWN_ACCOUNT,
    result=TokenDeleted,
    irrevocable=True,
)
def delete_token(call: Call, given: OneToken) -> TokenDeleted:
    """Deletes one of one's own API tokens: whoever has its text can do nothing more with it."""
    own = (api_token.c.id == given.token_id, api_token.c.person_id == person_of(call))
    if call.tx.run(delete(api_token).where(*own)) == 0:
        raise not_found("token")
    return TokenDeleted(given.token_id)


def _companies(call: Call, ids: list[str]) -> set[int]:
    """The companies that are named, each of which one must see: else it is a slip of the pen."""
    numbers = {company_number(one) for one in ids}
    for number in sorted(numbers):
        if not call.allows(Right.SEE_COMPANIES, number):
            raise not_found("company")
    return numbers


def _shown(row: AnyRow) -> ApiToken:
    return ApiToken(
        row.id,
        row.name,
        json.loads(row.scopes),
        [str(number) for number in json.loads(row.companies)],
        instant_text(row.created_at),
        instant_text(row.expires_at),
        None if row.used_at is None else instant_text(row.used_at),
    )
