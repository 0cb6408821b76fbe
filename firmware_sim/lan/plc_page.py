"""A machine behind a router: its page with a counter, a form, and a cookie named like another's."""

import secrets
import time

from aiohttp import web

from firmware_sim.lan.listening import Listening
from firmware_sim.lan.router_page import SESSION_COOKIE
from firmware_sim.lan.web_server import file_text, page, serve, ticking_socket

SPEED_MAX = 600
_SPEED_FIRST = 240
_VISITORS_MAX = 256


class PlcPage:
    """A filling line that counts bottles; anybody in its LAN may set its speed."""

    def __init__(self, serial: str) -> None:
        self._serial = serial
        self._speed = _SPEED_FIRST
        self._filled = 0.0
        self._counted_s = time.monotonic()
        self._visits: dict[str, int] = {}

    async def listen(self) -> Listening:
        """Starts it on a free port."""
        application = web.Application(client_max_size=4_096)
        application.add_routes(
            [
                web.get("/", self._show),
                web.get("/value", self._value),
                web.post("/set", self._set),
                web.get("/plc.js", _plc_js),
                web.get("/ws", self._socket),
            ]
        )
        return await serve(application)

    def _bottles(self) -> int:
        now_s = time.monotonic()
        self._filled += (now_s - self._counted_s) * self._speed / 60
        self._counted_s = now_s
        return int(self._filled)

    async def _show(self, request: web.Request) -> web.Response:
        """Each visitor has a number of his own visits, known by the cookie."""
        visitor = request.cookies.get(SESSION_COOKIE, "")
        known = visitor in self._visits
        if not known:
            visitor = f"plc-{secrets.token_hex(8)}"
            if len(self._visits) >= _VISITORS_MAX:
                del self._visits[next(iter(self._visits))]
        self._visits[visitor] = self._visits.get(visitor, 0) + 1
        response = page(
            "plc.html",
            serial=self._serial,
            speed=self._speed,
            speed_max=SPEED_MAX,
            bottles=self._bottles(),
            visits=self._visits[visitor],
        )
        if not known:
            response.set_cookie(SESSION_COOKIE, visitor, path="/")
        return response

    async def _value(self, request: web.Request) -> web.Response:
        known = request.cookies.get(SESSION_COOKIE) in self._visits
        return web.json_response(
            {"bottles": self._bottles(), "speed": self._speed, "cookie": known}
        )

    async def _set(self, request: web.Request) -> web.Response:
        form = await request.post()
        text = str(form.get("speed", ""))
        if not text.isascii() or not text.isdigit() or int(text[:6]) > SPEED_MAX:
            raise web.HTTPBadRequest(text=f"speed must be 0 to {SPEED_MAX}\n")
        self._bottles()  # what was filled so far was filled at the old speed
        self._speed = int(text)
        return web.Response(status=303, headers={"Location": "/"})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        return await ticking_socket(request, self._tick)

    def _tick(self, number: int) -> dict[str, object]:
        return {"tick": number, "bottles": self._bottles(), "speed": self._speed}


async def _plc_js(request: web.Request) -> web.Response:
    return web.Response(text=file_text("plc.js"), content_type="text/javascript")
