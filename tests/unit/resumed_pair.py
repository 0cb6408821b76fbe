"""Two links whose connections break: an agent that dials again, and a relay that keeps channels."""

from collections.abc import Callable
from functools import partial
from random import Random

from tests.unit.link_pair import Sink, World
from wire.budget import Budget
from wire.frames import FrameReader, LinkError
from wire.hello import (
    FORGOTTEN,
    Answered,
    Hello,
    Resume,
    Word,
    answer_bytes,
    answered_of,
    greeting_of,
)
from wire.link import Link
from wire.resuming import Bearer, Keeper
from wire.stream import Stream

SESSION = "5" * 32
REDIAL_S = 0.2
DIAL_S_MAX = 10.0
ENDLESS = 1 << 60


class Way:
    """One direction of a connection: a transport that delivers so many bytes, then none."""

    def __init__(self, world: World, delay_s: float, most: int, rng: Random | None) -> None:
        self._world = world
        self._delay_s = delay_s
        self._rng = rng
        self.most = most
        self.carried = 0
        self.closing = False
        self.receive: Callable[[bytes], None] = lambda data: None
        self.spent: Callable[[], None] = lambda: None
        self.closed: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        while data:
            size = self._rng.choice((1, 7, 8, 9, 100, 4_096)) if self._rng else len(data)
            self._world.later(self._delay_s, partial(self._deliver, data[:size]))
            data = data[size:]

    def _deliver(self, data: bytes) -> None:
        left = self.most - self.carried
        data = data[:left]
        self.carried += len(data)
        if data:
            self.receive(data)
        if left and self.carried >= self.most:
            self.spent()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._world.later(self._delay_s, self._close_there)

    def _close_there(self) -> None:
        if self.carried < self.most:
            self.closed()

    def abort(self) -> None:
        self.close()


