"""Turns problems into answers, and what the HTTP library refuses into problems."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.api.problems import CONTENT_TYPE, Problem, problem
from gateway.domain.refusals import Code

RETRY_AFTER_S = 1
_BY_STATUS = {
    401: Code.SIGNED_OUT,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    429: Code.TOO_MANY_ATTEMPTS,
    503: Code.UNAVAILABLE,
}


def of_http(error: web.HTTPException, request_id: str) -> Problem:
    """The problem of what the HTTP library refused by itself."""
    code = _BY_STATUS.get(error.status)
    if code is None:
        code = Code.VALIDATION if error.status < 500 else Code.INTERNAL
    phrase = HTTPStatus(error.status).phrase
    detail = {
        404: "There is nothing at this address.",
        405: "This address does not take that method; see the Allow header.",
        413: "The body is larger than this address takes.",
    }.get(error.status, f"{phrase}.")
    return problem(code, detail, request_id, status=error.status)


def response(found: Problem) -> web.Response:
    """The answer that carries a problem."""
    answer = web.Response(
        body=msgspec.json.encode(found), status=found.status, content_type=CONTENT_TYPE
    )
    if found.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="fleetgate"'
    if found.status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer
