"""`GET /events` over HTTP: streams, reading on, rights, limits, and who does not read."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import delete, update

from gateway.api import events as handler
from gateway.api.application import make_app
from gateway.api.services import SERVICES
from gateway.api.serving import serve_people
from gateway.api.streams import STREAMS_OF_PERSON_MAX
from gateway.command.sections import DataSection, GatewayConfiguration, HttpSection
from gateway.domain.happenings import Happening
from gateway.domain.rights import Role
from gateway.jobs import events
from gateway.jobs.schedule import Schedule
from gateway.operations.happening import all_happened, told_as
from gateway.people.accounts import make_person, make_token
from gateway.storage.address import Address, is_postgres
from gateway.storage.schema import api_token, membership
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from tests.admin_command import COMMAND, ROOT, admin
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.databases import store_of

EVENTS = "/api/v1/events"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


class Stream:
    """What came over one stream, block by block."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.id = ""

    async def block(self) -> dict[str, str]:
        """The next block, whatever it holds; empty at the end."""
        found: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for raw in self.response.content:
                line = raw.decode().rstrip("\n")
                if not line:
                    self.id = found.get("id", self.id)
                    return found
                name, _, value = line.partition(": ")
                found[name] = value
        return {}

    async def next(self) -> tuple[str, Any]:
        """The next event's kind and data."""
        while found := await self.block():
            if "data" in found:
                return found["event"], json.loads(found["data"])
        return "", None


