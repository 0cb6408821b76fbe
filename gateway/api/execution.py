"""Runs an operation for a request: who asks, the right and the effect in one transaction."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from aiohttp import web

from gateway.api import idempotency
from gateway.api.callers import check_csrf, credential_of
from gateway.api.guessing import slowed_down
from gateway.api.idempotency import Kept
from gateway.api.inputs import BODY_BYTES_MAX, read_input, take_dry_run
from gateway.api.services import Services, services_of
from gateway.domain import ledger
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal, Right, authorize
from gateway.operations.documents import Document
from gateway.operations.dry_run import TriedOut, try_out
from gateway.operations.registry import Operation, execute
from gateway.people import accounts, sign_ins
from gateway.people.authentication import Credential, Identity, Means, identity_of
from gateway.people.tokens import hash_token
from gateway.storage.store import StoreBusy
from gateway.storage.transaction import Transaction

log = logging.getLogger(__name__)

BODY_S_MAX = 20.0
# What takes long and needs no writer: the input as the transaction takes it.
Prepare = Callable[[Services, Principal, "Asked"], Awaitable[Any]]
_TOUCHED_BY = {Means.COOKIE: sign_ins.touch, Means.BEARER: accounts.touch_token}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way into a transaction."""

    op: Operation
    credential: Credential
    given: msgspec.Struct | Refused  # a refusal waits until it is known who asks
    key: str | None = None
    request_hash: bytes = b""
    dry_run: bool = False
    csrf: str | None = None  # as a form sent it; a script sends it as a header


@dataclass(frozen=True, slots=True)
class Done:
    """What a transaction answered."""

    answer: Kept
    identity: Identity
    replayed: bool = False
    file: Document | None = None


async def answer_operation(
    request: web.Request, op: Operation, prepare: Prepare | None = None
) -> web.Response:
    """The answer to a request for an operation. Raises `Refused`."""
    services = services_of(request)
    done = await perform(request, services, await _asked(request, services, op), prepare)
    response = web.Response(
        body=done.answer.body, status=done.answer.status, content_type="application/json"
    )
    if done.file is not None:
        response.content_type, response.charset = done.file.content_type, "utf-8"
        name = done.file.file_name
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if done.replayed:
        response.headers[idempotency.REPLAYED_HEADER] = "true"
    return response


