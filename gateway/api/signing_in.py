"""Signing in and out: throttled, with a cookie, the slow check outside of the transaction."""

import base64
import hashlib
import logging
from typing import NamedTuple

import msgspec
from aiohttp import web

from gateway.api.callers import (
    check_csrf,
    check_same_origin,
    client_address,
    cookie_name,
    credential_of,
    drop_cookie,
    set_cookie,
)
from gateway.api.catalogue import operation_called
from gateway.api.execution import query_of, read_body
from gateway.api.inputs import BODY_BYTES_MAX, read_input
from gateway.api.services import Services, services_of
from gateway.domain.instants import MINUTE_MS
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import ANONYMOUS
from gateway.join.sealing import SealBroken, seal, unseal
from gateway.operations.failed_attempts import SIGN_IN_FAILED, Failure
from gateway.operations.people import (
    WRONG,
    ProvenSignIn,
    ProvenSignOut,
    SignedIn,
    SignedOut,
    SignIn,
    SignOut,
)
from gateway.operations.registry import execute
from gateway.people import totp
from gateway.people.accounts import Account, account_of, email_key
from gateway.people.authentication import Means, identity_of
from gateway.people.sign_ins import cleaned_agent
from gateway.people.throttle import TooManyWait
from gateway.people.tokens import new_sign_in_token
from gateway.storage.transaction import Transaction

log = logging.getLogger(__name__)

PROOF_GOOD_MS = 10 * MINUTE_MS
PROOF_CHARS_MAX = 400
# Of an app, by those who know the password, wherever they ask from: 10⁶ codes, of which 3 are good.
CODES_WRONG_MAX = 20
CODES_SPENT = (
    "Too many wrong codes within 15 minutes, by somebody who knows the password. Wait, use a"
    " recovery code, or set a new password by a link: it gives you new attempts at once."
)


class Entered(NamedTuple):
    """A new sign-in and the content of its cookie."""

    signed_in: SignedIn
    token: str


class CodeNeeded(Refused):
    """The password is right, and the account has a second factor.

    `proof` spares whoever fills in a form the password: it stands for it, for some minutes.
    """

    def __init__(self, refused: Refused, proof: str) -> None:
        super().__init__(refused.code, refused.detail, field=refused.field)
        self.proof = proof


async def enter(request: web.Request, given: SignIn, proof: str = "") -> Entered:
    """Checks e-mail and password as slowly as the failures before ask for.

    `proof` is that of a `CodeNeeded` and takes the place of the password. Raises `Refused`.
    """
    services = services_of(request)
    check_same_origin(request, services.http)
    address = client_address(request, services.http)
    try:
        with services.throttle.attempt(email_key(given.email), address) as attempt:
            if attempt.delay_s:
                await services.sleep(attempt.delay_s)
            try:
                entered = await _checked(request, services, given, proof)
            except Refused as refused:
                if refused.code is Code.CREDENTIALS_WRONG:
                    key = email_key(given.email)
                    services.failures.note(Failure(SIGN_IN_FAILED, ANONYMOUS.name, address, key))
                # The password was right: this is no failure, and forgives none.
                attempt.counts = refused.code is not Code.CODE_NEEDED
                raise
            attempt.succeeded = True
    except TooManyWait as error:
        raise Refused(
            Code.TOO_MANY_ATTEMPTS, "Too many attempts from this address wait already."
        ) from error
    # Without the address: a person can be erased, and the log cannot.
    log.info("signed in person=%s", entered.signed_in.me.id)
    return entered


