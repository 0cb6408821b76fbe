"""Accepting an invitation: passwords are hashed and checked first, the rest is done at once."""

import logging
from typing import NamedTuple

import msgspec
from aiohttp import web

from gateway.api.callers import (
    check_csrf,
    check_same_origin,
    client_address,
    credential_of,
    set_cookie,
)
from gateway.api.catalogue import operation_called
from gateway.api.execution import query_of, read_body
from gateway.api.inputs import BODY_BYTES_MAX, read_input
from gateway.api.services import Services, services_of
from gateway.api.signing_in import enter
from gateway.domain.refusals import Refused
from gateway.operations.accepting import (
    Accepted,
    AcceptInvitation,
    PreparedAcceptance,
    find,
    require_password_of_new,
    require_the_invited,
    sign_in_first,
)
from gateway.operations.people import SignIn
from gateway.operations.registry import execute
from gateway.people import sign_ins
from gateway.people.authentication import Credential, Identity, Means, identity_of
from gateway.people.tokens import new_sign_in_token
from gateway.storage.transaction import Transaction

log = logging.getLogger(__name__)


class Joined(NamedTuple):
    """A new membership, and the content of the cookie of its person."""

    accepted: Accepted
    cookie: str


class _Known(NamedTuple):
    """What the invitation and the request say before anything is done."""

    identity: Identity
    email: str
    has_account: bool


async def take_part(
    request: web.Request, given: AcceptInvitation, csrf: str | None = None
) -> Joined:
    """Makes the bearer of the link a member. Raises `Refused`.

    `csrf` is what a form shows of the sign-in it was made for; scripts send it as a header.
    """
    services = services_of(request)
    check_same_origin(request, services.http)
    credential = credential_of(request, services.http)
    known = await services.store.read(lambda tx: _known(tx, credential, given.token))
    if known.identity.principal.user_id is not None:
        return await _accept(request, services, credential, csrf, given)
    if not known.has_account:
        require_password_of_new(given)
        hashed = await services.desk.hash(given.password)
        return await _accept(request, services, credential, csrf, given, password_hash=hashed)
    if not given.password:
        raise sign_in_first()
    entered = await enter(
        request, SignIn(email=known.email, password=given.password, code=given.code)
    )
    credential = Credential(Means.COOKIE, entered.token)
    try:
        return await _accept(request, services, credential, entered.signed_in.csrf, given)
    except Refused:
        # Nobody was given its cookie.
        await services.store.write(lambda tx: sign_ins.end(tx, entered.token))
        raise


def _known(tx: Transaction, credential: Credential, token: str) -> _Known:
    identity, found = identity_of(tx, credential), find(tx, token)
    if identity.principal.user_id is not None:
        require_the_invited(identity.principal, found)
    return _Known(identity, found.row.email, found.person_id is not None)


async def _accept(
    request: web.Request,
    services: Services,
    credential: Credential,
    csrf: str | None,
    given: AcceptInvitation,
    password_hash: str = "",
) -> Joined:
    # A sign-in gets a new cookie, since what it may do changes.
    of_browser = credential.means is not Means.ADMIN_SOCKET
    prepared = PreparedAcceptance(
        token=given.token,
        password=given.password,
        name=given.name,
        password_hash=password_hash,
        new_cookie=new_sign_in_token() if of_browser else "",
        address=client_address(request, services.http),
        user_agent=sign_ins.cleaned_agent(request.headers.get("User-Agent", "")),
    )
    op = operation_called("invitations.accept")

    def work(tx: Transaction) -> Accepted:
        identity = identity_of(tx, credential)
        check_csrf(request, services.http, identity, csrf)
        signed_in = credential.means is Means.COOKIE and identity.principal.user_id is not None
        renewed = msgspec.structs.replace(
            prepared, old_cookie=credential.token if signed_in else ""
        )
        done: Accepted = execute(tx, op, identity.principal, services.site, renewed)
        return done

    accepted = await services.store.write(work)
    log.info("invitation accepted person=%s company=%s", accepted.me.id, accepted.company_id)
    return Joined(accepted, prepared.new_cookie)


async def accept(request: web.Request) -> web.Response:
    """POST /api/v1/invitations/accept."""
    op = operation_called("invitations.accept")
    body = await read_body(request, BODY_BYTES_MAX)
    given = read_input(op, request.match_info, query_of(request), body)
    assert isinstance(given, AcceptInvitation)
    joined = await take_part(request, given)
    response = web.Response(
        body=msgspec.json.encode(joined.accepted), content_type="application/json"
    )
    if joined.cookie:
        set_cookie(request, response, services_of(request).http, joined.cookie)
    return response
