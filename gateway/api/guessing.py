"""Slows down whoever tries out secrets in an operation: each wrong one delays the next answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.api.callers import client_address
from gateway.api.services import Services
from gateway.domain.refusals import Code, Refused
from gateway.operations.failed_attempts import SECRET_WRONG, Failure
from gateway.operations.registry import Operation
from gateway.people.throttle import TooManyWait


@asynccontextmanager
async def slowed_down(
    request: web.Request, services: Services, op: Operation, principal: str
) -> AsyncIterator[None]:
    """Around one attempt of an operation that takes a secret.

    Only the answer that a secret is wrong counts, and a right one forgives nothing: whoever holds
    a code could try out others between two of their own. Raises `Refused`.
    """
    address = client_address(request, services.http)
    try:
        with services.guesses.attempt(principal, address) as attempt:
            if attempt.delay_s:
                await services.sleep(attempt.delay_s)
            attempt.counts = False
            try:
                yield
            except Refused as refused:
                attempt.counts = refused.code is op.guessed
                if attempt.counts:
                    wrong = Failure(SECRET_WRONG, principal, address, operation=op.name)
                    services.failures.note(wrong)
                raise
    except TooManyWait as error:
        raise Refused(
            Code.TOO_MANY_ATTEMPTS, "Too many attempts from this address wait already."
        ) from error
