"""One connection through the network: two sockets and a pipe each way."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from functools import partial
from random import Random

from firmware_sim.network.buffers import Pool
from firmware_sim.network.faults import Faults
from firmware_sim.network.pipe import End, Pipe

# How long a side that was cut may take to hang up too, before its socket is closed anyway.
HANG_UP_S_MAX = 1.0
# As on a mobile network: the 64 KiB segments of loopback do not pass through a small window.
SEGMENT_BYTES = 1_400
_RESET = struct.pack("ii", 1, 0)
_DISCARDED_BYTES = 64 * 1024

Address = tuple[socket.AddressFamily, tuple[str, int]]


class Connection:
    """Lives from `accept` until both sockets are closed; `gone` hears of that once."""

    def __init__(
        self,
        client: socket.socket,
        to_server: Faults,
        to_client: Faults,
        pool: Pool,
        rng: Random,
        in_flight_bytes_max: int,
        gone: Callable[["Connection"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._server: socket.socket | None = None
        self._dialling = False
        self._gone = gone
        self._closed = False
        self._fins = 0
        self._closing: asyncio.TimerHandle | None = None
        self._hanging_up: set[socket.socket] = set()
        limit = in_flight_bytes_max
        self._up = Pipe(to_server, pool, rng, limit, partial(self._ended, upwards=True))
        self._down = Pipe(to_client, pool, rng, limit, partial(self._ended, upwards=False))
        set_up(client)
        self._up.read_from(client)

    def dial(
        self, family: socket.AddressFamily, address: tuple[str, int], source: str = ""
    ) -> None:
        """Connects to the server behind; what the client says meanwhile is kept.

        The server sees `source` as the client's address; without one, what the system takes.
        """
        self._server = socket.socket(family, socket.SOCK_STREAM)
        set_up(self._server)
        if source:
            self._server.bind((source, 0))
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        code = self._server.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.reset()
            return
        self._dialling = True
        self._loop.add_writer(self._server, self._dialled)

    def _dialled(self) -> None:
        assert self._server is not None
        self._stop_dialling()
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset()
            return
        self._down.write_to(self._client)
        self._down.read_from(self._server)
        self._up.write_to(self._server)

    def _stop_dialling(self) -> None:
        if self._dialling and self._server is not None:
            self._dialling = False
            self._loop.remove_writer(self._server)

    def _ended(self, end: End, *, upwards: bool) -> None:
        back = self._down if upwards else self._up
        if end is End.RESET:
            self.reset()
        elif end is End.BROKEN:
            # What the broken side said before still travels, and its end comes behind that.
            back.source_broken = True
            if back.source_over:
                back.end_with_reset()
        else:
            self._fins += 1
            if self._fins == 2:
                self.close()

    def heed(self) -> None:
        """Looks at changed faults again."""
        self._up.heed()
        self._down.heed()

    @property
    def beyond_repair(self) -> bool:
        """Whether bytes of it were swallowed, or it never reached the server."""
        return self._server is None or self._up.lossy or self._down.lossy

    def reset(self) -> None:
        """Ends both sides with RST."""
        if self._closed:
            return
        for side in self._sides():
            # On a socket that the other side has already torn down, this changes nothing.
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def cut(self) -> None:
        """Ends both sides with FIN, and reads what they still say so that no RST follows."""
        if self._closed or self._closing is not None:
            return
        self._let_go()
        self._closing = self._loop.call_later(HANG_UP_S_MAX, self.close)
        for side in self._sides():
            try:
                side.shutdown(socket.SHUT_WR)
            except OSError:
                continue  # it is gone already
            self._hanging_up.add(side)
            self._loop.add_reader(side, self._discard, side)
        if not self._hanging_up:
            self.close()

    def _discard(self, side: socket.socket) -> None:
        try:
            if side.recv(_DISCARDED_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass  # it ended in its own way
        self._loop.remove_reader(side)
        self._hanging_up.discard(side)
        if not self._hanging_up:
            self.close()

    def close(self) -> None:
        """Closes both sockets at once."""
        if self._closed:
            return
        self._closed = True
        self._let_go()
        for side in self._hanging_up:
            self._loop.remove_reader(side)
        self._hanging_up.clear()
        if self._closing is not None:
            self._closing.cancel()
        for side in self._sides():
            side.close()
        self._gone(self)

    def _let_go(self) -> None:
        self._stop_dialling()
        self._up.close()
        self._down.close()

    def _sides(self) -> list[socket.socket]:
        return [side for side in (self._client, self._server) if side is not None]


def set_up(side: socket.socket) -> None:
    """What every socket of the network is: not waiting, and not collecting small pieces."""
    side.setblocking(False)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
