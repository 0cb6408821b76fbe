"""From `fleetgate connect` to a target: a real relay and agent, a bad network on either side."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from broker.relay.web_door import web_factory
from firmware_sim.network import FaultProxy
from tests.integration.connect_world import Running, connecting
from tests.relay_rig import SERIAL, Rig, fact, running_relay
from tests.resuming_rig import Away, away
from wire.tickets import Party, Way


class WholeWay:
    """The gateway's API as far as `fleetgate connect` needs it, and both networks."""

    def __init__(self, rig: Rig, there: Away, network: FaultProxy) -> None:
        self.rig = rig
        self.there = there
        self.network = network  # between the person and the relay
        self.tickets = 0
        self.url = ""

    def _shown(self) -> dict[str, Any]:
        ended = self.rig.relay.sessions.over(self.there.claims.session)
        return {
            "id": self.there.claims.session,
            "serial": SERIAL,
            "target": self.there.target,
            "protocol": "tcp",
            "state": "ended" if ended else "open",
            "expires_at": "2031-01-01T00:00:00Z",
            "ended_because": ended or None,
        }

    async def session(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(), status=201 if request.method == "POST" else 200)

    async def ticket(self, request: web.Request) -> web.Response:
        self.tickets += 1
        mint, claims = self.rig.mint, self.there.claims
        ticket = mint.sign(mint.again(claims, party=Party.VISITOR, way=Way.CONNECT))
        name = f"{claims.host}.localhost"
        relay = {"hosts": ["127.0.0.1"], "port": self.network.port, "tls": False, "name": name}
        answer = {"ticket": ticket, "expires_at": "2031-01-01T00:00:00Z", "relay": relay}
        return web.json_response(answer, status=201)

    async def diagnosis(self, request: web.Request) -> web.Response:
        return web.json_response({"hops": []})


@asynccontextmanager
async def whole_way(folder: Path, target: str = "") -> AsyncIterator[tuple[WholeWay, Running, int]]:
    """Both networks, the program, and its local port; other targets than the usual by address."""
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(running_relay(folder, web=web_factory))
        there = await stack.enter_async_context(away(rig, target))
        bad = FaultProxy("127.0.0.1", rig.port, roaming=True)
        network = await stack.enter_async_context(bad)
        way = WholeWay(rig, there, network)
        app = web.Application()
        api = "/api/v1/sessions"
        app.add_routes(
            [
                web.post(api, way.session),
                web.get(f"{api}/{{id}}", way.session),
                web.delete(f"{api}/{{id}}", way.session),
                web.post(f"{api}/{{id}}/tickets", way.ticket),
                web.get(f"{api}/{{id}}/diagnosis", way.diagnosis),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        way.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        where = f"{SERIAL}:{there.target.rpartition(':')[2]}"
        running = await stack.enter_async_context(connecting(way, "--json", where))
        local = (await running.ports())[0]["port"]
        await fact(lambda: there.session.usage().visitors == 1)
        yield way, running, local
        network.mend()
        there.network.mend()
