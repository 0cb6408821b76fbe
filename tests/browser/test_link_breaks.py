"""Chromium on a router's own page while the router's network breaks: nothing is loaded twice."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
from aiohttp import WSMsgType, web

from broker.relay.web_door import web_factory
from tests.browser import browsing
from tests.relay_rig import fact, running_relay
from tests.resuming_rig import Away, away
from wire.tickets import Party, Way

MB = 1_000_000
BIG = Random(6).randbytes(12 * MB)
BETWEEN = 2 * MB
PAGE = """<!doctype html><title>router</title><script>
const said = [];
const socket = new WebSocket(`ws://${location.host}/ws`);
socket.onmessage = (event) => said.push(event.data);
socket.onclose = () => said.push("closed");
async function big() {
  const data = await (await fetch("/big")).arrayBuffer();
  const digest = await crypto.subtle.digest("SHA-256", data);
  return [...new Uint8Array(digest)].map((one) => one.toString(16).padStart(2, "0")).join("");
}
</script>"""

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def router(asked: list[str]) -> AsyncIterator[str]:
    """A page, something big, and a WebSocket that echoes."""

    async def page(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/big":
            return web.Response(body=BIG)
        return web.Response(text=PAGE, content_type="text/html")

    async def echo(request: web.Request) -> web.WebSocketResponse:
        asked.append(request.path)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.add_routes([web.get("/ws", echo), web.get("/{name:.*}", page)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def has_moved(there: Away, total: int) -> bool:
    return there.session.usage().from_device >= total


async def broken(there: Away, how: str) -> None:
    await fact(partial(has_moved, there, there.session.usage().from_device + BETWEEN), 30)
    made = there.network.connections_made
    getattr(there.network, how)()
    if how == "cut":
        await fact(lambda: there.session.link is None)
    else:
        await fact(lambda: there.network.connections_made > made)
    there.network.mend()


async def test_a_page_a_download_and_a_websocket_survive_breaks(tmp_path: Path) -> None:
    asked: list[str] = []
    async with (
        router(asked) as target,
        running_relay(tmp_path, web=web_factory) as rig,
        away(rig, target, "http") as there,
        browsing() as browser,
    ):
        origin = f"http://{there.claims.host}.localhost:{rig.port}"
        state = secrets.token_urlsafe(32)
        digest = hashlib.sha256(state.encode()).hexdigest()
        wanted = {"party": Party.VISITOR, "way": Way.WEB, "state": digest}
        ticket = rig.mint.sign(rig.mint.again(there.claims, **wanted))
        await browser.add_cookies([{"name": "fleetgate-state", "value": state, "url": origin}])
        tab = await browser.new_page()
        await tab.goto(f"{origin}/.fleetgate/enter?ticket={ticket}&state={state}")
        await tab.wait_for_function("socket.readyState === 1")
        there.network.to_server.bandwidth_bytes_s = 4 * MB
        loading = asyncio.create_task(tab.evaluate("big()"))
        for turn, how in enumerate(("reset_all", "cut", "black_hole")):
            await broken(there, how)
            await tab.evaluate(f"socket.send('message {turn}')")
        there.network.to_server.clear()
        assert await loading == hashlib.sha256(BIG).hexdigest()
        await tab.wait_for_function("said.length >= 3")
        assert await tab.evaluate("said") == [f"message {turn}" for turn in range(3)]
        assert sorted(one for one in asked if one != "/favicon.ico") == ["/", "/big", "/ws"]
