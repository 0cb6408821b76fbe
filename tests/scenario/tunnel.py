"""Visitors of a real installation: `fleetgate connect`, stock ssh, browsers without a screen."""

import asyncio
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncssh
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.scenario.installation import ROOT, Installation, end_with_the_tests, installed, marked

FIRST_SERIAL = 1_100_000_001  # of the demo's routers
ECHO = "192.168.1.60:7777"
PLC = "192.168.1.50:80"
CONNECT = (sys.executable, "-m", "gateway.command.app", "connect")
END_S_MAX = 20.0
DONE_S_MAX = 50.0
LOOK_S = 0.02
PIPE = asyncio.subprocess.PIPE


@contextmanager
def demo(folder: Path, routers: int) -> Iterator[Installation]:
    """A started installation with the demo's routers."""
    with installed(folder, "--relay", "127.0.0.1:0", "--demo", str(routers)) as installation:
        yield installation


def router(number: int) -> str:
    """The serial of one of the demo's routers, counted from 1."""
    return str(FIRST_SERIAL + number - 1)


def demo_pid(installation: Installation) -> int:
    """The process in which the demo's routers live."""
    (pid,) = [
        pid
        for pid, line in marked(installation.mark).items()
        if " -m firmware_sim fleet " in line and "watcher.py" not in line
    ]
    return pid


def demo_company(installation: Installation) -> str:
    """The id of the demo's company."""
    (found,) = [one["id"] for one in installation.api.items("/companies") if one["name"] == "Demo"]
    return str(found)


async def until_true(
    fact: Callable[[], Awaitable[Any]], what: str, *, within_s: float = END_S_MAX
) -> Any:
    """Waits for a fact and returns it; the loop goes on meanwhile."""
    deadline_s = time.monotonic() + within_s
    while not (found := await fact()):
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(LOOK_S)
    return found


async def until_shown(
    installation: Installation, session: str, *, within_s: float = END_S_MAX, **wanted: Any
) -> Any:
    """Waits until the API shows the session so, and returns it."""

    async def shown() -> Any:
        found = await asyncio.to_thread(installation.api.get, f"/sessions/{session}")
        return found if {name: found[name] for name in wanted} == wanted else None

    return await until_true(shown, f"session {session} shows {wanted}", within_s=within_s)


async def ran(*command: str, given: bytes = b"", **more: Any) -> tuple[int, bytes]:
    """Exit code and all output of a program that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, **more
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(given), DONE_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said


# fleetgate connect


def variables(installation: Installation) -> dict[str, str]:
    """Where the server is, for `fleetgate connect`. The visitor's own clock is never moved."""
    facts = installation.facts()
    own = {"FLEETGATE_URL": facts["http_url"], "FLEETGATE_TOKEN": facts["admin_token"]}
    return {key: value for key, value in os.environ.items() if key != "FLEETGATE_CA"} | own


