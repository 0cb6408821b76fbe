"""The network of one simulated router as its agent dials it: real servers, started when asked."""

import asyncio
import errno
import importlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from firmware_sim.lan.facts import RouterFacts
from firmware_sim.lan.listening import LOOPBACK, Listening

if TYPE_CHECKING:
    from firmware_sim.lan.router_page import RouterPage

log = logging.getLogger(__name__)

ROUTER = "127.0.0.1"
ROUTER_LAN = "192.168.1.1"  # the same router, as its own LAN sees it
PLC = "192.168.1.50"
ECHO = "192.168.1.60"
SILENT = "192.168.1.61"  # drops every packet: whoever dials it waits for his own limit
REFUSING = "192.168.1.62"
METADATA = "169.254.169.254"  # not there; names lead to it so that a veto can be seen to work

# What the demo's routers let people reach.
ALLOW = ("router:22,80,443", "192.168.1.0/24:1-65535")

NAMES = {
    "localhost": (ROUTER,),
    "router.lan": (ROUTER_LAN,),
    "plc.lan": (PLC,),
    "echo.lan": (ECHO,),
    "silent.lan": (SILENT,),
    "refusing.lan": (REFUSING,),
    "metadata.lan": (METADATA,),
}
# Another answer each time, the way names are rebound to pass a check by.
FICKLE_NAME = "fickle.lan"
FICKLE_ADDRESSES = (PLC, METADATA)

_HOSTS = frozenset({ROUTER, PLC, ECHO, SILENT, REFUSING})
_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class SimulatedLan:
    """Dials and resolves for one router's agent.

    A server takes its port of the real loopback at the first connection to it, so a router that
    nobody visits costs nothing.
    """

    def __init__(self, folder: Path, facts: RouterFacts) -> None:
        self._folder = folder
        self._facts = facts
        self._listening: dict[tuple[str, int], Listening] = {}
        self._starting = asyncio.Lock()
        self._page: RouterPage | None = None
        self._fickle = 0
        self._starters: dict[tuple[str, int], Callable[[], Awaitable[Listening]]] = {
            (ROUTER, 80): self._start_page,
            (ROUTER, 443): self._start_page_tls,
            (ROUTER, 22): self._start_ssh,
            (PLC, 80): self._start_plc,
            (ECHO, 7777): self._start_echo,
        }

    async def dial(
        self, protocol_factory: Callable[[], _P], address: str, port: int
    ) -> tuple[asyncio.Transport, _P]:
        """Like the loop's `create_connection`. Raises `OSError`; a silent host never answers."""
        if address == ROUTER_LAN:
            address = ROUTER
        if address == SILENT:
            await asyncio.get_running_loop().create_future()
        if address not in _HOSTS:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH), address)
        if (address, port) not in self._starters:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), f"{address}:{port}"
            )
        listening = await self._started(address, port)
        return await asyncio.get_running_loop().create_connection(
            protocol_factory, LOOPBACK, listening.port
        )

    async def resolve(self, name: str) -> list[str]:
        """The addresses of a name of this LAN. Raises `OSError` for an unknown one."""
        if name == FICKLE_NAME:
            self._fickle += 1
            return [FICKLE_ADDRESSES[(self._fickle - 1) % len(FICKLE_ADDRESSES)]]
        if name not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "name not known in the simulated LAN")
        return list(NAMES[name])

    async def reboot(self) -> None:
        """The router's own servers end, with all connections and sign-ins; its LAN stays."""
        async with self._starting:
            await self._end([key for key in self._listening if key[0] == ROUTER])
            self._page = None

    async def close(self) -> None:
        """Ends everything; the next dial would start it again."""
        async with self._starting:
            await self._end(list(self._listening))
            self._page = None

    async def _end(self, keys: list[tuple[str, int]]) -> None:
        for key in keys:
            await self._listening.pop(key).close()

    async def _started(self, address: str, port: int) -> Listening:
        async with self._starting:
            listening = self._listening.get((address, port))
            if listening is None:
                listening = await self._starters[address, port]()
                self._listening[address, port] = listening
                log.info("serves target=%s:%d loopback_port=%d", address, port, listening.port)
            return listening

    # The servers' libraries are loaded at the first use, in a thread: a fleet starts without them.

    async def _start_page(self) -> Listening:
        return await (await self._router_page()).listen()

    async def _start_page_tls(self) -> Listening:
        page = await self._router_page()
        await _load("firmware_sim.lan.certificate")
        from firmware_sim.lan.certificate import server_context

        context = await asyncio.to_thread(
            server_context, self._folder, self._facts.hostname, (ROUTER, ROUTER_LAN)
        )
        return await page.listen(context)

    async def _router_page(self) -> "RouterPage":
        if self._page is None:
            await _load("firmware_sim.lan.router_page")
            from firmware_sim.lan.router_page import RouterPage

            self._page = RouterPage(self._facts)
        return self._page

    async def _start_ssh(self) -> Listening:
        await _load("firmware_sim.lan.ssh_server")
        from firmware_sim.lan.ssh_server import listen

        return await listen(self._folder, self._facts)

    async def _start_plc(self) -> Listening:
        await _load("firmware_sim.lan.plc_page")
        from firmware_sim.lan.plc_page import PlcPage

        return await PlcPage(self._facts.serial).listen()

    async def _start_echo(self) -> Listening:
        await _load("firmware_sim.lan.echo")
        from firmware_sim.lan.echo import listen

        return await listen()


async def _load(module: str) -> None:
    await asyncio.to_thread(importlib.import_module, module)
