"""One stream: a TCP connection's bytes in both directions, each with a window and an end.

A window is how much the other side may send before this side's socket has taken it. It begins
small, is counted against the session's budget when granted, and grows towards twice of what the
path carries in one round trip.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from wire.frames import PAYLOAD_BYTES_MAX, Kind, LinkError, reason_frame, window_frame

if TYPE_CHECKING:
    from wire.streams import Streams

WINDOW_BYTES_LEAST = 16 * 1024  # always granted, also when the budget is exhausted
WINDOW_BYTES_FIRST = 64 * 1024
WINDOW_BYTES_PROVED = 256 * 1024
WINDOW_BYTES_LARGE = 1024 * 1024
WINDOW_BYTES_MAX = 8 * 1024 * 1024
HELD_BACK = 4  # at most this part of a window waits to be said
QUEUE_BYTES_MAX = PAYLOAD_BYTES_MAX  # one frame
QUEUE_BYTES_MANY = 24 * 1024  # of each, where there are more streams than a few
QUEUE_BYTES_FAST = 4 * PAYLOAD_BYTES_MAX  # where there are very few, and the other side reads
QUEUE_PART_LOW = 4  # its user may go on when only this part of a full queue is left
STREAMS_FEW = 64
STREAMS_VERY_FEW = 8
SMALL_BYTES = 1_400  # a keystroke, a reply: sent before what is long


class User(Protocol):
    """What a stream leads to on this side: a socket, mostly."""

    def stream_data(self, data: bytes) -> None:
        """Bytes came; `Stream.took` says when they have gone on."""

    def stream_finished(self) -> None:
        """The other side will send no more."""

    def stream_ended(self, reason: str) -> None:
        """Reset, refused, or the link is gone; nothing follows."""

    def stream_room(self) -> None:
        """`Stream.room` is above 0 again."""


class Stream:
    """One connection. Its user is set by whoever opens or accepts it."""

    __slots__ = (
        "_consumed",
        "_epoch_consumed",
        "_epoch_s",
        "_finishing",
        "_full",
        "_granted",
        "_prepaid",
        "_queue",
        "_queued",
        "_streams",
        "_taken",
        "_window",
        "allowed",
        "arrived",
        "ended",
        "finished_here",
        "finished_there",
        "number",
        "released",
        "sent",
        "user",
        "wait_s",
    )

    def __init__(self, streams: "Streams", number: int, taken: int, allowed: int) -> None:
        self._streams = streams
        self.number = number
        self.user: User | None = None
        self.wait_s = 0.0  # so long its user waits before reaching the target
        self.released: Callable[[], None] | None = None  # told once, however the stream ends
        self.ended = False
        self.finished_here = False
        self.finished_there = False
        self.arrived = 0
        self.sent = 0
        self.allowed = allowed
        self._taken = taken  # of the budget
        self._window = max(taken, WINDOW_BYTES_LEAST)
        self._granted = self._window
        self._prepaid = 0  # let through and counted by the rate, and not arrived yet
        self._consumed = 0
        self._epoch_s: float | None = None
        self._epoch_consumed = 0
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._full = False
        self._finishing = False

    # For the user

    @property
    def room(self) -> int:
        """How many bytes may be written now; what comes from a socket waits there otherwise."""
        most = self._queue_bytes_max()
        left = most - self._queued
        if left < most // QUEUE_PART_LOW:
            # Frames of a few bytes would cost as much as long ones.
            self._full = True
            return 0
        return left

    def _queue_bytes_max(self) -> int:
        streams = len(self._streams)
        if streams > STREAMS_FEW:
            return QUEUE_BYTES_MANY
        if streams > STREAMS_VERY_FEW:
            return QUEUE_BYTES_MAX
        # What is read at once costs least. Behind a reader that stops the queue stays short.
        let_through = (self.allowed - self.sent) // PAYLOAD_BYTES_MAX * PAYLOAD_BYTES_MAX
        return min(max(QUEUE_BYTES_MAX, let_through), QUEUE_BYTES_FAST)

    @property
    def queued(self) -> int:
        """Bytes written that were not sent yet."""
        return self._queued

    def write(self, data: bytes) -> None:
        """Queues bytes for the other side; those of an ended stream are dropped."""
        if self.ended or self._finishing or not data:
            return
        self._queue.append(data)
        self._queued += len(data)
        self._streams.ready(self)

    def finish(self) -> None:
        """No more bytes will be written; what is queued is sent first."""
        if not self.ended and not self._finishing:
            self._finishing = True
            self._streams.ready(self)

    def reset(self, reason: str) -> None:
        """Ends both directions at once; what is queued is dropped."""
        if self.ended:
            self.discard()
            return
        self._streams.control(reason_frame(Kind.RESET, self.number, reason))
        self._streams.forget(self)

    def refuse(self, reason: str) -> None:
        """Instead of accepting: the target was not reached."""
        if not self.ended:
            self._streams.control(reason_frame(Kind.REFUSED, self.number, reason))
            self._streams.forget(self)

    def discard(self) -> None:
        """Of what came nothing is held any more. To be called by who gives up an ended stream."""
        if self.ended:
            self.took(self.arrived - self._consumed)

    def took(self, size: int) -> None:
        """The user's socket has taken bytes of the other side, which may send as many more."""
        if not size:
            return
        if self.ended:
            self._consumed = min(self._consumed + size, self.arrived)
            self._give_rest()
            return
        self._consumed += size
        assert self._consumed <= self.arrived
        self._measure()
        self._renew()

    def _renew(self) -> None:
        """Lets the other side send more, once that is worth a frame and the rate allows it."""
        # What is held back here slows the other side down, and the window would never be seen full.
        held_back = self._consumed + self._window - self._granted
        if self.ended or self.finished_there or held_back < self._window // HELD_BACK:
            return
        rate = self._streams.from_there
        if rate is not None:
            if not rate.take(held_back, self._renew):
                return
            self._prepaid += held_back
        self._granted += held_back
        self._streams.control(window_frame(self.number, self._granted))

    def _measure(self) -> None:
        """Once in a round trip: the window grows towards twice of what was carried in it."""
        now_s, round_trip_s = self._streams.now_s(), self._streams.round_trip_s
        if self._epoch_s is None:
            self._epoch_s, self._epoch_consumed = now_s, self._consumed
        elapsed_s = now_s - self._epoch_s
        if elapsed_s < round_trip_s:
            return
        carried = (self._consumed - self._epoch_consumed) * round_trip_s / max(elapsed_s, 1e-6)
        # A small window hides what the path could carry, so one that has proved itself may grow
        # faster; a reader that never reads does not come so far.
        factor = 4 if WINDOW_BYTES_PROVED <= self._window < WINDOW_BYTES_LARGE else 2
        wanted = min(int(factor * carried), factor * self._window, WINDOW_BYTES_MAX)
        if wanted > self._window:
            more = self._streams.budget.share(wanted - self._window)
            self._taken += more
            self._window += more
        self._epoch_s, self._epoch_consumed = now_s, self._consumed

    # For the streams of the link

    def widen(self, window: int) -> None:
        """The first window, of which the other side knows only the least yet."""
        self._granted = max(self._granted, window)
        self._streams.control(window_frame(self.number, self._granted))

    def take_data(self, data: bytes) -> None:
        """DATA came. Raises `LinkError` for more than was granted."""
        self.arrived += len(data)
        if self.arrived > self._granted or self.finished_there:
            raise LinkError("data beyond the window, or after the end")
        if self._streams.from_there is not None:
            # Of what was let through before it is counted already; of the first window it is not.
            paid = min(self._prepaid, len(data))
            self._prepaid -= paid
            self._streams.from_there.charge(len(data) - paid)
        if self.user is not None:
            self.user.stream_data(data)

    def sendable(self) -> int:
        """How many queued bytes the other side's window lets through."""
        return min(self._queued, self.allowed - self.sent)

    @property
    def wants_turn(self) -> bool:
        """Whether it has something to send that it may send."""
        return not self.ended and (
            self.sendable() > 0 or (self._finishing and not self._queued and not self.finished_here)
        )

    @property
    def small(self) -> bool:
        """Whether all that waits is little."""
        return self._queued <= SMALL_BYTES

    def pop(self, size: int) -> bytes:
        """The next bytes to send, at most so many."""
        head = self._queue.popleft()
        if len(head) > size:
            self._queue.appendleft(head[size:])
            head = head[:size]
        self._queued -= len(head)
        self.sent += len(head)
        return head

    def drained(self) -> None:
        """After sending: the user may go on."""
        if self._full and self._queued <= self._queue_bytes_max() // QUEUE_PART_LOW:
            self._full = False
            if self.user is not None:
                self.user.stream_room()

    @property
    def last(self) -> bool:
        """Whether all bytes are sent and the end is to be said."""
        return self._finishing and not self._queued and not self.finished_here

    def release(self, *, keep: bool = False) -> int:
        """Ends it here; how much of the budget goes back.

        With `keep` bytes that its user holds stay counted, and so does the stream, until they are
        taken: who does not read could otherwise pile up one ended stream upon the other.
        """
        self.ended = True
        if self._streams.from_there is not None:
            self._streams.from_there.charge(-self._prepaid)
            self._prepaid = 0
        self._queue.clear()
        self._queued = 0
        kept = min(self._taken, self.arrived - self._consumed) if keep else 0
        given, self._taken = self._taken - kept, kept
        if not kept:
            self._tell_released()
        return given

    def _give_rest(self) -> None:
        if self._taken and self._consumed == self.arrived:
            taken, self._taken = self._taken, 0
            self._streams.budget.give(taken)
            self._tell_released()

    def _tell_released(self) -> None:
        released, self.released = self.released, None
        if released is not None:
            released()
