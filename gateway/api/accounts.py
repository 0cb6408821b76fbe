"""Passwords of accounts that there are: checked and hashed before the transaction."""

import logging
from typing import Any

import msgspec
from aiohttp import web
from sqlalchemy import select

from gateway.api.callers import check_same_origin, client_address, credential_of
from gateway.api.catalogue import operation_called
from gateway.api.execution import Asked, query_of, read_body
from gateway.api.inputs import BODY_BYTES_MAX, read_input
from gateway.api.services import Services, services_of
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import ANONYMOUS, Principal
from gateway.operations.accounts import (
    OLD_WRONG,
    ChangePassword,
    ProvenPassword,
    require_password,
)
from gateway.operations.erasing import EraseMe, ProvenErasure
from gateway.operations.password_resets import (
    AskReset,
    HashedReset,
    LocalAsk,
    PasswordReset,
    ResetAsked,
    UseReset,
    find,
)
from gateway.operations.registry import execute
from gateway.operations.second_factor import (
    PASSWORD_WRONG,
    ProvenRemoval,
    ProvenSetUp,
    RemoveTotp,
    SetUpTotp,
)
from gateway.people.authentication import NO_CREDENTIAL, Means, identity_of
from gateway.people.throttle import TooManyWait
from gateway.storage.schema import person
from gateway.storage.transaction import Transaction

log = logging.getLogger(__name__)


async def prove_password(
    services: Services, person_id: int, password: str, refused: Refused
) -> str:
    """The hash that the person's password was checked against. Raises `refused`."""
    statement = select(person.c.password_hash).where(person.c.id == person_id)
    hash_text = await services.store.read(lambda tx: tx.scalar(statement))
    if not await services.desk.check(password, hash_text):
        raise refused
    assert isinstance(hash_text, str)
    return hash_text


async def prove_change(services: Services, principal: Principal, asked: Asked) -> Any:
    """A change of password with the old one checked and the new one hashed. Raises `Refused`."""
    given = asked.given
    assert isinstance(given, ChangePassword)
    assert principal.user_id is not None
    require_password(given.new_password, "new_password")
    refused = Refused(Code.CREDENTIALS_WRONG, OLD_WRONG, field="old_password")
    checked = await prove_password(services, principal.user_id, given.old_password, refused)
    hashed = await services.desk.hash(given.new_password)
    return ProvenPassword(
        old_password="",
        new_password=given.new_password,
        checked_hash=checked,
        new_hash=hashed,
    )


async def prove_set_up(services: Services, principal: Principal, asked: Asked) -> Any:
    """What begins a second factor, with the password checked. Raises `Refused`."""
    given = asked.given
    assert isinstance(given, SetUpTotp)
    return ProvenSetUp(password="", checked_hash=await _proven(services, principal, given.password))


async def prove_removal(services: Services, principal: Principal, asked: Asked) -> Any:
    """What removes a second factor, with the password checked. Raises `Refused`."""
    given = asked.given
    assert isinstance(given, RemoveTotp)
    checked = await _proven(services, principal, given.password)
    return ProvenRemoval(password="", code=given.code, checked_hash=checked)


async def prove_erasure(services: Services, principal: Principal, asked: Asked) -> Any:
    """What erases one's own account, with the password checked. Raises `Refused`."""
    given = asked.given
    assert isinstance(given, EraseMe)
    return ProvenErasure(
        password="", checked_hash=await _proven(services, principal, given.password)
    )


async def _proven(services: Services, principal: Principal, password: str) -> str:
    assert principal.user_id is not None
    refused = Refused(Code.CREDENTIALS_WRONG, PASSWORD_WRONG, field="password")
    return await prove_password(services, principal.user_id, password, refused)


async def hash_reset(services: Services, _principal: Principal, asked: Asked) -> Any:
    """A new password by link, hashed; only who has a good link is worth the work."""
    given = asked.given
    assert isinstance(given, UseReset)
    require_password(given.password, "password")
    await services.store.read(lambda tx: find(tx, given.token))
    hashed = await services.desk.hash(given.password)
    return HashedReset(token=given.token, password=given.password, password_hash=hashed)


async def ask_for_reset(request: web.Request, given: AskReset) -> ResetAsked:
    """Notes who forgot a password; who asks very often waits. Raises `Refused`."""
    services = services_of(request)
    check_same_origin(request, services.http)
    address = client_address(request, services.http)
    try:
        # By address alone: nobody can keep another from asking for the own account.
        with services.resets.attempt(address, address) as attempt:
            if attempt.delay_s:
                await services.sleep(attempt.delay_s)
    except TooManyWait as error:
        raise Refused(
            Code.TOO_MANY_ATTEMPTS, "Too many requests from this address wait already."
        ) from error
    credential = credential_of(request, services.http)
    local = credential.means is Means.ADMIN_SOCKET
    asked = LocalAsk(email=given.email) if local else given
    op = operation_called("password-resets.create")

    def work(tx: Transaction) -> ResetAsked:
        # Who else asks makes no difference, so nobody else is looked up.
        principal = identity_of(tx, credential if local else NO_CREDENTIAL).principal
        done: ResetAsked = execute(tx, op, principal, services.site, asked)
        return done

    answer = await services.store.write(work)
    log.info("new password asked for address=%s", address)
    return answer


async def ask(request: web.Request) -> web.Response:
    """POST /api/v1/password-resets."""
    op = operation_called("password-resets.create")
    body = await read_body(request, BODY_BYTES_MAX)
    given = read_input(op, request.match_info, query_of(request), body)
    assert isinstance(given, AskReset)
    answer = await ask_for_reset(request, given)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


async def use_link(request: web.Request, given: UseReset) -> PasswordReset:
    """Sets the new password of whoever has the link. Raises `Refused`."""
    services = services_of(request)
    check_same_origin(request, services.http)
    op = operation_called("password-resets.use")
    hashed = await hash_reset(services, ANONYMOUS, Asked(op, NO_CREDENTIAL, given))
    done: PasswordReset = await services.store.write(
        lambda tx: execute(tx, op, ANONYMOUS, services.site, hashed)
    )
    return done
