"""A splice reads much at once, and makes whole frames of it; timers of no delay go first."""

import asyncio

import pytest

from tests.unit.link_pair import Pair
from wire.frames import PAYLOAD_BYTES_MAX
from wire.splice import READ_BYTES, Splice
from wire.stream import QUEUE_BYTES_FEW, QUEUE_BYTES_MANY, QUEUE_BYTES_MAX
from wire.transport import later_of

BUFFER = memoryview(bytearray(READ_BYTES))


def spliced(pair: Pair) -> Splice:
    stream = pair.open().stream
    assert stream is not None
    stream.user = splice = Splice(stream, BUFFER)
    return splice


@pytest.mark.parametrize("size", [1, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, READ_BYTES])
def test_what_is_read_at_once_goes_out_in_whole_frames(size: int) -> None:
    pair = Pair()
    splice = spliced(pair)
    pair.world.run(0.1)
    assert len(splice.get_buffer(-1)) == READ_BYTES
    BUFFER[:size] = data = bytes(number % 251 for number in range(size))
    splice.buffer_updated(size)
    BUFFER[:size] = bytes(size)  # lent to all: what was read is held elsewhere
    assert splice.stream.queued == size
    pieces = []
    while splice.stream.queued:
        pieces.append(splice.stream.pop(PAYLOAD_BYTES_MAX))
    assert b"".join(pieces) == data
    assert [len(one) for one in pieces[:-1]] == [PAYLOAD_BYTES_MAX] * ((size - 1) // len(pieces[0]))


@pytest.mark.parametrize(
    ("streams", "room"),
    [
        *((1, QUEUE_BYTES_MAX), (4, QUEUE_BYTES_MAX), (5, QUEUE_BYTES_FEW)),
        *((64, QUEUE_BYTES_FEW), (65, QUEUE_BYTES_MANY), (256, QUEUE_BYTES_MANY)),
    ],
)
def test_the_more_streams_there_are_the_less_each_may_queue(streams: int, room: int) -> None:
    pair = Pair()
    splices = [spliced(pair) for _ in range(streams)]
    assert {one.stream.room for one in splices} == {room}
    assert all(len(one.get_buffer(-1)) == room for one in splices)


async def test_a_timer_of_no_delay_goes_before_those_that_have_one() -> None:
    loop = asyncio.get_running_loop()
    later, calls, done = later_of(loop), list[str](), asyncio.Event()
    loop.call_later(0, calls.append, "timer")
    later(0.001, done.set)
    later(0, lambda: calls.append("soon"))
    later(0, lambda: calls.append("never")).cancel()
    await done.wait()
    assert calls == ["soon", "timer"]
