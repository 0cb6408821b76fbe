"""A stream's queue and a socket before it: whole frames, and no more than is read beyond."""

import pytest

from tests.unit.link_pair import Pair, Sink
from wire.frames import PAYLOAD_BYTES_MAX, FrameReader, Kind
from wire.splice import READ_BYTES, Splice
from wire.stream import (
    QUEUE_BYTES_FAST,
    QUEUE_BYTES_MANY,
    QUEUE_BYTES_MAX,
    QUEUE_PART_LOW,
    STREAMS_FEW,
    STREAMS_VERY_FEW,
    Stream,
)

MIB = 1 << 20


def stream_of(sink: Sink) -> Stream:
    assert sink.stream is not None
    return sink.stream


def fast(pair: Pair) -> Sink:
    """A stream whose far side has read so much that its window is large."""
    sink = pair.open()
    sink.send(bytes(20 * MIB))
    pair.world.run(10)
    assert len(pair.accepted[-1].got) == 20 * MIB
    return sink


class Waiting(Sink):
    """Notes how much was queued whenever it may go on."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.told: list[int] = []

    def stream_room(self) -> None:
        assert self.stream is not None
        self.told.append(self.stream.queued)


def test_what_a_socket_gave_at_once_travels_in_whole_frames() -> None:
    pair = Pair(delay_s=0.05)
    stream = stream_of(fast(pair))
    buffer = memoryview(bytearray(READ_BYTES))
    splice = Splice(stream, buffer)
    stream.user = splice
    pair.there.recording = True
    lent = splice.get_buffer(-1)
    assert len(lent) == READ_BYTES == 4 * PAYLOAD_BYTES_MAX
    lent[:] = bytes(range(256)) * (len(lent) // 256) + bytes(len(lent) % 256)
    told = bytes(lent)
    splice.buffer_updated(len(lent))
    lent[:] = bytes(len(lent))  # the buffer is lent to the next socket
    pair.world.run(0.02)
    sent = [one for one in FrameReader().feed(pair.there.carried) if one.kind == Kind.DATA]
    assert [len(one.payload) for one in sent] == 4 * [PAYLOAD_BYTES_MAX]
    pair.world.run(1)
    assert pair.accepted[0].got[-len(told) :] == told


def test_the_queue_is_long_only_where_the_other_side_reads_and_few_share_the_memory() -> None:
    pair = Pair(delay_s=0.05)
    new = pair.open()
    assert stream_of(new).room == QUEUE_BYTES_MAX
    stream = stream_of(fast(pair))
    assert stream.room == QUEUE_BYTES_FAST
    others = [pair.open() for _ in range(STREAMS_VERY_FEW - 1)]
    assert stream.room == QUEUE_BYTES_MAX
    others += [pair.open() for _ in range(STREAMS_FEW - STREAMS_VERY_FEW)]
    assert stream.room == QUEUE_BYTES_MANY
    for other in others:
        stream_of(other).reset("reset")
    assert stream.room == QUEUE_BYTES_FAST


def test_behind_a_reader_that_stops_the_queue_is_one_frame_long() -> None:
    pair = Pair(delay_s=0.05)
    sink = fast(pair)
    pair.accepted[0].greedy = False
    sink.send(bytes(40 * MIB))
    pair.world.run(10)
    stream = stream_of(sink)
    assert stream.sendable() == 0 and stream.room <= QUEUE_BYTES_MAX
    assert stream.queued <= QUEUE_BYTES_FAST
    stream._queue.clear()
    stream._queued = 0
    assert stream.room == QUEUE_BYTES_MAX


@pytest.mark.parametrize("left", [1, QUEUE_BYTES_MAX // QUEUE_PART_LOW - 1])
def test_a_nearly_full_queue_is_full_until_most_of_it_has_gone(left: int) -> None:
    pair = Pair(delay_s=0.05)
    stream = stream_of(pair.open())
    stream.user = waiting = Waiting(stream)
    stream.write(bytes(QUEUE_BYTES_MAX - left))
    assert stream.room == 0
    pair.world.run(5)
    assert waiting.told and waiting.told[0] <= QUEUE_BYTES_MAX // QUEUE_PART_LOW
    assert stream.room == QUEUE_BYTES_MAX
