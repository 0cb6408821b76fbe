"""Every request at a session's host: who may pass, what is the relay's own, what is forwarded."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from broker.relay import web_cookies, web_isolation, web_pages
from broker.relay.arrivals import address_key
from broker.relay.door import WebFactory
from broker.relay.errors import StreamRefused
from broker.relay.relay import Relay
from broker.relay.sessions import Sessions
from broker.relay.tickets import TicketDesk
from broker.relay.visitor_link import VisitorLinks
from broker.relay.web_front import HEAD_BYTES_MAX, VisitorProtocol
from broker.relay.web_handover import Handover
from broker.relay.web_headers import BadHead
from broker.relay.web_isolation import Host
from broker.relay.web_proxy import forward
from broker.relay.web_visits import Visits

HEAD_BYTES_UNKNOWN_MAX = 4 * 1024  # of a request without a valid cookie
CONNECTIONS_PER_ADDRESS_MAX = 512


def web_factory(relay: Relay) -> WebFactory:
    """Serves the visitors of this relay."""
    configuration = relay.configuration
    settings = WebSettings(
        domain=configuration.domain,
        gateway_url=configuration.gateway_url,
        secure=configuration.tls,
        behind_proxy=configuration.behind_proxy,
    )
    door = WebDoor(settings, relay.sessions, relay.desk, relay.tasks)
    relay.endings.append(door.close)
    return door


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """Where visitors come in. `secure`: their connections have TLS, here or at a proxy before."""

    domain: str
    gateway_url: str
    secure: bool
    behind_proxy: bool = False  # then all visitors seem to come from one address


class WebDoor:
    """Serves browsers' connections; call it to make a connection's protocol (`WebFactory`)."""

    def __init__(
        self,
        settings: WebSettings,
        sessions: Sessions,
        desk: TicketDesk,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        cookies = web_cookies.names(secure=settings.secure)
        gateway_url = settings.gateway_url.rstrip("/")
        self._gateway_url = gateway_url
        self._handover = Handover(desk, sessions, cookies, gateway_url)
        self._visits = Visits()
        self._links = VisitorLinks(desk, sessions, tasks)
        # A visitor who leaves takes the request with them: nothing goes on for nobody.
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._addresses: dict[str, int] = {}

    def __call__(self, address: str, admitted: Callable[[], None]) -> asyncio.BaseProtocol:
        if not self._settings.behind_proxy:
            key = address_key(address)
            count = self._addresses.get(key, 0)
            if count >= CONNECTIONS_PER_ADDRESS_MAX:
                return _Full(admitted)
            self._addresses[key] = count + 1
        return _Counted(self._server, self._loop, address, admitted, self._gone)

    async def close(self) -> None:
        """Ends all connections."""
        await self._server.shutdown(timeout=1.0)

    def _gone(self, address: str) -> None:
        if self._settings.behind_proxy:
            return
        key = address_key(address)
        left = self._addresses[key] - 1
        if left:
            self._addresses[key] = left
        else:
            del self._addresses[key]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._judge(request)
        except StreamRefused as error:
            return web_pages.trouble(
                request,
                error.reason,
                self._gateway_url,
                hop=error.hop,
                ended=error.detail,
                since_ms=error.since_ms,
            )
        except BadHead:
            return web_pages.bad_request()

    async def _judge(self, request: web.BaseRequest) -> web.StreamResponse:
        host = web_isolation.host_of(request.raw_headers, self._settings.domain)
        if host is None:
            return self._trouble(request, "wrong_host")
        if not request.raw_path.startswith("/") or request.method == "CONNECT":
            # Also `*` and whole URLs, whose host would not be the one that was judged.
            return web_pages.bad_request()
        own_origin = (b"https://" if self._settings.secure else b"http://") + host.netloc
        websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        path = request.raw_path.partition("?")[0]
        if path == web_isolation.PREFIX + "/link" and websocket:
            return await self._link(request, host, own_origin)
        size = _head_bytes(request)
        if size > HEAD_BYTES_MAX:
            return self._trouble(request, "head_too_long")
        if not web_isolation.may_ask(
            request.raw_headers, request.method, own_origin, websocket=websocket
        ):
            return self._trouble(request, "other_page")
        if web_isolation.is_worker_script(request.raw_headers):
            return self._trouble(request, "service_worker")
        session = self._sessions.by_host(host.label)
        cookie = session and self._handover.cookie_of(request, session)
        if not cookie and size > HEAD_BYTES_UNKNOWN_MAX:
            return self._trouble(request, "head_too_long")
        if web_isolation.is_ours(path):
            return self._own(request, host, path)
        if session is None or not cookie:
            return self._unknown(request, host)
        address = str(getattr(request.protocol, "address", ""))
        visit = self._visits.visit(session, address, own_origin)
        return await forward(request, visit, websocket=websocket)

    def _own(self, request: web.BaseRequest, host: Host, path: str) -> web.Response:
        if path == web_isolation.PREFIX + "/enter" and request.method == "GET":
            return self._handover.enter(request, host)
        if path == web_isolation.PREFIX + "/leave" and request.method == "POST":
            return self._handover.leave(request, host)
        return self._trouble(request, "reserved")

    def _unknown(self, request: web.BaseRequest, host: Host) -> web.Response:
        ended = self._visits.ended(host.label)
        if ended:
            return self._trouble(request, "session_over", ended=ended)
        if web_isolation.is_navigation(request.raw_headers, request.method):
            return self._handover.to_gateway(request, host)
        return web_pages.said(request, "enter", 401)

    async def _link(
        self, request: web.BaseRequest, host: Host, own_origin: bytes
    ) -> web.StreamResponse:
        """Programs send no `Origin`; of pages only our own may try."""
        origin = web_isolation.one(request.raw_headers, b"origin")
        if origin is not None and origin != own_origin:
            return self._trouble(request, "other_page")
        return await self._links.serve(request, host)

    def _trouble(self, request: web.BaseRequest, code: str, *, ended: str = "") -> web.Response:
        return web_pages.trouble(request, code, self._gateway_url, ended=ended)


def _head_bytes(request: web.BaseRequest) -> int:
    headers = sum(len(key) + len(value) + 4 for key, value in request.raw_headers)
    return len(request.raw_path) + len(request.method) + 12 + headers


class _Counted(VisitorProtocol):
    """Is counted by its address until it is gone."""

    __slots__ = ("_gone",)

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        address: str,
        admitted: Callable[[], None],
        gone: Callable[[str], None],
    ) -> None:
        super().__init__(server, loop, address, admitted)
        self._gone: Callable[[str], None] | None = gone

    def connection_lost(self, exc: BaseException | None) -> None:
        gone, self._gone = self._gone, None
        if gone is not None:
            gone(self.address)
        super().connection_lost(exc)


class _Full(asyncio.Protocol):
    """One address has too many connections."""

    def __init__(self, admitted: Callable[[], None]) -> None:
        self._admitted = admitted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._admitted()
