"""The channel: numbered frames, kept until the other side says that it has taken them.

Positions count the bytes of numbered frames, headers included, from 0. A side acknowledges what
its stream layer has taken into memory, never what a socket has consumed: one stalled reader would
otherwise freeze all streams.
"""

from collections import deque

from wire.budget import Budget
from wire.frames import Kind, LinkError, count_frame

ACK_BYTES = 64 * 1024
ACK_S = 0.02
REPLAY_BYTES_FIRST = 1024 * 1024
REPLAY_BYTES_MAX = 8 * 1024 * 1024
ROOM_BYTES_LEAST = 4 * 1024
CONTROL_BYTES_MAX = 64 * 1024


class Channel:
    """One direction's sent frames and the other's count; it neither reads clocks nor writes."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bound = REPLAY_BYTES_FIRST
        self._kept: deque[tuple[bytes, bool]] = deque()  # a frame, and whether it is control
        self._control_bytes = 0
        self._starved = False
        self._peak = 0  # most that was unacknowledged in this round trip
        self._mark = 0  # the round trip ends when so much is acknowledged
        self._reported = 0
        self.sent = 0
        self.acknowledged = 0
        self.received = 0

    @property
    def unacknowledged(self) -> int:
        """Bytes sent that the other side has not confirmed."""
        return self.sent - self.acknowledged

    def room(self) -> int:
        """How many bytes of frames with data may be sent now; asked when there are some."""
        left = self._bound - self.unacknowledged
        if left >= ROOM_BYTES_LEAST:
            return left
        self._starved = True
        return 0  # frames of a few bytes would only cost

    def send(self, frame: bytes, *, control: bool) -> None:
        """Numbers a frame. Control frames may exceed the bound, but only by so much.

        Raises `LinkError` when the other side lets control frames pile up.
        """
        self.sent += len(frame)
        self._peak = max(self._peak, self.unacknowledged)
        self._kept.append((frame, control))
        if control:
            self._control_bytes += len(frame)
            if self._control_bytes > CONTROL_BYTES_MAX:
                raise LinkError("control frames are not acknowledged")

    def confirm(self, count: int) -> None:
        """The other side has taken everything up to this position. Raises `LinkError`."""
        if not self.acknowledged <= count <= self.sent:
            raise LinkError("acknowledged what was never sent, or less than before")
        while self.acknowledged < count:
            frame, control = self._kept.popleft()
            self.acknowledged += len(frame)
            if control:
                self._control_bytes -= len(frame)
        if self.acknowledged != count:
            raise LinkError("acknowledged a part of a frame")
        if self._starved:
            # The path holds more than the bound: twice as much, from what is free.
            self._bound += self._budget.share(min(self._bound, REPLAY_BYTES_MAX - self._bound))
            self._starved = False
        elif count >= self._mark:
            self._shrink(max(REPLAY_BYTES_FIRST, min(self._bound, 2 * self._peak)))
            self._mark, self._peak = self.sent, self.unacknowledged

    def rest(self) -> None:
        """Called now and then: of a path at rest nothing is kept beyond the first bound."""
        if not self._kept:
            self.close()

    def close(self) -> None:
        """Gives back what is beyond the first bound."""
        self._shrink(REPLAY_BYTES_FIRST)

    def _shrink(self, bound: int) -> None:
        """What a long path needed and this one does not: others may have it, at once."""
        self._budget.give(self._bound - bound)
        self._bound = bound

    def take(self, size: int) -> bool:
        """A numbered frame was taken into memory; whether an ACK is due at once."""
        self.received += size
        return self.received - self._reported >= ACK_BYTES

    @property
    def owes_ack(self) -> bool:
        """Whether the other side does not know yet how much was taken."""
        return self.received != self._reported

    def ack(self) -> bytes:
        """The ACK frame."""
        self._reported = self.received
        return count_frame(Kind.ACK, self.received)

    def state(self) -> int:
        """How much was taken, as a hello says it: no ACK is owed for that."""
        self._reported = self.received
        return self.received

    def resume(self, count: int) -> deque[bytes]:
        """What to send again to a side that says it has taken so much. Raises `LinkError`."""
        self.confirm(count)
        return deque(frame for frame, _ in self._kept)
