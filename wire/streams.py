"""The streams of one link: opened, limited, given their turn to send."""

from collections import deque
from collections.abc import Callable

from wire.budget import Budget
from wire.frames import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    STREAM_MAX,
    Frame,
    Kind,
    LinkError,
    count_of,
    encode,
    open_frame,
    reason_frame,
    reason_of,
    window_of,
)
from wire.rate import Rate
from wire.stream import WINDOW_BYTES_FIRST, WINDOW_BYTES_LEAST, Stream, User

# To the other side, and from there; None where there is no limit.
Rates = tuple[Rate | None, Rate | None]

UNLIMITED: Rates = (None, None)
STREAMS_MAX = 256
OPENS_PER_S = 50.0
OPENS_BURST = 200.0
OPENS_OWED_MAX = 1_000.0  # further behind than this is a flood
SHARED_FRAME_BYTES = 16 * 1024  # while several streams have something to send


class Streams:
    """All streams of one link. One side opens them, the other accepts."""

    def __init__(
        self,
        *,
        budget: Budget,
        clock: Callable[[], float],
        on_open: Callable[[Stream], None] | None,
        wake: Callable[[], None],
        send_control: Callable[[bytes], None],
        opens_per_s: float = OPENS_PER_S,
        rates: Rates = UNLIMITED,
    ) -> None:
        self.to_there, self.from_there = rates
        self._turn = False  # of those who share the rate to there
        self.budget = budget
        self.now_s = clock
        self.round_trip_s = 0.0
        self.control = send_control
        self._on_open = on_open
        self._wake = wake
        self._by_number: dict[int, Stream] = {}
        self._highest = 0
        self._opens_per_s = opens_per_s
        self._tokens = self._burst = max(OPENS_BURST, opens_per_s)
        self._tokens_at_s = clock()
        self._small: deque[Stream] = deque()  # go first
        self._ring: deque[Stream] = deque()
        self._waiting: set[int] = set()  # those in either
        self.opened = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def waiting(self) -> bool:
        """Whether a stream may have something to send."""
        return bool(self._waiting)

    # This side

    def open(self, user: User) -> Stream:
        """Opens a stream; data may follow at once. Raises `LinkError` at the limit."""
        if len(self._by_number) >= STREAMS_MAX or self._highest >= STREAM_MAX:
            raise LinkError("too many streams")
        self._highest += 1
        taken = self._first_share()
        stream = Stream(self, self._highest, taken, WINDOW_BYTES_LEAST)
        stream.user = user
        self._by_number[stream.number] = stream
        self.opened += 1
        self.control(open_frame(stream.number, max(taken, WINDOW_BYTES_LEAST)))
        return stream

    def _first_share(self) -> int:
        """The first window from the budget; the least is promised in any case."""
        more = self.budget.share(WINDOW_BYTES_FIRST - WINDOW_BYTES_LEAST)
        if more < WINDOW_BYTES_FIRST - WINDOW_BYTES_LEAST:
            self.budget.give(more)
            more = 0
        self.budget.take(WINDOW_BYTES_LEAST)
        return more + WINDOW_BYTES_LEAST

    def ready(self, stream: Stream) -> None:
        """The stream may have something to send."""
        if self._line_up(stream):
            self._wake()

    def forget(self, stream: Stream) -> None:
        """The stream is over on both sides; later frames of it are ignored."""
        if self._by_number.pop(stream.number, None) is not None:
            self.budget.give(stream.release())

    def _end_well(self, stream: Stream) -> None:
        """Both directions have ended; what its user has not taken yet goes on counting."""
        if self._by_number.pop(stream.number, None) is not None:
            self.budget.give(stream.release(keep=True))

    def end_all(self, reason: str) -> None:
        """The link is gone, and its streams with it; one user's mistake costs no other."""
        failures: list[Exception] = []
        for stream in list(self._by_number.values()):
            self.forget(stream)
            try:
                if stream.user is not None:
                    stream.user.stream_ended(reason)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised below
                failures.append(error)
        if failures:
            raise ExceptionGroup("users of streams failed", failures)

    def next_data(self, room: int) -> bytes | None:
        """The next DATA or FIN frame; None when nothing may go, or no `room` bytes are enough."""
        while self._small or self._ring:
            line = self._small or self._ring
            stream = line.popleft()
            self._waiting.discard(stream.number)
            if not stream.wants_turn:
                continue
            if stream.last:
                stream.finished_here = True
                if stream.finished_there:
                    self._end_well(stream)
                return encode(Kind.FIN, stream.number)
            most = SHARED_FRAME_BYTES if self._small or self._ring else PAYLOAD_BYTES_MAX
            size = min(stream.sendable(), most, room - HEADER_BYTES)
            if size <= 0:
                self._waiting.add(stream.number)
                line.appendleft(stream)
                return None
            if not self._may_go(stream):
                self._waiting.add(stream.number)
                self._ring.append(stream)
                if self._small:
                    continue  # who types does not wait
                return None
            data = stream.pop(size)
            if self.to_there is not None:
                self.to_there.charge(len(data))
            self.bytes_out += len(data)
            self._line_up(stream)
            stream.drained()
            return encode(Kind.DATA, stream.number, data)
        return None

    def _may_go(self, stream: Stream) -> bool:
        """A rate holds nobody up who types; that is counted all the same."""
        if self.to_there is None or stream.small:
            return True
        turn, self._turn = self._turn, False
        return turn or self.to_there.may_go(self._turn_came)

    def _turn_came(self) -> None:
        self._turn = True  # for one frame
        self._wake()

    def _line_up(self, stream: Stream) -> bool:
        """Round robin, but what is little goes first; whether it was not in line before."""
        if stream.number in self._waiting or not stream.wants_turn:
            return False
        self._waiting.add(stream.number)
        (self._small if stream.small else self._ring).append(stream)
        return True

    # The other side

    def take(self, frame: Frame) -> None:
        """A numbered frame came. Raises `LinkError`."""
        if frame.kind == Kind.OPEN:
            self._take_open(frame)
            return
        stream = self._by_number.get(frame.stream)
        if stream is None:
            if frame.stream > self._highest:
                raise LinkError("a frame for a stream that was never opened")
            return  # it crossed our end of the stream
        if frame.kind == Kind.DATA:
            self.bytes_in += len(frame.payload)
            stream.take_data(frame.payload)
        elif frame.kind == Kind.WINDOW:
            stream.allowed = max(stream.allowed, count_of(frame))
            self.ready(stream)
        elif frame.kind == Kind.FIN:
            self._take_fin(stream)
        elif frame.kind == Kind.REFUSED and self._on_open is not None:
            raise LinkError("refused a stream that it opened itself")
        else:
            self.forget(stream)
            if stream.user is not None:
                stream.user.stream_ended(reason_of(frame))

    def _take_fin(self, stream: Stream) -> None:
        if stream.finished_there:
            raise LinkError("a stream ended twice")
        stream.finished_there = True
        if stream.finished_here:
            self._end_well(stream)
        if stream.user is not None:
            stream.user.stream_finished()

    def _take_open(self, frame: Frame) -> None:
        if self._on_open is None:
            raise LinkError("this side opens the streams")
        if frame.stream <= self._highest:
            raise LinkError("a stream was opened twice, or out of order")
        self._highest = frame.stream
        wait_s = self._wait_s()
        if len(self._by_number) >= STREAMS_MAX:
            self.control(reason_frame(Kind.REFUSED, frame.stream, "busy"))
            return
        taken = self._first_share()
        stream = Stream(self, frame.stream, taken, window_of(frame))
        stream.wait_s = wait_s
        self._by_number[stream.number] = stream
        self.opened += 1
        if taken > WINDOW_BYTES_LEAST:
            stream.widen(taken)
        self._on_open(stream)

    def _wait_s(self) -> float:
        """A token bucket that may be owed something: who opens faster waits. Raises `LinkError`."""
        now_s = self.now_s()
        earned = (now_s - self._tokens_at_s) * self._opens_per_s
        self._tokens = min(self._burst, self._tokens + earned) - 1
        self._tokens_at_s = now_s
        if self._tokens < -OPENS_OWED_MAX:
            raise LinkError("a flood of opened streams")
        return max(0.0, -self._tokens / self._opens_per_s)
