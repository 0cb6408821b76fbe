"""Two links joined by a simulated wire: a clock that only moves when told, bytes cut anywhere."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from wire.budget import Budget
from wire.link import Link
from wire.stream import Stream


class Call:
    """A call that waits for the clock."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class World:
    """The clock and everything that waits for it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Call]] = []

    def clock(self) -> float:
        return self.now_s

    def later(self, delay_s: float, call: Callable[[], None]) -> Call:
        waiting = Call(call)
        heapq.heappush(self._waiting, (self.now_s + delay_s, next(self._order), waiting))
        return waiting

    def run(self, for_s: float) -> None:
        """Everything that is due within so many seconds."""
        until_s = self.now_s + for_s
        while self._waiting and self._waiting[0][0] <= until_s:
            at_s, _, waiting = heapq.heappop(self._waiting)
            self.now_s = max(self.now_s, at_s)
            if waiting.call is not None:
                waiting.call()
        self.now_s = until_s


class Wire:
    """One direction: delivers after a delay, in pieces that a dice chooses; a transport."""

    def __init__(self, world: World, delay_s: float, rng: Random | None = None) -> None:
        self._world = world
        self._delay_s = delay_s
        self._rng = rng
        self._closing = False
        self.carried = bytearray()
        self.recording = False
        self.bytes = 0
        self.receive: Callable[[bytes], None] = lambda data: None
        self.lost: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        assert not self._closing
        self.bytes += len(data)
        if self.recording:
            self.carried += data
        for piece in self._pieces(data):
            self._world.later(self._delay_s, partial(self._deliver, piece))

    def _deliver(self, piece: bytes) -> None:
        self.receive(piece)

    def _pieces(self, data: bytes) -> list[bytes]:
        if self._rng is None:
            return [data]
        pieces, position = [], 0
        while position < len(data):
            size = self._rng.choice((1, 2, 7, 8, 9, 100, 4_096, 65_536))
            pieces.append(data[position : position + size])
            position += size
        return pieces

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True


class Sink:
    """A stream's user that keeps what comes and takes it when it is told to."""

    def __init__(self, *, greedy: bool = True) -> None:
        self.stream: Stream | None = None
        self.greedy = greedy
        self.got = bytearray()
        self.held = 0
        self.finished = False
        self.ended = ""
        self._to_write: deque[memoryview] = deque()
        self._finish = False

    def stream_data(self, data: bytes) -> None:
        self.got += data
        if self.greedy:
            assert self.stream is not None
            self.stream.took(len(data))
        else:
            self.held += len(data)

    def take_all(self) -> None:
        assert self.stream is not None
        held, self.held = self.held, 0
        self.stream.took(held)

    def stream_finished(self) -> None:
        assert not self.finished and not self.ended
        self.finished = True

    def stream_ended(self, reason: str) -> None:
        assert not self.ended
        self.ended = reason

    def stream_room(self) -> None:
        self.pump()

    def send(self, data: bytes, *, finish: bool = False) -> None:
        """As a socket does: no more at a time than there is room for."""
        self._to_write.append(memoryview(data))
        self._finish = self._finish or finish
        self.pump()

    @property
    def closing(self) -> bool:
        """Whether its last byte was handed in already."""
        return self._finish

    def pump(self) -> None:
        assert self.stream is not None
        while self._to_write and (room := self.stream.room) > 0:
            head = self._to_write.popleft()
            if len(head) > room:
                self._to_write.appendleft(head[room:])
            self.stream.write(bytes(head[:room]))
        if self._finish and not self._to_write:
            self.stream.finish()


class Pair:
    """`near` opens streams, `far` accepts them with a sink each."""

    def __init__(
        self,
        *,
        delay_s: float = 0.05,
        rng: Random | None = None,
        near_bytes: int = 15 << 20,
        far_bytes: int = 7 << 20,
        greedy: bool = True,
        opens_per_s: float = 50.0,
    ) -> None:
        self.world = World()
        self.there = Wire(self.world, delay_s, rng)
        self.back = Wire(self.world, delay_s, rng)
        self.ends: dict[str, str] = {}
        self.accepted: list[Sink] = []
        self.greedy = greedy
        self.near_budget, self.far_budget = Budget(near_bytes), Budget(far_bytes)
        self.near = Link(
            self.there,
            budget=self.near_budget,
            clock=self.world.clock,
            later=self.world.later,
            on_end=lambda reason: self.ends.__setitem__("near", reason),
        )
        self.far = Link(
            self.back,
            budget=self.far_budget,
            clock=self.world.clock,
            later=self.world.later,
            on_end=lambda reason: self.ends.__setitem__("far", reason),
            on_open=self._accept,
            opens_per_s=opens_per_s,
        )
        self.there.receive, self.back.receive = self.far.receive, self.near.receive
        self.near.start()
        self.far.start()

    def _accept(self, stream: Stream) -> None:
        sink = Sink(greedy=self.greedy)
        sink.stream = stream
        stream.user = sink
        self.accepted.append(sink)

    def open(self, *, greedy: bool = True) -> Sink:
        sink = Sink(greedy=greedy)
        sink.stream = self.near.open(sink)
        return sink
