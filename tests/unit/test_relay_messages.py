"""What a relay sends on a visitor's WebSocket: whole messages, each by one write."""

import asyncio
from typing import cast

import pytest

from broker.connect.websocket import Opcode, Reader
from broker.relay.web_front import VisitorProtocol


class Taken:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing


def front(transport: Taken | None) -> VisitorProtocol:
    """Without the HTTP that comes before."""
    made = VisitorProtocol.__new__(VisitorProtocol)
    made.transport = cast(asyncio.Transport, transport)
    made._paused = False
    return made


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 200_000])
async def test_a_message_of_any_length_is_one_write_that_a_client_reads(size: int) -> None:
    transport, chunks = Taken(), [bytes(size // 2), b"x" * (size - size // 2)]
    await front(transport).send_message(chunks)
    assert len(transport.writes) == 1
    (piece,) = Reader().feed(transport.writes[0])
    assert piece == (Opcode.BINARY, b"".join(chunks))


async def test_nothing_is_written_to_a_visitor_who_has_gone() -> None:
    transport = Taken()
    transport.closing = True
    for one in (front(transport), front(None)):
        with pytest.raises(ConnectionError):
            await one.send_message([b"late"])
    assert not transport.writes