async def _checked(request: web.Request, services: Services, given: SignIn, proof: str) -> Entered:
    account = await services.store.read(lambda tx: account_of(tx, given.email))
    if proof:
        fits = account is not None and _stands_for(services, account, proof)
    else:
        fits = await services.desk.check(
            given.password,
            None if account is None else account.password_hash,
            whose=client_address(request, services.http),
        )
    if not fits or account is None:
        log.info("sign-in refused address=%s", client_address(request, services.http))
        raise Refused(Code.CREDENTIALS_WRONG, WRONG)
    token = new_sign_in_token()
    proven = ProvenSignIn(
        email=given.email,
        password="",
        code=given.code,
        person_id=account.person_id,
        password_hash=account.password_hash,
        token=token,
        old_token=request.cookies.get(cookie_name(request, services.http), ""),
        address=client_address(request, services.http),
        user_agent=cleaned_agent(request.headers.get("User-Agent", "")),
    )
    op = operation_called("people.sign_in")
    # Recovery codes are too long to be found by trying.
    codes = f"codes {account.person_id} {_password_digest(account)}"
    if totp.is_code("".join(given.code.split())) and not services.throttle.spend(
        codes, CODES_WRONG_MAX
    ):
        raise Refused(Code.TOO_MANY_ATTEMPTS, CODES_SPENT, field="code")
    try:
        signed_in: SignedIn = await services.store.write(
            lambda tx: execute(tx, op, ANONYMOUS, services.site, proven)
        )
    except Refused as refused:
        if refused.code is Code.CODE_NEEDED:
            raise CodeNeeded(refused, _proof_for(services, account)) from refused
        raise
    services.throttle.clear(codes)
    return Entered(signed_in, token)


def _proof_for(services: Services, account: Account) -> str:
    """Says that the account's password of now was right at this instant."""
    said = f"{services.clock.wall_ms()} {_password_digest(account)}"
    sealed = seal(services.site.master_key, said.encode(), bound_to=_bound(account))
    return base64.urlsafe_b64encode(sealed).decode()


def _stands_for(services: Services, account: Account, proof: str) -> bool:
    try:
        sealed = base64.urlsafe_b64decode(proof[:PROOF_CHARS_MAX])
        said = unseal(services.site.master_key, sealed, bound_to=_bound(account)).decode()
    except (ValueError, SealBroken):
        return False
    at, _, digest = said.partition(" ")
    age_ms = services.clock.wall_ms() - int(at)
    return 0 <= age_ms <= PROOF_GOOD_MS and digest == _password_digest(account)


def _password_digest(account: Account) -> str:
    return hashlib.sha256(account.password_hash.encode()).hexdigest()


def _bound(account: Account) -> str:
    return f"password proof:{account.person_id}"


async def leave(
    request: web.Request, csrf: str | None = None, unfit: Refused | None = None
) -> SignedOut:
    """Ends the sign-in of the request's cookie. Raises `Refused`.

    `unfit` is what was wrong with the input; it is told only to whoever is signed in.
    """
    services = services_of(request)
    # Also without a cookie: browsers send none with another site's form, and would take its end.
    check_same_origin(request, services.http)
    credential = credential_of(request, services.http)
    op = operation_called("people.sign_out")
    given = ProvenSignOut(token=credential.token) if credential.means is Means.COOKIE else SignOut()

    def work(tx: Transaction) -> SignedOut:
        identity = identity_of(tx, credential)
        check_csrf(request, services.http, identity, csrf)
        if unfit is not None and identity.principal.user_id is not None:
            raise unfit
        done: SignedOut = execute(tx, op, identity.principal, services.site, given)
        return done

    return await services.store.write(work)


async def sign_in(request: web.Request) -> web.Response:
    """POST /api/v1/login."""
    op = operation_called("people.sign_in")
    body = await read_body(request, BODY_BYTES_MAX)
    given = read_input(op, request.match_info, query_of(request), body)
    assert isinstance(given, SignIn)
    entered = await enter(request, given)
    response = web.json_response(
        body=msgspec.json.encode(entered.signed_in), content_type="application/json"
    )
    set_cookie(request, response, services_of(request).http, entered.token)
    return response


async def sign_out(request: web.Request) -> web.Response:
    """POST /api/v1/logout."""
    op = operation_called("people.sign_out")
    body = await read_body(request, BODY_BYTES_MAX)
    unfit: Refused | None = None
    try:
        read_input(op, request.match_info, query_of(request), body)
    except Refused as error:
        unfit = error
    done = await leave(request, unfit=unfit)
    response = web.Response(body=msgspec.json.encode(done), content_type="application/json")
    drop_cookie(request, response, services_of(request).http)
    return response
