"""A router's own web page: sign-in, redirects, a status page of 60 objects, a WebSocket."""

import secrets
import ssl
from collections import deque
from hmac import compare_digest
from pathlib import PurePosixPath

from aiohttp import web

from firmware_sim.lan.facts import PASSWORD, USER, RouterFacts
from firmware_sim.lan.http_samples import add_samples
from firmware_sim.lan.listening import Listening
from firmware_sim.lan.pieces import CONTENT_TYPES, VALUES, pieces
from firmware_sim.lan.web_server import (
    absolute_url,
    file_text,
    host_name,
    page,
    serve,
    ticking_socket,
)

SESSION_COOKIE = "sysauth"  # the PLC behind the router has one of the same name
THEME_COOKIE = "theme"
THEME = "harbour"
SIGN_INS_MAX = 64
FORM_BYTES_MAX = 64 * 1024
_PIECES = pieces()
_VALUE_NAMES = (
    "rssi",
    "rsrp",
    "rsrq",
    "sinr",
    "operator",
    "network_type",
    "band",
    "temperature",
    "clients",
    "uptime",
)
assert len(_VALUE_NAMES) == VALUES


class RouterPage:
    """One router's page; what it knows of sign-ins is shared by HTTP and HTTPS."""

    def __init__(self, facts: RouterFacts) -> None:
        self._facts = facts
        self._sign_ins: deque[str] = deque(maxlen=SIGN_INS_MAX)

    async def listen(self, context: ssl.SSLContext | None = None) -> Listening:
        """Starts it on a free port, with TLS where a context is given."""
        application = web.Application(client_max_size=FORM_BYTES_MAX)
        application.add_routes(
            [
                web.get("/", self._front),
                web.get("/login", self._login_page),
                web.post("/login", self._sign_in),
                web.post("/logout", self._sign_out),
                web.get("/status", self._status),
                web.get("/router.css", _router_css),
                web.get("/status.js", _status_js),
                web.get("/piece/{name}", self._piece),
                web.get("/api/value/{number:[0-9]{1,2}}", self._value),
                web.get("/api/cookies", self._cookies),
                web.get("/ws", self._socket),
            ]
        )
        add_samples(application)
        return await serve(application, context)

    def _signed_in(self, request: web.Request) -> bool:
        return request.cookies.get(SESSION_COOKIE) in self._sign_ins

    def _need_sign_in(self, request: web.Request) -> None:
        if not self._signed_in(request):
            raise web.HTTPForbidden(text="sign in first\n")

    async def _front(self, request: web.Request) -> web.Response:
        return _found(request, "/status" if self._signed_in(request) else "/login")

    async def _login_page(self, request: web.Request) -> web.Response:
        return self._login_form("")

    def _login_form(self, message: str, *, status: int = 200) -> web.Response:
        facts = self._facts
        return page(
            "login.html",
            status=status,
            hostname=facts.hostname,
            model=facts.model,
            user=USER,
            message=message,
        )

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        user, password = str(form.get("username", "")), str(form.get("password", ""))
        if user != USER or not compare_digest(password.encode(), PASSWORD.encode()):
            return self._login_form("Wrong user name or password.", status=403)
        token = secrets.token_hex(16)
        self._sign_ins.append(token)
        response = _found(request, "/status")
        response.set_cookie(SESSION_COOKIE, token, path="/", httponly=True)
        # Bound to the address by which the router was called, as some firmware does: through a
        # tunnel a browser keeps it only when that part is taken off.
        response.set_cookie(THEME_COOKIE, THEME, path="/", domain=host_name(request))
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        token = request.cookies.get(SESSION_COOKIE)
        if token is not None and token in self._sign_ins:
            self._sign_ins.remove(token)
        response = _found(request, "/login")
        response.del_cookie(SESSION_COOKIE, path="/", httponly=True)
        return response

    async def _status(self, request: web.Request) -> web.Response:
        if not self._signed_in(request):
            return _found(request, "/login")
        facts = self._facts
        return page(
            "status.html",
            serial=facts.serial,
            hostname=facts.hostname,
            model=facts.model,
            firmware=facts.firmware,
            operator=facts.read().get("operator", ""),
        )

    async def _piece(self, request: web.Request) -> web.Response:
        self._need_sign_in(request)
        name = request.match_info["name"]
        body = _PIECES.get(name)
        if body is None:
            raise web.HTTPNotFound
        kind = CONTENT_TYPES[PurePosixPath(name).suffix.removeprefix(".")]
        return web.Response(body=body, content_type=kind, headers={"Cache-Control": "no-cache"})

    async def _value(self, request: web.Request) -> web.Response:
        self._need_sign_in(request)
        number = int(request.match_info["number"])
        if not 1 <= number <= VALUES:
            raise web.HTTPNotFound
        name = _VALUE_NAMES[number - 1]
        value = self._facts.read().get(name)
        return web.json_response({"number": number, "name": name, "value": value})

    async def _cookies(self, request: web.Request) -> web.Response:
        """What the browser sent back, so that the page can tell whether all came through."""
        theme_kept = request.cookies.get(THEME_COOKIE) == THEME
        return web.json_response({"signed_in": self._signed_in(request), "theme": theme_kept})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self._need_sign_in(request)
        return await ticking_socket(request, self._tick)

    def _tick(self, number: int) -> dict[str, object]:
        values = self._facts.read()
        return {
            "tick": number,
            "serial": self._facts.serial,
            "uptime": values.get("uptime"),
            "rsrp": values.get("rsrp"),
            "sinr": values.get("sinr"),
        }


def _found(request: web.Request, path: str) -> web.Response:
    return web.Response(status=302, headers={"Location": absolute_url(request, path)})


async def _router_css(request: web.Request) -> web.Response:
    return web.Response(text=file_text("router.css"), content_type="text/css")


async def _status_js(request: web.Request) -> web.Response:
    return web.Response(text=file_text("status.js"), content_type="text/javascript")