@asynccontextmanager
async def stream(
    server: ApiServer, query: str = "", *, last: str = "", url: str = "", **more: Any
) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {more.get('token', server.token)}"}
    if "cookie" in more:
        headers = {}
    if last:
        headers["Last-Event-ID"] = last
    async with server.client.get((url or server.url) + EVENTS + query, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        made = Stream(response)
        await made.block()  # how to come back
        yield made


async def place(server: ApiServer) -> None:
    while await server.store.write(events.place):
        pass


async def add(server: ApiServer, company_id: str, count: int, text: str = "x") -> None:
    def work(tx: Transaction) -> None:
        rows = [
            told_as(
                tx,
                Happening.DEVICE_CHANGED,
                int(company_id),
                subject=str(number),
                detail={"text": text},
            )
            for number in range(count)
        ]
        all_happened(tx, rows)

    await server.store.write(work)
    await place(server)


async def member(server: ApiServer, company_id: str, role: Role) -> tuple[int, str]:
    """Another person with a role, and its token."""

    def work(tx: Transaction) -> tuple[int, str]:
        made = make_person(tx, f"{role.value}@example.org", "P", "-")
        tx.run(
            membership.insert(),
            {
                "person_id": made,
                "company_id": int(company_id),
                "role": role.value,
                "created_at": tx.now_ms,
            },
        )
        return made, make_token(tx, made, "t")

    return await server.store.write(work)


async def test_a_stream_tells_and_reads_on_where_it_was(server: ApiServer) -> None:
    async with stream(server) as live:
        assert live.id
        company = await server.company()
        await place(server)
        kind, data = await live.next()
        assert (kind, data["kind"], data["company_id"]) == ("company.created", kind, company)
        assert live.id == data["id"]
        assert live.response.headers["Cache-Control"] == "no-store"
        assert live.response.headers["X-Content-Type-Options"] == "nosniff"
        assert live.response.headers["X-Request-Id"]
        last = live.id
    await add(server, company, 250)
    async with stream(server, last=last) as live:
        got = [(await live.next())[1]["subject"] for _ in range(250)]
        assert got == [str(number) for number in range(250)]
    # The header is newer than what the address says.
    async with stream(server, "?after=0", last=str(int(last) + 249)) as live:
        assert (await live.next())[1]["subject"] == "249"
    async with stream(server, "?after=99999999") as live:
        assert (await live.next())[0] == "reset"


async def test_filters_and_pages(server: ApiServer) -> None:
    company = await server.company()
    other = await server.company("Other")
    await server.done("POST", "/api/v1/devices", _device("0000000001", company))
    await server.done("POST", "/api/v1/devices", _device("0000000002", other))
    await place(server)
    asked = f"{EVENTS}?after=0"
    headers = {"Accept": "application/json"}
    for query, wanted in (
        ("", 4),
        (f"&company={company}", 2),
        ("&serial=0000000002", 1),
        ("&kinds=device.registered", 2),
        ("&kinds=device.registered&kinds=company.created", 4),
        (f"&company={company}&kinds=company.created", 1),
    ):
        page = await server.done("GET", asked + query, headers=headers)
        assert len(page["events"]) == wanted, (query, page)
        async with stream(server, f"?after=0{query}") as live:
            for one in page["events"]:
                assert await live.next() == (one["kind"], one)
    for query, status, code in (
        ("?kinds=nothing", 422, "validation"),
        ("?after=x", 422, "validation"),
        ("?company=77", 404, "not_found"),
        ("?other=1", 422, "validation"),
    ):
        for accept in ("application/json", "text/event-stream", "*/*"):
            got, problem, _ = await server.ask("GET", EVENTS + query, headers={"Accept": accept})
            assert (got, problem["code"]) == (status, code), (query, accept)
    got, problem, _ = await server.ask("GET", EVENTS, headers={"Last-Event-ID": "x"})
    assert (got, problem["code"]) == (422, "validation")
    got, problem, _ = await server.ask("GET", EVENTS + "?after=x", token=None)
    assert (got, problem["code"]) == (401, "signed_out")


def _device(serial: str, company_id: str) -> dict[str, Any]:
    return {"serial": serial, "company_id": company_id, "activate": "later"}


async def test_a_cookie_is_as_good(server: ApiServer) -> None:
    await server.done("POST", "/api/v1/login", {"email": EMAIL, "password": PASSWORD}, token=None)
    async with stream(server, cookie=True) as live:
        await server.company()
        await place(server)
        assert (await live.next())[0] == "company.created"


async def test_a_right_taken_away_is_gone_at_the_next_event(server: ApiServer) -> None:
    company = await server.company()
    other = await server.company("Other")
    person, token = await member(server, company, Role.READ_ONLY)
    await place(server)
    async with (
        stream(server, token=token) as live,
        stream(server, f"?company={company}", token=token) as named,
    ):
        await add(server, company, 1)
        assert (await live.next())[1]["company_id"] == company
        assert (await named.next())[1]["company_id"] == company
        mine = membership.c.person_id == person
        await server.store.write(
            lambda tx: tx.run(update(membership).where(mine).values(company_id=int(other)))
        )
        await add(server, company, 3)
        await add(server, other, 1)
        assert (await live.next())[1]["company_id"] == other
        kind, data = await named.next()
        assert (kind, data["code"]) == ("end", "not_found")
        assert await named.block() == {}
        # The token itself is gone: nobody is left to hear.
        await server.store.write(
            lambda tx: tx.run(delete(api_token).where(api_token.c.person_id == person))
        )
        await add(server, other, 1)
        kind, data = await live.next()
        assert (kind, data["code"]) == ("end", "signed_out")
        assert await live.block() == {}


async def test_a_token_that_ends_ends_its_stream_though_nothing_happens(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "LOOKED_EVERY_S", 0.05)
    company = await server.company()
    person, token = await member(server, company, Role.BASIC)
    async with stream(server, token=token) as live:
        await server.store.write(
            lambda tx: tx.run(delete(api_token).where(api_token.c.person_id == person))
        )
        assert (await live.next())[0] == "end"


async def test_it_says_that_it_is_alive_and_where_it_is(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "LOOKED_EVERY_S", 0.05)
    monkeypatch.setattr(handler, "ALIVE_EVERY_S", 0.05)
    company = await server.company()
    await place(server)
    async with stream(server, "?serial=0000000009") as live:
        await add(server, company, 5)
        page = await server.done("GET", EVENTS, headers={"Accept": "application/json"})
        while live.id != page["position"]:
            assert "data" not in await live.block()


async def test_so_many_streams_of_a_person(server: ApiServer) -> None:
    company = await server.company()
    _, token = await member(server, company, Role.BASIC)
    open_: list[Any] = []
    try:
        for _ in range(STREAMS_OF_PERSON_MAX):
            context = stream(server, token=token)
            await context.__aenter__()
            open_.append(context)
        got, problem, _ = await server.ask("GET", EVENTS, token=token)
        assert (got, problem["code"]) == (429, "too_many_attempts")
        async with stream(server):
            pass  # somebody else still may
        await open_.pop().__aexit__(None, None, None)
        await add(server, company, 1)  # it is noticed as soon as there is something to say

        async def again() -> bool:
            headers = {"Authorization": f"Bearer {token}"}
            async with server.client.get(server.url + EVENTS, headers=headers) as response:
                return response.status == 200

        async with asyncio.timeout(20):
            while not await again():
                await add(server, company, 1)
    finally:
        for context in open_:
            await context.__aexit__(None, None, None)


async def test_who_does_not_read_is_cut_off_and_reads_on_later(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "STALLED_S_MAX", 0.3)
    company = await server.company()
    await place(server)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.listening.port))
        request = f"GET {EVENTS}?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
        raw.sendall(f"{request}{server.token}\r\n\r\n".encode())
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        first = await loop.sock_recv(raw, 4096)
        assert first.startswith(b"HTTP/1.1 200")
        await add(server, company, 400, "x" * 20_000)
        streams = server.listening.runner.app[SERVICES].streams
        assert streams.count == 1
        async with asyncio.timeout(20):
            while streams.count:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
    async with stream(server, "?after=0") as live:
        seen = [(await live.next())[1]["subject"] for _ in range(401)]
        assert seen[1:] == [str(number) for number in range(400)]


