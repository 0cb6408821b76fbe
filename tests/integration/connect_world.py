"""A gateway's API and a relay in one small server, so that `fleetgate connect` can be seen alone.

The relay's side is the real `wire.link`; it reaches targets itself instead of through a device.
"""

import asyncio
import json
import secrets
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from tests.integration.supervised import until
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.hello import Answered, Hello, Word, answer_bytes, greeting_of
from wire.link import Link
from wire.splice import READ_BYTES, Splice
from wire.stream import Stream
from wire.targets import parse_target

ROOT = Path(__file__).parent.parent.parent
TOKEN = "test-token"
SERIAL = "1100000001"
NAME = f"s-{'a' * 26}.relay.test"
END_S_MAX = 20


class TargetSocket(Splice, asyncio.BufferedProtocol):
    """The relay's and the device's part in one: a stream joined with a target's socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.attach(transport)


class Visitor:
    """One accepted WebSocket; the transport of its link."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self.ws = ws
        self.link: Link | None = None
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closing = False

    def write(self, data: bytes) -> None:
        self._outgoing.put_nowait(data)
        if self.link is not None and self._outgoing.qsize() > 4:
            self.link.pause()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._outgoing.put_nowait(None)

    def abort(self) -> None:
        self.close()

    async def send_all(self) -> None:
        with suppress(ConnectionError):
            while (data := await self._outgoing.get()) is not None:
                await self.ws.send_bytes(data)
                if self.link is not None and self._outgoing.empty():
                    self.link.resume()
        await self.ws.close()


@dataclass
class World:
    """What the server knows, and what tests make it answer."""

    port: int = 0
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    tickets: dict[str, str] = field(default_factory=dict)
    visitors: set[Visitor] = field(default_factory=set)
    refuse_open: tuple[int, dict[str, Any]] | None = None
    refuse_ticket: tuple[int, dict[str, Any]] | None = None
    turn_away: Answered | None = None
    refuse_streams: str = ""
    culprit: dict[str, Any] | None = None
    hosts: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    relay_port: int = 0
    relay_context: ssl.SSLContext | None = None
    relay: web.AppRunner | None = None
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Every visitor's connection breaks, without a word."""
        for visitor in list(self.visitors):
            transport = visitor.ws._req.transport if visitor.ws._req is not None else None
            if transport is not None:
                transport.abort()

    async def start_relay(self) -> None:
        """At the same port as before, if there was one."""
        routes = [web.get("/.fleetgate/link", self.visit)]
        self.relay = await _served(routes, self.relay_port, self.relay_context)
        self.relay_port = self.relay.addresses[0][1]

    async def stop_relay(self) -> None:
        """Without a word to anybody."""
        self.cut()
        if self.relay is not None:
            await self.relay.cleanup()
            self.relay = None

    def end(self, reason: str, *, told: bool = True) -> None:
        """All sessions are over."""
        for session in self.sessions.values():
            session.update(state="ended", ended_because=reason)
        if told:
            for visitor in list(self.visitors):
                if visitor.link is not None:
                    visitor.link.bye(reason)

    # The API

    async def open(self, request: web.Request) -> web.Response:
        content = await request.json()
        self.asked.append(("POST", request.headers["Idempotency-Key"], content))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _problem(401, "signed_out", "Sign in first.")
        if self.refuse_open is not None:
            return _problem(self.refuse_open[0], **self.refuse_open[1])
        session_id = secrets.token_hex(16)
        self.sessions[session_id] = shown = {
            "id": session_id,
            "serial": content["serial"],
            "target": content.get("target", "127.0.0.1:22"),
            "protocol": content.get("protocol", "tcp"),
            "state": "open",
            "expires_at": "2031-01-01T00:00:00Z",
            "ended_because": None,
        }
        return web.json_response(shown, status=201)

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self.sessions[request.match_info["id"]])

    async def close_session(self, request: web.Request) -> web.Response:
        self.asked.append(("DELETE", request.match_info["id"], None))
        shown = self.sessions[request.match_info["id"]]
        shown.update(state="ended", ended_because="closed")
        return web.json_response(shown)

    async def ticket(self, request: web.Request) -> web.Response:
        session_id = request.match_info["id"]
        self.asked.append(("TICKET", session_id, await request.json()))
        if self.refuse_ticket is not None:
            return _problem(self.refuse_ticket[0], **self.refuse_ticket[1])
        if self.sessions[session_id]["state"] == "ended":
            return _problem(409, "session_over", "The session is over.")
        ticket = secrets.token_urlsafe(16)
        self.tickets[ticket] = session_id
        relay = {
            "hosts": self.hosts,
            "port": self.relay_port,
            "tls": self.relay_context is not None,
            "name": NAME,
        }
        expires_at = "2031-01-01T00:00:00Z"
        return web.json_response(
            {"ticket": ticket, "expires_at": expires_at, "relay": relay}, status=201
        )

    async def diagnosis(self, request: web.Request) -> web.Response:
        hops: list[dict[str, Any]] = [{"hop": "person", "state": "ok", "code": "", "at": None}]
        if self.culprit is not None:
            hops.append(self.culprit)
        return web.json_response({"hops": hops})

    # The relay

    async def visit(self, request: web.Request) -> web.StreamResponse:
        assert request.host == f"{NAME}:{self.relay_port}"
        ws = web.WebSocketResponse(max_msg_size=0, compress=False)
        await ws.prepare(request)
        visitor, reader = Visitor(ws), FrameReader()
        self.visitors.add(visitor)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(visitor.send_all())
                async for message in ws:
                    assert message.type is WSMsgType.BINARY
                    if visitor.link is not None:
                        visitor.link.receive(message.data)
                    elif (first := reader.first(message.data)) is not None:
                        greeting = greeting_of(first)
                        if isinstance(greeting, Hello):
                            self._greet(visitor, greeting, reader, tasks)
                        else:  # this relay keeps nothing
                            visitor.write(answer_bytes(Answered(Word.UNKNOWN)))
                            visitor.close()
                if visitor.link is not None:
                    visitor.link.lost()
                visitor.close()
        finally:
            self.visitors.discard(visitor)
        return ws

    def _greet(
        self, visitor: Visitor, hello: Hello, reader: FrameReader, tasks: asyncio.TaskGroup
    ) -> None:
        session_id = self.tickets.pop(hello.ticket)
        if self.turn_away is not None:
            visitor.write(answer_bytes(self.turn_away))
            visitor.close()
            return
        visitor.write(answer_bytes(Answered(Word.WELCOME)))
        loop = asyncio.get_running_loop()
        target = self.sessions[session_id]["target"]
        visitor.link = Link(
            visitor,
            budget=Budget(SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=lambda reason: None,
            on_open=lambda stream: self._open_stream(stream, target, tasks),
            reader=reader,
            opens_per_s=10_000,
        )
        visitor.link.start()

    def _open_stream(self, stream: Stream, target: str, tasks: asyncio.TaskGroup) -> None:
        socket = TargetSocket(stream, self.buffer)
        stream.user = socket
        if self.refuse_streams:
            stream.refuse(self.refuse_streams)
        else:
            tasks.create_task(self._dial(socket, target))

    async def _dial(self, socket: TargetSocket, target: str) -> None:
        found = parse_target(target)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: socket, found.host, found.port
            )
        except OSError:
            socket.stream.refuse("refused")


