"""The sessions of an agent without the rest of it, joined with a small relay over TLS."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from agent.clock import SystemClock
from agent.links.allow import parse_allow
from agent.links.sessions import Sessions
from agent.links.target import DialTarget
from agent.tls import device_context
from gateway.join.ca import KeyFiles
from tests.model_relay import ModelRelay, relay_keys, server_context
from wire.session_commands import LinkState, Open, Report, open_args
from wire.targets import parse_target

ALLOW = ("127.0.0.1:1-65535",)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Device:
    """The sessions of an agent without the rest of it; `reports` are taken as they come."""

    def __init__(self, keys: KeyFiles, relay: ModelRelay) -> None:
        self.keys = keys
        self.relay = relay
        self.reports: list[Report] = []
        self.resolved: list[str] = []
        self.names: dict[str, list[str]] = {}
        self.clock = ShiftedClock()
        self.allow: tuple[str, ...] = ALLOW
        self.dial: DialTarget | None = None
        self.tls = device_context(ca_file=keys.ca_certificate, check_dates=True)
        self.sessions: Sessions

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Device"]:
        self.sessions = Sessions(
            allow=parse_allow(self.allow),
            clock=self.clock,
            rng=Random(7),
            tls=lambda: self.tls,
            changed=self._changed,
            dial=self.dial,
            resolve=self._resolve,
        )
        async with asyncio.TaskGroup() as tasks:
            self.sessions.begin(tasks)
            yield self
            self.sessions.end_all("agent_stopping")

    def _changed(self) -> None:
        while (report := self.sessions.next_report()) is not None:
            self.reports.append(report)
            self.sessions.told(report)

    async def _resolve(self, name: str) -> list[str]:
        self.resolved.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.names[name]

    def order(self, target: str, session: int = 1, **changes: Any) -> Open:
        """A new ticket each time."""
        ticket = f"ticket-{os.urandom(8).hex()}"
        self.relay.tickets[ticket] = f"{session:032x}"
        order = Open(
            f"{session:032x}",
            "epoch-1",
            ticket,
            ("127.0.0.1",),
            self.relay.port,
            parse_target(target),
            3_600,
        )
        return order._replace(**changes)

    def open(self, target: str, session: int = 1, **changes: Any) -> dict[str, object]:
        return dict(self.sessions.open(open_args(self.order(target, session, **changes))))

    def said(self, *states: LinkState) -> Callable[[], bool]:
        return lambda: [report.link for report in self.reports] == list(states)


class ShiftedClock(SystemClock):
    """The machine's clock; time can be left out."""

    shift_ms = 0

    def boot_ms(self) -> int:
        return super().boot_ms() + self.shift_ms


@contextlib.asynccontextmanager
async def linked_device(folder: Path) -> AsyncIterator[Device]:
    """A device and the relay that it will be told of."""
    keys, relay = relay_keys(folder), ModelRelay()
    async with relay.listening(server_context(keys)):
        yield Device(keys, relay)


@contextlib.asynccontextmanager
async def serving(handler: Handler, *, limit: int | None = None) -> AsyncIterator[str]:
    """A TCP server on loopback, which may have small buffers; its address as a target."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass  # the other side ended it, as some tests want
        finally:
            writer.close()

    plain = socket.create_server(("127.0.0.1", 0), backlog=512)
    if limit is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limit)
    server = await asyncio.start_server(handle, sock=plain, limit=limit or 65_536)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.sleep(0.01)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def closed_port() -> int:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        return int(plain.getsockname()[1])
