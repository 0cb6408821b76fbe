"""Browsers and targets for a real relay: bytes as they are, and machines behind a raw device."""

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from broker.relay.session import Session
from broker.relay.web_door import web_factory
from tests.relay_rig import LIMIT_S, RawDevice, Rig, fact, running_relay
from wire.splice import READ_BYTES, Splice
from wire.stream import Stream
from wire.tickets import Claims, Party, Way

_BUFFER = memoryview(bytearray(READ_BYTES))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NAVIGATION = {
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Accept": "text/html,*/*;q=0.8",
}


UPGRADE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class TargetSocket(Splice, asyncio.BufferedProtocol):
    """A device's connection to a target, as agents have them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.attach(transport)


class Answer(NamedTuple):
    """One answer, byte by byte."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.decode().lower() == name.lower()]

    def one(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, (name, self)
        return values[0].decode()

    @property
    def text(self) -> str:
        return self.body.decode()


async def read_head(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(LIMIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    _, status, reason = first.split(b" ", 2)
    headers = [(key, value) for key, _, value in (line.partition(b": ") for line in lines)]
    return Answer(int(status), reason, headers, b"")


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    answer = await read_head(reader)
    async with asyncio.timeout(LIMIT_S):
        return answer._replace(body=await _body(reader, answer, method))


async def _body(reader: asyncio.StreamReader, answer: Answer, method: str) -> bytes:
    if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
        return b""
    if answer.all("transfer-encoding") == [b"chunked"]:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        return body
    if answer.all("content-length"):
        return await reader.readexactly(int(answer.one("content-length")))
    return await reader.read()


class Browser:
    """Asks a session's host over one connection, with the cookies it was given."""

    def __init__(self, rig: Rig, claims: Claims) -> None:
        self.rig = rig
        self.claims = claims
        self.cookie = ""
        self.tls: ssl.SSLContext | None = None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    @property
    def host(self) -> str:
        return f"{self.claims.host}.localhost:{self.rig.port}"

    async def connect(self) -> None:
        self.reader, self.writer = await self._dial()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self.tls is None else f"{self.claims.host}.localhost"
        return await asyncio.open_connection(
            "127.0.0.1", self.rig.port, ssl=self.tls, server_hostname=name
        )

    def close(self) -> None:
        self.writer.close()

    async def raw(self, data: bytes, method: str = "GET") -> Answer:
        """On a connection of its own."""
        reader, writer = await self._dial()
        try:
            writer.write(data)
            return await read_answer(reader, method)
        finally:
            writer.close()

    def head(self, method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
        given = {"Host": self.host, **(headers or {})}
        if self.cookie and "Cookie" not in given:
            given["Cookie"] = self.cookie
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {one}" for key, one in given.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        headers = dict(headers or {})
        if body:
            headers["Content-Length"] = str(len(body))
        return await self.raw(self.head(method, path, headers) + body, method)

    async def enter(self, **changes: Any) -> Answer:
        """Comes in by the gateway, whose part the test plays."""
        first = await self.ask(headers=NAVIGATION)
        assert first.status == 302, first
        state = parse_qs(urlsplit(first.one("location")).query)["state"][0]
        self.cookie = first.one("set-cookie").partition(";")[0]
        entered = await self.ask(self.entrance(state, **changes), headers=NAVIGATION)
        if entered.status == 303:
            cookies = [one.decode().partition(";")[0] for one in entered.all("set-cookie")]
            self.cookie = next(one for one in cookies if "fleetgate-relay=" in one)
        return entered

    def entrance(self, asked: str, /, **changes: Any) -> str:
        digest = hashlib.sha256(asked.encode()).hexdigest()
        wanted = {"party": Party.VISITOR, "way": Way.WEB, "state": digest, **changes}
        ticket = self.rig.mint.sign(self.rig.mint.again(self.claims, **wanted))
        return f"/.fleetgate/enter?ticket={ticket}&state={asked}"


class Site:
    """A session with its device up, a target behind it, and a browser that has come in."""

    def __init__(self, rig: Rig, claims: Claims, tasks: asyncio.TaskGroup) -> None:
        self.rig = rig
        self.claims = claims
        self.tasks = tasks
        self.browser = Browser(rig, claims)
        self.port = 0  # of the target
        self.refusal = ""
        self.device: RawDevice

    @property
    def session(self) -> Session:
        session = self.rig.relay.sessions.by_id(self.claims.session)
        assert session is not None
        return session

    async def start_device(self) -> None:
        claims = self.rig.mint.again(self.claims)
        self.device = await self.rig.device(claims, on_open=self.opened)

    def opened(self, stream: Stream) -> None:
        if self.refusal:
            stream.refuse(self.refusal)
            return
        socket = TargetSocket(stream, _BUFFER)
        stream.user = socket
        self.tasks.create_task(self._dial(socket, stream))

    async def _dial(self, socket: TargetSocket, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: socket, "127.0.0.1", self.port)
        except ConnectionRefusedError:
            stream.refuse("refused")


@asynccontextmanager
async def running_site(
    folder: Path,
    serve: Handler | None = None,
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    device: bool = True,
    enter: bool = True,
    relay: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[Site]:
    """The whole; `serve` answers at the target, or a server of the test does at `port`."""
    running = running_relay(folder, web=web_factory, **(relay or {}))
    async with running as rig, asyncio.TaskGroup() as tasks:
        claims = rig.mint.session(**changes)
        site = Site(rig, claims, tasks)
        server = None
        if serve is not None:
            server = await asyncio.start_server(
                _guarded(serve), "127.0.0.1", 0, ssl=tls, limit=2**20
            )
            port = server.sockets[0].getsockname()[1]
        site.port = port
        if device:
            await site.start_device()
            if enter:
                assert (await site.browser.enter()).status == 303
        try:
            yield site
        finally:
            if device:
                site.device.transport.abort()
            if server is not None:
                server.close()


def _guarded(serve: Handler) -> Handler:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the relay may hang up whenever it likes
        finally:
            writer.close()

    return guarded


class Recorder:
    """A target that keeps the heads and bodies it gets, and answers what it was given."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            lower = head.lower()
            body = b""
            if b"content-length: " in lower:
                size = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(size)
            elif b"transfer-encoding: chunked" in lower:
                body = await reader.readuntil(b"0\r\n\r\n")
            self.bodies.append(body)
            writer.write(self.answer)
            await writer.drain()

    def lines(self, index: int = -1) -> list[bytes]:
        return self.heads[index][:-4].split(b"\r\n")

    def values(self, name: bytes, index: int = -1) -> list[bytes]:
        pairs = (line.partition(b": ") for line in self.lines(index)[1:])
        return [value for key, _, value in pairs if key.lower() == name]


def headers(*lines: str) -> bytes:
    """A head that ends here."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def random_body(size: int) -> bytes:
    return secrets.token_bytes(size)


async def gone(site: Site, spare: Iterable[str] = ()) -> None:
    """No stream is left open in the session."""
    await fact(lambda: site.session.usage().streams == len(list(spare)))
