"""A TCP proxy that is a bad network, for tests and measurements.

    async with FaultProxy("127.0.0.1", server_port) as network:
        network.to_server.latency_ms = network.to_client.latency_ms = 50
        …  # programs dial 127.0.0.1, network.port
        network.cut()
        network.mend()

The handshake of a connection is not delayed: the first byte is the first that travels.
Latency does not limit throughput: each connection may have 64 MiB on the way in each direction,
and beyond that the network stops reading.
"""

import asyncio
import socket
from random import Random
from types import TracebackType
from typing import Self

from firmware_sim.network.buffers import Pool
from firmware_sim.network.connection import SEGMENT_BYTES, Connection
from firmware_sim.network.faults import Faults

IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024
CONNECTIONS_MAX = 4_096
_ACCEPTED_AT_ONCE_MAX = 64
_BACKLOG = 1_024
_ROAMING_ADDRESSES = 64_000


class FaultProxy:
    """Listens on `port` while entered; each connection is joined with one to the target.

    With `roaming` each of them comes from another address of the loopback network, as a router's
    does that was handed over to another cell; the target must be on loopback, with IPv4.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rng: Random | None = None,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
        in_flight_bytes_max: int = IN_FLIGHT_BYTES_MAX,
        connections_max: int = CONNECTIONS_MAX,
        roaming: bool = False,
    ) -> None:
        self.to_server = Faults()
        self.to_client = Faults()
        self.port = listen_port
        self.connections_made = 0
        self.connections_refused = 0  # for want of room
        self._target = (host, port)
        self._listen_host = listen_host
        self._rng = rng or Random(0)
        self._in_flight_bytes_max = in_flight_bytes_max
        self._connections_max = connections_max
        self._roaming = roaming
        self._pool = Pool()
        self._connections: set[Connection] = set()
        self._place: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._family = socket.AF_INET
        self._address = (host, port)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        """Raises `OSError` when the names mean nothing or the port is taken."""
        self._loop = asyncio.get_running_loop()
        self._family, self._address = await self._resolve(*self._target)
        family, address = await self._resolve(self._listen_host, self.port)
        # Never listens: it keeps the port ours while the network is cut.
        self._place = bound(family, address)
        self._listen_family, self._listen_address = family, self._place.getsockname()[:2]
        self.port = self._listen_address[1]
        self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_listening()
        for connection in list(self._connections):
            connection.close()
        if self._place is not None:
            self._place.close()
            self._place = None

    def cut(self) -> None:
        """Drops every connection with FIN, what travels is lost; new ones are refused."""
        self._stop_listening()
        for connection in list(self._connections):
            connection.cut()

    def reset_all(self) -> None:
        """Drops every connection with RST; new ones are welcome."""
        for connection in list(self._connections):
            connection.reset()

    def black_hole(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Swallows what travels and what will, with ends and resets; new connections too.

        A connection that is silent towards the server does not reach it.
        """
        self.to_server.silent, self.to_client.silent = to_server, to_client
        self._heed()

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Nothing moves, nothing is lost: a radio without signal, where TCP tries again."""
        self.to_server.held, self.to_client.held = to_server, to_client
        self._heed()

    def mend(self) -> None:
        """Ends cut, black hole and hold. Connections that lost bytes are reset, others go on."""
        was_silent = self.to_server.silent or self.to_client.silent
        self.to_server.silent = self.to_client.silent = False
        self.to_server.held = self.to_client.held = False
        if was_silent:
            for connection in list(self._connections):
                if connection.beyond_repair:
                    connection.reset()
        self._heed()
        if self._place is not None and self._listener is None:
            self._listen()

    def _heed(self) -> None:
        for connection in list(self._connections):
            connection.heed()

    async def _resolve(self, host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return family, (str(address[0]), int(address[1]))

    def _listen(self) -> None:
        self._listener = bound(self._listen_family, self._listen_address)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTED_AT_ONCE_MAX):
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # nobody waits, or whoever did has left
            if len(self._connections) >= self._connections_max:
                self.connections_refused += 1
                client.close()
                continue
            self.connections_made += 1
            connection = Connection(
                client,
                self.to_server,
                self.to_client,
                self._pool,
                self._rng,
                self._in_flight_bytes_max,
                self._connections.discard,
            )
            self._connections.add(connection)
            if not self.to_server.silent:
                connection.dial(self._family, self._address, self._source())

    def _source(self) -> str:
        if not self._roaming:
            return ""
        third, fourth = divmod(self.connections_made % _ROAMING_ADDRESSES, 254)
        return f"127.7.{third}.{fourth + 1}"


def bound(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """A socket at this address that does not listen yet. Raises `OSError`."""
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setblocking(False)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
    except OSError:
        place.close()
        raise
    return place
