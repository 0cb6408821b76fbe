"""The real application over a real store on a temporary file, listening on loopback."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.api.application import make_app
from gateway.api.attempt_writing import write_due
from gateway.api.services import SERVICES, Sleep
from gateway.api.serving import Listening, serve_people
from gateway.clock import Clock
from gateway.command.sections import (
    DataSection,
    GatewayConfiguration,
    HttpSection,
    RelaySection,
)
from gateway.join.ca import KeyFiles, prepare_keys
from gateway.operations.registry import Site
from gateway.operations.ticket_making import TicketSigner
from gateway.people.accounts import make_operator, make_token
from gateway.people.passwords import hash_password
from gateway.storage.address import Address
from gateway.storage.store import Store
from gateway.telemetry import Telemetry
from tests.databases import store_of

EMAIL = "operator@example.org"
PASSWORD = "correct horse battery"
MASTER_KEY = bytes(range(32))


class MovableClock(Clock):
    """The real clock, moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.moved_ms

    def boot_ms(self) -> int:
        return super().boot_ms() + self.moved_ms


def site_for_tests(ca_digest: str = "0" * 64) -> Site:
    """An installation as the composition root would describe it."""
    return Site(
        public_url="http://127.0.0.1",
        join_hosts=("127.0.0.1",),
        join_port=8884,
        mqtt_hosts=("127.0.0.1",),
        mqtt_port=8883,
        ca_digest=ca_digest,
        master_key=MASTER_KEY,
        node="node-1",
        version="0.0.0",
        tickets=TicketSigner("test", Ed25519PrivateKey.generate()),
    )


@dataclass(slots=True)
class ApiServer:
    """A server at work, and a client for it."""

    client: aiohttp.ClientSession
    store: Store
    site: Site
    telemetry: Telemetry
    clock: MovableClock
    listening: Listening
    token: str
    admin_socket: Path
    slept_s: list[float]  # what guessing was slowed down by
    app: web.Application

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.port}"

    async def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, decoded JSON and the response; as the operator unless another token is given."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        body: dict[str, Any] = {"data": BytesIO(data)} if data is not None else {"json": content}
        async with self.client.request(
            method, self.url + path, headers=sent, allow_redirects=False, **body
        ) as response:
            found: Any = await response.read()
            if response.content_type.endswith("json"):
                found = await response.json(content_type=None)
            return response.status, found, response

    async def done(self, method: str, path: str, content: Any = None, **more: Any) -> Any:
        """The answer of a request that must succeed."""
        status, found, _ = await self.ask(method, path, content, **more)
        assert 200 <= status < 300, (method, path, status, found)
        return found

    async def company(self, name: str = "Acme", **more: Any) -> str:
        made = await self.done("POST", "/api/v1/companies", {"name": name, **more})
        return str(made["id"])


@cache
def _hashed(password: str) -> str:
    """Once a process: it takes as long as it is meant to."""
    return hash_password(password)


@asynccontextmanager
async def api_server(
    folder: Path,
    database: Address,
    *,
    relay: RelaySection | None = None,
    mail: bool = False,
    sleep: Sleep | None = None,
    **http: Any,
) -> AsyncIterator[ApiServer]:
    """Operator and token; then the server. `http` changes the `[http]` section.

    `mail`: mails are queued, and sent by whoever has a server for them. `sleep`: how guessing is
    slowed down; usually it is only noted.
    """
    clock = MovableClock()
    store = store_of(database, clock.wall_ms)
    try:
        hashed = await asyncio.to_thread(_hashed, PASSWORD)
        person_id = await store.write(lambda tx: make_operator(tx, EMAIL, "Olga", hashed))
        token = await store.write(lambda tx: make_token(tx, person_id, "first"))
        section = replace(HttpSection(port=0), **http)
        configuration = GatewayConfiguration(
            data=DataSection(directory=folder), http=section, relay=relay or RelaySection()
        )
        telemetry = Telemetry(clock.wall_ms())
        site = replace(site_for_tests(), mail=mail)
        slept_s: list[float] = []

        async def note(seconds: float) -> None:
            slept_s.append(seconds)

        app = make_app(store, site, telemetry, clock, configuration, sleep=sleep or note)
        admin_socket = folder / "admin.sock"
        listening = await serve_people(app, section, admin_socket)
        try:
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as client:
                yield ApiServer(
                    client,
                    store,
                    site,
                    telemetry,
                    clock,
                    listening,
                    token,
                    admin_socket,
                    slept_s,
                    app,
                )
        finally:
            await listening.close()
            await write_due(app[SERVICES], all_of_them=True)
    finally:
        await asyncio.to_thread(store.close)


def everything_works(server: ApiServer) -> None:
    """What the gateway's tasks would have noted by now."""
    telemetry, now_ms = server.telemetry, server.clock.wall_ms()
    telemetry.mqtt_connected = True
    telemetry.mqtt_closed_proof_ms = now_ms
    telemetry.probe_at_ms = now_ms
    telemetry.node_clock_ms = 90_000
    telemetry.probe_round_trip_ms = 1.2
    telemetry.logins_version = telemetry.logins_written = 3


def own_ca(folder: Path) -> tuple[KeyFiles, str]:
    """Keys as `fleetgate up` makes them, and the digest that join strings carry."""
    keys = prepare_keys(folder / "keys", ["127.0.0.1"], datetime.now(UTC))
    der = ssl.PEM_cert_to_DER_cert(keys.ca_certificate.read_text())
    return keys, hashlib.sha256(der).hexdigest()