def _problem(status: int, code: str, detail: str, **more: str) -> web.Response:
    body = {"status": status, "code": code, "detail": detail, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


@asynccontextmanager
async def world(relay_context: ssl.SSLContext | None = None) -> AsyncIterator[World]:
    """The API and the relay at work."""
    made = World(relay_context=relay_context)
    api = "/api/v1/sessions"
    routes = [
        web.post(api, made.open),
        web.get(f"{api}/{{id}}", made.show),
        web.delete(f"{api}/{{id}}", made.close_session),
        web.post(f"{api}/{{id}}/tickets", made.ticket),
        web.get(f"{api}/{{id}}/diagnosis", made.diagnosis),
    ]
    runner = await _served(routes, 0, None)
    made.port = runner.addresses[0][1]
    await made.start_relay()
    try:
        yield made
    finally:
        await made.stop_relay()
        await runner.cleanup()


async def _served(
    routes: list[web.RouteDef], port: int, context: ssl.SSLContext | None
) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    return runner


@dataclass
class Running:
    """`fleetgate connect` as a process."""

    process: asyncio.subprocess.Process
    errors: list[str]

    async def ports(self) -> list[dict[str, Any]]:
        """The line of --json."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), END_S_MAX)
        assert line, self.errors
        found: list[dict[str, Any]] = json.loads(line)["ports"]
        return found

    async def says(self, text: str, times: int = 1) -> None:
        """Waits until so many lines on standard error hold the text."""
        try:
            await until(
                lambda: sum(text in line for line in self.errors) >= times, within_s=END_S_MAX
            )
        except TimeoutError:
            raise AssertionError((text, self.errors)) from None

    async def ends(self) -> int:
        return await asyncio.wait_for(self.process.wait(), END_S_MAX)


class HasUrl(Protocol):
    """A gateway's API."""

    @property
    def url(self) -> str: ...


@asynccontextmanager
async def connecting(
    server: HasUrl | None, *arguments: str, stdin: Any = None, stdout: Any = None
) -> AsyncIterator[Running]:
    """Starts the program; it is gone afterwards."""
    named = ["--url", server.url, "--token", TOKEN] if server is not None else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker.connect", *named, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE if stdout is None else stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    errors: list[str] = []

    async def read_errors() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            errors.append(line.decode())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read_errors())
        try:
            yield Running(process, errors)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
