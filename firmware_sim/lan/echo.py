"""A raw TCP echo that knows half-closed connections: it returns all it got, then ends its side."""

import asyncio
from contextlib import suppress

from firmware_sim.lan.listening import LOOPBACK, Listening

CONNECTIONS_MAX = 1_024


async def listen() -> Listening:
    """Starts the echo."""
    living: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Echo(living), LOOPBACK, 0, backlog=256
    )

    async def close() -> None:
        server.close()
        for transport in list(living):
            transport.abort()
        await server.wait_closed()

    return Listening(server.sockets[0].getsockname()[1], close)


class _Echo(asyncio.Protocol):
    def __init__(self, living: set[asyncio.Transport]) -> None:
        self._living = living
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self._living) >= CONNECTIONS_MAX:
            transport.abort()
            return
        self._transport = transport
        self._living.add(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def eof_received(self) -> bool:
        # The default would drop what is still to be written; the transport ends after that.
        if self._transport is not None:
            with suppress(OSError):  # the visitor is already gone altogether
                self._transport.write_eof()
            self._transport.close()
        return True

    def pause_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._living.discard(self._transport)