class Connection:
    """Both ways; `up` carries what the agent says."""

    def __init__(
        self,
        world: World,
        *,
        up: int = ENDLESS,
        down: int = ENDLESS,
        rng: Random | None = None,
        delay_s: float = 0.01,
    ) -> None:
        self._world = world
        self.up = Way(world, delay_s, up, rng)
        self.down = Way(world, delay_s, down, rng)
        self.up.spent = self.down.spent = self.cut
        self.lost: list[Callable[[], None]] = []
        self.up.closed = self.down.closed = self._tell

    def cut(self) -> None:
        """Nothing arrives any more, and both sides are told."""
        self.black_hole()
        self._world.later(0, self._tell)

    def black_hole(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self.up.most, self.down.most = self.up.carried, self.down.carried

    def _tell(self) -> None:
        calls, self.lost = self.lost, []
        for call in calls:
            call()


class RelayEnd:
    """Opens streams; keeps the channel while there is no connection."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keeper: Keeper | None = None
        self.budget = Budget(15 << 20)
        self.link: Link | None = None
        self.answers: list[Answered] = []
        self.away = 0
        self.ended: list[str] = []

    def accept(self, connection: Connection) -> None:
        reader, transport = FrameReader(), connection.down

        def receive(data: bytes) -> None:
            if self.link is not None and self.link.carries(transport):
                self.link.receive(data)
            elif not transport.closing and (frame := reader.first(data)) is not None:
                self._greet(connection, greeting_of(frame), reader)

        def lost() -> None:
            if self.link is not None and self.link.carries(transport):
                self.link.lost()

        connection.up.receive = receive
        connection.lost.append(lost)

    def _greet(self, connection: Connection, greeting: Hello | Resume, reader: FrameReader) -> None:
        transport = connection.down
        if isinstance(greeting, Hello):
            self._keeper = Keeper(greeting.secret)
            answered = self._begin(transport, reader, Word.WELCOME)
        else:
            refused: Answered | None = Answered(Word.UNKNOWN)
            if self._keeper is not None:
                refused = self._keeper.fence(greeting)
            if refused is not None:
                self.answers.append(refused)
                transport.write(answer_bytes(refused))
                transport.close()
                return
            answered = self._go_on(transport, reader, greeting.received)
        self.answers.append(answered)
        transport.write(answer_bytes(answered))
        assert self.link is not None
        self.link.start()

    def _go_on(self, transport: Way, reader: FrameReader, count: int) -> Answered:
        if self.link is not None and not self.link.ended and count != FORGOTTEN:
            taken = self.link.detach()
            try:
                self.link.attach(transport, reader, count)
            except LinkError:
                pass
            else:
                return Answered(Word.RESUMED, taken)
        return self._begin(transport, reader, Word.FRESH)

    def _begin(self, transport: Way, reader: FrameReader, word: Word) -> Answered:
        self.forget("link_replaced")
        self.link = Link(
            transport,
            budget=self.budget,
            clock=self._world.clock,
            later=self._world.later,
            on_end=self.ended.append,
            on_loss=self._lost,
            reader=reader,
        )
        return Answered(word)

    def _lost(self, reason: str) -> None:
        self.away += 1

    def forget(self, reason: str = "link_lost") -> None:
        """The channel was kept for long enough."""
        if self.link is not None:
            self.link.end(reason)
            self.link = None


class AgentEnd:
    """Dials, again and again, and accepts streams with a sink each."""

    def __init__(self, world: World, dial: Callable[[], Connection | None]) -> None:
        self._world = world
        self._dial = dial
        self._bearer = Bearer(b"s" * 32)
        self._dialling: Connection | None = None
        self.budget = Budget(7 << 20)
        self.link: Link | None = None
        self.accepted: list[Sink] = []
        self.doubts = 0
        self.ended: list[str] = []

    def dial(self) -> None:
        connection = self._dial()
        if connection is None:
            self._world.later(REDIAL_S, self.dial)
            return
        self._dialling = connection
        reader, transport = FrameReader(), connection.up

        def receive(data: bytes) -> None:
            if self.link is not None and self.link.carries(transport):
                self.link.receive(data)
            elif self._dialling is connection and (frame := reader.first(data)) is not None:
                self._dialling = None
                self._take(transport, reader, answered_of(frame))

        def waits() -> bool:
            return self._dialling is connection

        def lost() -> None:
            if self.link is not None and self.link.carries(transport):
                self.link.lost()
            elif waits():
                self._dialling = None
                self._world.later(REDIAL_S, self.dial)

        connection.down.receive = receive
        connection.lost.append(lost)
        self._world.later(DIAL_S_MAX, lambda: connection.cut() if waits() else None)
        transport.write(self._hello())

    def _hello(self) -> bytes:
        if not self._bearer.shown:
            return self._bearer.hello("ticket")
        if self.link is None:
            return self._bearer.resume(SESSION, 0 if not self.ended else FORGOTTEN)
        return self._bearer.resume(SESSION, self.link.detach())

    def _take(self, transport: Way, reader: FrameReader, answered: Answered) -> None:
        if answered.word is Word.UNKNOWN:
            self._bearer.shown = False
            self.dial()
            return
        if answered.word is Word.RESUMED and self.link is not None:
            self.link.attach(transport, reader, answered.received)
        else:
            assert answered.word in (Word.WELCOME, Word.FRESH, Word.RESUMED), answered
            assert answered.received == 0
            if self.link is not None:
                self.link.end("link_lost")
            self.link = Link(
                transport,
                budget=self.budget,
                clock=self._world.clock,
                later=self._world.later,
                on_end=self.ended.append,
                on_open=self._accept,
                on_loss=self._lost,
                on_doubt=self._doubt,
                reader=reader,
            )
        self.link.start()

    def _lost(self, reason: str) -> None:
        if self._dialling is None:
            self._world.later(REDIAL_S, self.dial)

    def _doubt(self) -> None:
        self.doubts += 1
        if self._dialling is None:
            self.dial()

    def _accept(self, stream: Stream) -> None:
        sink = Sink()
        sink.stream = stream
        stream.user = sink
        self.accepted.append(sink)


class Resumed:
    """An agent and a relay, and the connections between them, the next of which may be bad."""

    def __init__(
        self,
        *limits: tuple[int, int],
        rng: Random | None = None,
        delay_s: float = 0.01,
    ) -> None:
        self.world = World()
        self._rng = rng
        self._delay_s = delay_s
        self.reachable = True
        self._limits = list(limits)  # bytes up and down of the first connections
        self.connections: list[Connection] = []
        self.relay = RelayEnd(self.world)
        self.agent = AgentEnd(self.world, self._connect)
        self.agent.dial()

    def _connect(self) -> Connection | None:
        if not self.reachable:
            return None
        up, down = self._limits.pop(0) if self._limits else (ENDLESS, ENDLESS)
        connection = Connection(self.world, up=up, down=down, rng=self._rng, delay_s=self._delay_s)
        self.connections.append(connection)
        self.relay.accept(connection)
        return connection

    def open(self) -> Sink:
        assert self.relay.link is not None
        sink = Sink()
        sink.stream = self.relay.link.open(sink)
        return sink
