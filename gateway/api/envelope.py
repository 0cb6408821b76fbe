"""Around every request: its id, fair limits, problem details, security headers, one log line."""

import logging
import secrets
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api import failures, problems
from gateway.api.callers import client_address, credential_of, is_secure
from gateway.api.limits import TooFast
from gateway.api.services import Services, services_of
from gateway.command.sections import HttpSection
from gateway.domain.refusals import Code, Refused
from gateway.people.tokens import hash_token
from gateway.storage.store import StoreBusy, StoreClosed, StoreError, StoreUnable, StoreUnsure

log = logging.getLogger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)
REQUEST_ID_BYTES = 9
FORM_ACTION = "form-action 'self'"
CONTENT_POLICY = (
    f"default-src 'self'; base-uri 'none'; object-src 'none'; {FORM_ACTION}; "
    "frame-ancestors 'none'; img-src 'self' data:"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Server": "fleetgate",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"


def request_id(request: web.Request) -> str:
    """The id that the answer, the log and a problem carry."""
    return request[REQUEST_ID]


def envelope(render: Callable[[web.Request, problems.Problem], web.Response]) -> Middleware:
    """The middleware; `render` turns a problem into an answer for whoever asked."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        services = services_of(request)
        request[REQUEST_ID] = secrets.token_urlsafe(REQUEST_ID_BYTES)
        response: web.StreamResponse
        headers: dict[str, str] = {}
        try:
            headers = await _turn(request, services)
            response = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                # A redirection; a raised one cannot be sent as it is.
                response = web.Response(status=error.status)
                response.headers["Location"] = error.headers["Location"]
            else:
                response = render(request, failures.of_http(error, request_id(request)))
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
        except TooFast as error:
            response = render(request, _too_fast(request))
            response.headers["Retry-After"] = str(error.retry_s)
        except Exception as error:  # noqa: BLE001  # the last resort of every request
            response = render(request, _problem_of(request, services, error))
        _finish(request, response, services.http, headers)
        return response

    return middleware


async def _turn(request: web.Request, services: Services) -> dict[str, str]:
    try:
        token = credential_of(request, services.http).token
    except Refused:
        token = ""
    whose = services.limits.whose(
        hash_token(token) if token else None, client_address(request, services.http)
    )
    return (await services.limits.take(whose)).headers()


def _too_fast(request: web.Request) -> problems.Problem:
    return problems.problem(
        Code.TOO_MANY_ATTEMPTS,
        "More requests at once than one caller is given; wait as Retry-After says.",
        request_id(request),
    )


def _unavailable(error: StoreError) -> str:
    """What the caller can do; the operator reads on /readyz and in the log what is wrong."""
    if isinstance(error, StoreUnsure):
        return (
            "The database went away before it said whether this was done: ask again with the same"
            " Idempotency-Key, or look first."
        )
    if isinstance(error, StoreUnable):
        return "The database does not work at present; nothing was done. Try again."
    return "The server has too much to do; try again."


def _problem_of(request: web.Request, services: Services, error: Exception) -> problems.Problem:
    if isinstance(error, Refused):
        return problems.of_refusal(error, request_id(request))
    if isinstance(error, StoreBusy | StoreClosed):
        return problems.problem(Code.UNAVAILABLE, _unavailable(error), request_id(request))
    where = request.match_info.route.resource
    address = "" if where is None else where.canonical
    log.error(
        "request failed id=%s method=%s route=%s\n%s",
        request_id(request),
        request.method,
        address,
        problems.trace(error),
    )
    services.telemetry.failed(
        services.clock.wall_ms(),
        "request",
        f"{request.method} {address} {type(error).__name__} id={request_id(request)}",
    )
    return problems.problem(
        Code.INTERNAL,
        "Something went wrong on our side; the log names it by this request id.",
        request_id(request),
    )


def dress(request: web.Request, response: web.StreamResponse, http: HttpSection) -> None:
    """The headers of every answer; whoever sends one piece by piece asks for them before."""
    response.headers["X-Request-Id"] = request_id(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    # Answers are somebody's own; what may be kept says so itself.
    response.headers.setdefault("Cache-Control", "no-store")
    if is_secure(request, http):
        response.headers["Strict-Transport-Security"] = HSTS


def _finish(
    request: web.Request,
    response: web.StreamResponse,
    http: HttpSection,
    headers: dict[str, str],
) -> None:
    if not response.prepared:
        dress(request, response, http)
        response.headers.update(headers)
    log.debug(
        "request method=%s path=%s status=%s id=%s from=%s",
        request.method,
        _logged_path(request),
        response.status,
        request_id(request),
        client_address(request, http),
    )


def _logged_path(request: web.Request) -> str:
    """The path as logs may hold it: without the token of a link."""
    path, token = request.path, request.match_info.get("token")
    if token:
        path = path.replace(token, "…")
    return path.encode("unicode_escape").decode("ascii")[:200]
