"""What follows a 101: raw bytes both ways, so that WebSockets pass exactly as they are."""

import asyncio

from broker.relay.upstream import GOODBYE_S, Connection
from broker.relay.web_front import VisitorProtocol


class _Half(asyncio.Protocol):
    """One side's protocol: it writes into the other's transport and slows its own down for it."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self._done = done
        self.peer: asyncio.Transport | None = None  # set before any byte can come

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.write(data)

    def eof_received(self) -> bool:
        return False  # after its end a WebSocket has nothing to say in the other direction

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.peer.close()  # what was written still goes out
        if not self._done.done():
            self._done.set_result(None)


class _VisitorHalf(_Half):
    """Tells aiohttp's protocol, which began the connection, of its end."""

    def __init__(self, done: asyncio.Future[None], front: VisitorProtocol) -> None:
        super().__init__(done)
        self._front = front

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._front.connection_lost(exc)


async def bridge(front: VisitorProtocol, head: bytes, connection: Connection) -> None:
    """Sends the head of the 101, then carries bytes until one side ends."""
    device_transport = connection.protocol.transport
    if device_transport is None:
        raise ConnectionResetError("the target has gone")
    done = asyncio.get_running_loop().create_future()
    visitor, device = _VisitorHalf(done, front), _Half(done)
    transport, tail = front.take_over(visitor)
    visitor.peer, device.peer = device_transport, transport
    try:
        transport.write(head + connection.switch(device))
        if tail:
            device_transport.write(tail)
        transport.resume_reading()
        device_transport.resume_reading()
        await done
    finally:
        close_soon(transport)
        device_transport.close()


def close_soon(transport: asyncio.Transport) -> None:
    """Closes a visitor's connection after what was written, but waits for no stalled reader."""
    transport.close()
    asyncio.get_running_loop().call_later(GOODBYE_S, transport.abort)