async def perform(
    request: web.Request, services: Services, asked: Asked, prepare: Prepare | None = None
) -> Done:
    """Does what was asked, for whoever asks it. Raises `Refused`."""
    if asked.op.guessed is not None:
        done = await _attempt(request, services, asked, prepare)
    elif asked.dry_run:
        done = await _try_out(request, services, asked, prepare)
    elif asked.op.writes:
        done = await _write(request, services, asked, prepare)
    else:
        done = await services.store.read(lambda tx: _run(tx, request, services, asked))
    await touch(services, asked.credential, done.identity)
    learn(services, asked.credential, done.identity)
    return done


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """The body; whoever sends more, or slower than anybody would, is refused."""
    if request.content_length is not None and request.content_length > bytes_max:
        raise Refused(Code.BODY_TOO_LARGE, f"A body has at most {bytes_max} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.content.iter_chunked(16_384):
                body += chunk
                if len(body) > bytes_max:
                    raise Refused(Code.BODY_TOO_LARGE, f"A body has at most {bytes_max} bytes.")
    except TimeoutError as error:
        raise Refused(Code.VALIDATION, f"the body did not come within {BODY_S_MAX} s") from error
    return bytes(body)


def query_of(request: web.Request) -> dict[str, list[str]]:
    """The query, with every value of a field that stands in it more than once."""
    return {name: request.query.getall(name) for name in request.query}


async def identify(request: web.Request, services: Services) -> tuple[Credential, Identity]:
    """Who asks, by a look into the database; what is done later looks again."""
    credential = credential_of(request, services.http)
    identity = await services.store.read(lambda tx: identity_of(tx, credential))
    learn(services, credential, identity)
    return credential, identity


def learn(services: Services, credential: Credential, identity: Identity) -> None:
    """From now on this credential takes from its principal's bucket."""
    if credential.token and identity.principal.user_id is not None:
        services.limits.learn(hash_token(credential.token), identity.principal.name)


async def _asked(request: web.Request, services: Services, op: Operation) -> Asked:
    credential = credential_of(request, services.http)
    if op.body_bytes_max:
        # Strangers send no more than usual.
        await services.store.read(lambda tx: _known(tx, credential))
    body = await read_body(request, op.body_bytes_max or BODY_BYTES_MAX)
    key: str | None = None
    given: msgspec.Struct | Refused
    dry_run = False
    try:
        query = query_of(request)
        dry_run = take_dry_run(op, query)
        given = read_input(op, request.match_info, query, body)
        keyed = op.method in idempotency.METHODS and idempotency.HEADER in request.headers
        # Nothing of a dry run is kept, so there is nothing that could be done twice.
        if keyed and not dry_run:
            key = idempotency.checked_key(request.headers[idempotency.HEADER])
    except Refused as error:
        given = error
    request_hash = b""
    if key is not None:
        request_hash = services.answers.request_hash(op.method, request.path_qs, body)
    return Asked(op, credential, given, key, request_hash, dry_run)


def _known(tx: Transaction, credential: Credential) -> None:
    """Raises `Refused` for those who are nobody."""
    if identity_of(tx, credential).principal.user_id is None:
        raise Refused(Code.SIGNED_OUT, "Sign in, or send `Authorization: Bearer …`.")


async def _attempt(
    request: web.Request, services: Services, asked: Asked, prepare: Prepare | None = None
) -> Done:
    """Whoever was often told that a secret is wrong waits; a dry run would tell as much."""
    identity = await services.store.read(lambda tx: _admit(tx, request, services, asked))
    async with slowed_down(request, services, asked.op, identity.principal.name):
        if asked.dry_run:
            return await _try_out(request, services, asked)
        return await _write(request, services, asked, prepare)


async def _try_out(
    request: web.Request, services: Services, asked: Asked, prepare: Prepare | None = None
) -> Done:
    """Does it all in one transaction, of which nothing is kept but the report."""
    # Strangers do not get to the one writer.
    identity = await services.store.read(lambda tx: _admit(tx, request, services, asked))
    given = asked.given
    if prepare is not None:
        given = await prepare(services, identity.principal, asked)

    def work(tx: Transaction) -> None:
        now = _admit(tx, request, services, asked)
        try_out(tx, asked.op, now.principal, services.site, given)

    try:
        await services.store.write(work, tree=asked.op.tree)
    except TriedOut as tried:
        return Done(Kept(200, msgspec.json.encode(tried.report)), identity)
    raise AssertionError(f"{asked.op.name} was not given up")


async def _write(
    request: web.Request, services: Services, asked: Asked, prepare: Prepare | None
) -> Done:
    plain = asked.key is None and prepare is None and not isinstance(asked.given, Refused)
    if plain and _seen_before(services, asked.credential):
        return await services.store.write(
            lambda tx: _run(tx, request, services, asked), tree=asked.op.tree
        )
    # The ledger's operation id is made of the keys' owner, which must be known before; what
    # is wrong with the input, or long work, is only for those who may ask at all; and strangers
    # do not get to the one writer.
    identity = await services.store.read(lambda tx: _admit(tx, request, services, asked))
    owner = identity.principal.key_owner
    if prepare is not None:
        if (before := await _replayed(services, identity, asked)) is not None:
            return before
        given = await prepare(services, identity.principal, asked)
        asked = replace(asked, given=given)
    operation_id = None if asked.key is None else ledger.operation_id(owner, asked.key)

    def work(tx: Transaction) -> Done:
        return _run(tx, request, services, asked, owner)

    return await services.store.write(work, operation_id=operation_id, tree=asked.op.tree)


async def _replayed(services: Services, identity: Identity, asked: Asked) -> Done | None:
    """What was answered before, of work that cannot be prepared a second time.

    An old password, say, is wrong once it was changed.
    """
    key, owner = asked.key, identity.principal.key_owner
    if key is None or identity.principal.user_id is None:
        return None
    kept = await services.store.read(
        lambda tx: services.answers.kept(tx, owner, key, asked.request_hash)
    )
    return None if kept is None else Done(kept, identity, replayed=True)


def _seen_before(services: Services, credential: Credential) -> bool:
    if credential.means is Means.ADMIN_SOCKET:
        return True
    return bool(credential.token) and services.limits.knows(hash_token(credential.token))


def _admit(tx: Transaction, request: web.Request, services: Services, asked: Asked) -> Identity:
    """Who asks, if that is somebody who may ask at all. Raises `Refused`."""
    identity = identity_of(tx, asked.credential)
    check_csrf(request, services.http, identity, asked.csrf)
    principal = identity.principal
    if not _may_ask(principal, asked.op.right):
        # The registry says it in its own words.
        execute(tx, asked.op, principal, services.site, None)
        raise AssertionError("the registry let in whom it should not")
    if isinstance(asked.given, Refused):
        raise asked.given
    return identity


def _may_ask(principal: Principal, right: Right) -> bool:
    if right in (Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE):
        return authorize(principal, right)
    return principal.user_id is not None or principal.internal


def _run(
    tx: Transaction,
    request: web.Request,
    services: Services,
    asked: Asked,
    owner: str | None = None,
) -> Done:
    """The whole transaction: authenticate, replay or authorise and do, keep the answer."""
    identity = _admit(tx, request, services, asked)
    principal = identity.principal
    if owner is not None and principal.key_owner != owner:
        raise Refused(Code.SIGNED_OUT, "This sign-in or token has just ended.")
    # Nobody in particular has no keys of its own.
    key = asked.key if principal.user_id is not None else None
    if key is not None:
        kept = services.answers.claim(tx, principal.key_owner, key, asked.request_hash)
        if kept is not None:
            return Done(kept, identity, replayed=True)
    result = execute(tx, asked.op, principal, services.site, asked.given)
    if isinstance(result, Document):
        assert key is None, "only what changes nothing answers with a file"
        return Done(Kept(asked.op.status, result.text.encode()), identity, file=result)
    answer = Kept(asked.op.status, msgspec.json.encode(result))
    if key is not None:
        services.answers.keep(tx, principal.key_owner, key, answer)
    return Done(answer, identity)


async def touch(services: Services, credential: Credential, identity: Identity) -> None:
    """Notes now and then that a cookie or token is in use; a cookie would end by idling."""
    noted = _TOUCHED_BY.get(credential.means)
    if noted is None or identity.principal.user_id is None:
        return
    if services.clock.wall_ms() - identity.used_at_ms < sign_ins.TOUCH_MS:
        return
    try:
        await services.store.write(lambda tx: noted(tx, credential.token))
    except StoreBusy:
        log.debug("use not noted: the store is busy")
