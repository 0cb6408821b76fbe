"""The simulated web pages' frame: listening, files of their own, and a WebSocket that ticks."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from aiohttp import ClientConnectionResetError, WSMsgType, web

from firmware_sim.lan.listening import LOOPBACK, Listening

TICK_S = 1.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
SHUT_DOWN_S = 0.5
_FOLDER = Path(__file__).parent / "web"


class _Sockets:
    """The WebSockets that are open now, which a stopping server ends."""

    def __init__(self) -> None:
        self.open: set[web.WebSocketResponse] = set()


_SOCKETS: Final = web.AppKey("sockets", _Sockets)


async def serve(application: web.Application, context: ssl.SSLContext | None = None) -> Listening:
    """Starts one application on a free port."""
    application[_SOCKETS] = _Sockets()
    application.on_shutdown.append(_end_sockets)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUT_DOWN_S)
    try:
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0, ssl_context=context, backlog=256).start()
    except BaseException:  # also when whoever dialled has given up
        await runner.cleanup()
        raise
    return Listening(int(runner.addresses[0][1]), runner.cleanup)


async def _end_sockets(application: web.Application) -> None:
    for one in list(application[_SOCKETS].open):
        await one.close(code=1001, message=b"going away")


@cache
def file_text(name: str) -> str:
    """One of the files beside this module."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def page(name: str, *, status: int = 200, **values: object) -> web.Response:
    """A page with its `$values`, each escaped for HTML."""
    safe = {key: escape(str(value)) for key, value in values.items()}
    text = Template(file_text(name)).substitute(safe)
    return web.Response(text=text, content_type="text/html", status=status)


def absolute_url(request: web.Request, path: str) -> str:
    """With the host by which the router was called, as old routers write their redirects."""
    return f"{'https' if request.secure else 'http'}://{request.host}{path}"


def host_name(request: web.Request) -> str:
    """The host of the request without its port."""
    host = request.host
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def ticking_socket(
    request: web.Request, tick: Callable[[int], Mapping[str, object]]
) -> web.WebSocketResponse:
    """A WebSocket that sends `tick(0)`, `tick(1)`, … and returns every message as it came."""
    response = web.WebSocketResponse(timeout=SHUT_DOWN_S, max_msg_size=MESSAGE_BYTES_MAX)
    await response.prepare(request)
    request.app[_SOCKETS].open.add(response)
    try:
        async with asyncio.TaskGroup() as tasks:
            ticking = tasks.create_task(_tick_forever(response, tick), name="tick")
            await _return_all(response)
            ticking.cancel()
    finally:
        request.app[_SOCKETS].open.discard(response)
    return response


async def _return_all(response: web.WebSocketResponse) -> None:
    try:
        async for message in response:
            if message.type is WSMsgType.TEXT:
                await response.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await response.send_bytes(message.data)
    except ClientConnectionResetError:
        pass  # the visitor left while something was on its way to him


async def _tick_forever(
    response: web.WebSocketResponse, tick: Callable[[int], Mapping[str, object]]
) -> None:
    number = 0
    while not response.closed:
        try:
            await response.send_str(json.dumps(tick(number)))
        except ClientConnectionResetError:
            return
        number += 1
        await asyncio.sleep(TICK_S)