async def test_streams_end_with_the_gateway(server: ApiServer) -> None:
    async with stream(server) as live:
        await server.listening.close()
        while await live.block():
            pass


async def test_two_gateways_tell_of_each_others_events(
    server: ApiServer, database: Address, tmp_path: Path
) -> None:
    if not is_postgres(database):
        pytest.skip("several gateways need PostgreSQL")
    store = store_of(database, server.clock.wall_ms)
    try:
        configuration = GatewayConfiguration(
            data=DataSection(directory=tmp_path), http=HttpSection(port=0)
        )
        telemetry = Telemetry(server.clock.wall_ms())
        app = make_app(store, server.site, telemetry, server.clock, configuration)
        second = await serve_people(app, configuration.http, None)
        url = f"http://127.0.0.1:{second.port}"
        try:
            async with stream(server, url=url) as live, stream(server) as here:
                company = await server.company()
                await place(server)
                assert (await live.next())[0] == (await here.next())[0] == "company.created"
                last = here.id
            await add(server, company, 3)
            # It comes back to the other one.
            async with stream(server, url=url, last=last) as live:
                assert [(await live.next())[1]["subject"] for _ in range(3)] == ["0", "1", "2"]
        finally:
            await second.close()
    finally:
        await asyncio.to_thread(store.close)


async def test_the_command_follows_and_comes_back(server: ApiServer) -> None:
    company = await server.company()
    await add(server, company, 2)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "events",
        *("--after", "0", "--json", "--data", str(server.admin_socket.parent)),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(20):
            lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
            assert [one["kind"] for one in lines] == ["company.created"] + ["device.changed"] * 2
            await add(server, company, 1)
            assert json.loads(await process.stdout.readline())["subject"] == "0"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        assert b"Traceback" not in await process.stderr.read()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_command_says_why_it_does_not_follow(server: ApiServer) -> None:
    for words, code, said in (
        (("--company", "77"), 1, "not_found"),
        (("--after", "x"), 2, "after: the id of an event, or 0"),
        (("--kinds", "nothing"), 2, "nothing"),
    ):
        got, out, error = await admin(server, "events", *words)
        assert (got, out) == (code, "") and said in error, (words, error)


async def test_the_gateway_places_them_by_itself(server: ApiServer) -> None:
    schedule = Schedule(server.store, server.clock, server.telemetry)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(schedule.run())
        async with stream(server, "?kinds=company.created") as live:
            await server.company()
            assert (await live.next())[0] == "company.created"
        running.cancel()
