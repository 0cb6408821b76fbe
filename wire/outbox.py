"""What a link sends next: answers before control frames, those before data, the lost before all."""

from collections import deque

from wire.channel import Channel
from wire.frames import Kind
from wire.streams import Streams

OUTPUT_BYTES = 128 * 1024  # written at once; small frames overtake what is not written yet


class Outbox:
    """Frames are numbered here, so that they are kept in the order in which they are sent."""

    def __init__(self, channel: Channel, streams: Streams) -> None:
        self._channel = channel
        self._streams = streams
        self._again: deque[bytes] = deque()
        self.urgent: deque[bytes] = deque()  # not numbered
        self.control: deque[bytes] = deque()
        self.ack: bytes | None = None  # the newest says what all before it said
        self.paused = False  # the transport holds enough

    def detach(self) -> None:
        """The connection is gone, and with it what answered its other side."""
        self._again.clear()
        self.urgent.clear()
        self.ack = None

    def attach(self, count: int) -> None:
        """There is another one; what was lost with the last goes first. Raises `LinkError`."""
        self._again = self._channel.resume(count)
        self.paused = False

    def next(self) -> tuple[list[bytes], int]:
        """What to write now, and how many bytes of that will be acknowledged."""
        chunks = self._answers()
        size = 0
        while size < OUTPUT_BYTES:
            frame = self._next_again() if self._again else self._next_numbered()
            if frame is None:
                break
            chunks.append(frame)
            size += len(frame)
        return chunks, size

    def _next_again(self) -> bytes | None:
        return None if self.paused else self._again.popleft()

    def _next_numbered(self) -> bytes | None:
        if self.control:
            frame = self.control.popleft()
            self._channel.send(frame, control=True)
            return frame
        if self.paused or not self._streams.waiting:
            return None
        data = self._streams.next_data(self._channel.room())
        if data is not None:
            self._channel.send(data, control=data[0] != Kind.DATA)
        return data

    def _answers(self) -> list[bytes]:
        """What is not numbered. It waits for the transport too: who asks and never reads would
        otherwise be answered into memory without end.
        """
        if self.paused:
            return []
        chunks = list(self.urgent)
        self.urgent.clear()
        if self.ack is not None:
            chunks.append(self.ack)
            self.ack = None
        return chunks
