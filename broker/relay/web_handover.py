"""How a browser gets in: a state cookie, the gateway's ticket, then the relay's own cookie."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from urllib.parse import urlencode

from aiohttp import web

from broker.relay import web_cookies, web_pages
from broker.relay.errors import StreamRefused, TicketRefused
from broker.relay.session import Session
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from broker.relay.web_cookies import CookieNames
from broker.relay.web_isolation import Host
from wire.tickets import Party, Way

STATE_BYTES = 32
STATE_S = 15 * 60  # signing in takes a while
WANTED_MAX = 4_096
PATH_CHARS_MAX = 1_024
_STATE = re.compile(r"[A-Za-z0-9_-]{22,64}")


class Handover:
    """Remembers which page each browser wanted; forgetting it only leads to the first page."""

    def __init__(
        self, desk: TicketDesk, sessions: Sessions, cookies: CookieNames, gateway_url: str
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._cookies = cookies
        self._gateway_url = gateway_url
        self._clock = asyncio.get_running_loop().time
        self._wanted: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def cookie_of(self, request: web.BaseRequest, session: Session) -> str | None:
        """The browser's cookie for this session; a page may have put others beside it."""
        for value in web_cookies.values(request.raw_headers, self._cookies.relay):
            cookie = value.decode("ascii", "replace")
            if session.knows_browser(cookie):
                return cookie
        return None

    def to_gateway(self, request: web.BaseRequest, host: Host) -> web.Response:
        """Asks the gateway for a ticket, bound to this browser by a cookie."""
        state = secrets.token_urlsafe(STATE_BYTES)
        path = request.raw_path
        # Browsers read `//host` and `/\host` as another host's address.
        own = path.isascii() and path[1:2] not in ("", "/", "\\")
        if own and len(path) <= PATH_CHARS_MAX:
            self._wanted[_hash(state)] = (path, self._clock())
        self._forget_old()
        query = urlencode({"host": host.label, "state": state})
        response = web_pages.redirect(302, f"{self._gateway_url}/enter?{query}")
        cookies = self._cookies
        _set(response, cookies.state, state, secure=cookies.secure, age_s=STATE_S)
        return response

    def enter(self, request: web.BaseRequest, host: Host) -> web.Response:
        """The gateway sent the browser back with a ticket."""
        state, ticket = request.query.get("state", ""), request.query.get("ticket", "")
        held = [
            value.decode("ascii", "replace")
            for value in web_cookies.values(request.raw_headers, self._cookies.state)
        ]
        known = self._sessions.by_host(host.label)
        if known is not None and self.cookie_of(request, known) is not None:
            return web_pages.redirect(303, "/")  # the page was loaded again: they are in already
        matches = any(hmac.compare_digest(one.encode(), state.encode()) for one in held)
        if _STATE.fullmatch(state) is None or not matches:
            return self._trouble(request, "no_cookie")
        digest = hashlib.sha256(state.encode()).hexdigest()
        try:
            claims = self._desk.admit(
                ticket, party=Party.VISITOR, way=Way.WEB, host=host.label, state=digest
            )
            session = self._sessions.enter(claims)
            cookie = session.admit_browser(_address(request))
        except TicketRefused as error:
            return self._trouble(request, error.code, error.detail)
        except StreamRefused as error:
            return self._trouble(request, error.reason, error.detail)
        wanted = self._wanted.pop(_hash(state), None)
        response = web_pages.redirect(303, wanted[0] if wanted is not None else "/")
        cookies = self._cookies
        _set(response, cookies.relay, cookie, secure=cookies.secure)
        _set(response, cookies.state, "", secure=cookies.secure, age_s=0)
        return response

    def leave(self, request: web.BaseRequest, host: Host) -> web.Response:
        """This browser's visit ends; the session goes on."""
        session = self._sessions.by_host(host.label)
        while session is not None and (cookie := self.cookie_of(request, session)) is not None:
            session.dismiss_browser(cookie)
        response = web_pages.said(request, "left", 200)
        _set(response, self._cookies.relay, "", secure=self._cookies.secure, age_s=0)
        return response

    def _trouble(self, request: web.BaseRequest, code: str, ended: str = "") -> web.Response:
        return web_pages.trouble(request, code, self._gateway_url, ended=ended)

    def _forget_old(self) -> None:
        oldest_s = self._clock() - STATE_S
        while self._wanted and (
            len(self._wanted) > WANTED_MAX or next(iter(self._wanted.values()))[1] < oldest_s
        ):
            self._wanted.popitem(last=False)


def _set(
    response: web.Response, name: bytes, value: str, *, secure: bool, age_s: int | None = None
) -> None:
    text = web_cookies.setting(name, value, secure=secure, age_s=age_s)
    response.headers.add("Set-Cookie", text.decode("ascii"))


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


def _address(request: web.BaseRequest) -> str:
    address = getattr(request.protocol, "address", "")
    return str(address)