@dataclass
class Echo:
    """A connection to a local port that leads to an echo."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> None:
        """There and back, byte for byte."""
        self.writer.write(data)
        assert await asyncio.wait_for(self.reader.readexactly(len(data)), END_S_MAX) == data

    async def gone(self) -> None:
        """Returns when the stream has ended, however it did."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass
        self.writer.close()

    async def close(self) -> None:
        """Ends the connection from here."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@dataclass
class Connected:
    """One running `fleetgate connect --json`."""

    process: asyncio.subprocess.Process
    log: Path
    ports: list[dict[str, Any]]
    visitors: list[Echo] = field(default_factory=list)

    async def echo(self, number: int = 0) -> Echo:
        """A new connection to a port that leads to an echo, once it was seen to answer.

        Raises `ConnectionError`, `IncompleteReadError`.
        """
        port = int(self.ports[number]["port"])
        visitor = Echo(*await asyncio.open_connection("127.0.0.1", port))
        self.visitors.append(visitor)
        await visitor.says(b"hello")
        return visitor

    @property
    def session(self) -> str:
        """Of the first port."""
        return str(self.ports[0]["session"])

    @property
    def port(self) -> int:
        return int(self.ports[0]["port"])

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def says(self, text: str, *, within_s: float = END_S_MAX) -> None:
        async def said() -> bool:
            return text in self.said

        try:
            await until_true(said, f"it says {text!r}", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from error

    async def ends(self, *, within_s: float = END_S_MAX) -> int:
        return await asyncio.wait_for(self.process.wait(), within_s)


@asynccontextmanager
async def connecting(
    installation: Installation, folder: Path, *words: str
) -> AsyncIterator[Connected]:
    """Starts it for these targets; a signal ends it when it has not ended by itself."""
    log = folder / f"connect-{time.monotonic_ns()}.log"
    with log.open("wb") as complaints:
        process = await asyncio.create_subprocess_exec(
            *CONNECT,
            "--json",
            *words,
            cwd=ROOT,
            env=variables(installation),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=complaints,
            preexec_fn=end_with_the_tests,
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), END_S_MAX)
        assert line, log.read_text()
        running = Connected(process, log, json.loads(line)["ports"])
        try:
            yield running
        finally:
            for visitor in running.visitors:
                await visitor.close()
        if process.returncode is None:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), END_S_MAX) == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# ssh


def authorized_key(installation: Installation, folder: Path, *serials: str) -> Path:
    """A private key that these routers let in."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / "id_ed25519"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    for serial in serials:
        lan = installation.data / "demo" / serial / "lan"
        lan.mkdir(mode=0o700, parents=True, exist_ok=True)
        (lan / "authorized_keys").write_bytes(key.export_public_key())
    return path


def ssh_options(key: Path, program: tuple[str, ...] | None = None) -> list[str]:
    """For ssh and scp; `program` is the proxy command, without it they connect by themselves."""
    proxy = []
    if program is not None:
        text = shlex.join([*program, "--stdio"]).replace("%", "%%") + " %n:%p"
        proxy = ["-o", f"ProxyCommand={text}"]
    return [
        *("-F", "/dev/null", "-i", str(key), "-o", "IdentitiesOnly=yes", *proxy),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
    ]


# Browsers


class _Loopback(AbstractResolver):
    """Names of sessions lead to this machine, as browsers know by themselves."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


_NAVIGATION = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


class Browser:
    """Cookies and redirects as a browser has them, and what a page's scripts would ask."""

    def __init__(self, installation: Installation) -> None:
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Loopback()),
            # The gateway is called by its address here, which stock jars keep no cookies for.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(total=DONE_S_MAX),
        )
        self._facts = installation.facts()
        self._csrf = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def sign_in(self, email: str = "", password: str = "") -> None:
        """At the gateway; without words it is the administrator."""
        facts = self._facts
        content = {
            "email": email or facts["admin_email"],
            "password": password or facts["admin_password"],
        }
        self._csrf = ""
        self._csrf = (await self.ask("POST", "/login", content))["csrf"]

    async def ask(self, method: str, path: str, content: Any = None) -> Any:
        """The API's answer to whoever is signed in here."""
        url = f"{self._facts['http_url']}/api/v1{path}"
        headers = {"X-CSRF-Token": self._csrf} if self._csrf else {}
        async with self.http.request(method, url, json=content, headers=headers) as answer:
            assert answer.status < 300, (answer.status, await answer.text())
            return await answer.json()

    async def page(self, url: str) -> tuple[int, str, list[str]]:
        """Status, text, and the paths that led there."""
        async with self.http.get(url, headers=_NAVIGATION) as answer:
            way = [one.url.path for one in (*answer.history, answer)]
            return answer.status, await answer.text(), way

    async def socket(self, url: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket that has said something."""
        opened = await self.http.ws_connect(url, origin=str(URL(url).origin()))
        message = await opened.receive(END_S_MAX)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return opened


async def socket_gone(opened: aiohttp.ClientWebSocketResponse) -> None:
    """Returns when the WebSocket has ended."""
    while (await opened.receive()).type is aiohttp.WSMsgType.TEXT:
        pass
