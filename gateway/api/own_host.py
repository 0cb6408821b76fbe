"""Keeps the gateway off the host names of tunnelled pages, where it could share cookies with them.

A browser sends the gateway's cookie to a host name, whatever the port. Would somebody sign in at
`http://localhost:8080`, then any router's page at `http://localhost:8885` would be sent that
cookie, and pages below `*.localhost` could set another one in its place.
"""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api import problems
from gateway.api.callers import came_by_admin_socket
from gateway.api.envelope import request_id
from gateway.api.services import services_of
from gateway.domain.host_names import host_of, is_below
from gateway.domain.refusals import Code

# For programs that watch, with nobody's cookie in it.
WATCHED = frozenset({"/healthz", "/readyz", "/metrics"})
MISDIRECTED = 421


def own_host(render: Callable[[web.Request, problems.Problem], web.Response]) -> Middleware:
    """The middleware; `render` turns a problem into an answer for whoever asked."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        domain = services_of(request).configuration.relay.domain
        if (
            not is_below(host_of(request.host), domain)
            or came_by_admin_socket(request)
            or request.path in WATCHED
        ):
            return await handler(request)
        own = services_of(request).site.public_url
        if request.method in ("GET", "HEAD"):
            return web.Response(status=307, headers={"Location": own + _path(request)})
        detail = f"Names below {domain} belong to pages behind routers; use {own} instead."
        return render(
            request,
            problems.problem(Code.VALIDATION, detail, request_id(request), status=MISDIRECTED),
        )

    return middleware


def _path(request: web.Request) -> str:
    path = request.path_qs
    return path if path.startswith("/") else "/"
