"""A link: channel and streams over one connection, driven by whoever owns the connection.

It does no I/O of its own: bytes are handed to `receive`, go out by the transport's `write`, and
clock and timers are handed in. The hello has been spoken before (`wire.hello`).
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from wire.budget import Budget
from wire.channel import ACK_S, Channel
from wire.frames import (
    NUMBERED,
    Frame,
    FrameReader,
    Kind,
    LinkError,
    count_frame,
    count_of,
    reason_frame,
    reason_of,
)
from wire.stream import Stream, User
from wire.streams import OPENS_PER_S, Streams

TICK_S = 5.0
TICK_S_MIN = 0.1
QUIET_S = 15.0  # a quiet link is asked whether it lives
BUSY_PING_S = 0.5  # the round trip is measured so often while data flows
PROBE_S = 5.0
SILENCE_S_MAX = 15.0  # nothing heard for so long after something was asked: lost
OUTPUT_BYTES = 128 * 1024  # written at once; small frames overtake what is not written yet
PONGS_WAITING_MAX = 64


class Transport(Protocol):
    """What carries the bytes: asyncio's transports fit."""

    def write(self, data: bytes) -> None:
        """Sends, or keeps until it can."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""

    def close(self) -> None:
        """Ends the connection after what was written."""

    def abort(self) -> None:
        """Ends it at once."""


class Timer(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Never mind."""


Later = Callable[[float, Callable[[], None]], Timer]


class Link:
    """One side of a link, from the hello's end to the connection's.

    `on_open` accepts the streams that the other side opens and sets their user at once; without
    it this side opens them. `on_end` is called once, with a reason, when the link is over.

    After a goodbye of ours the connection is kept for up to `linger_s` seconds, so that what still
    comes in is read, until the other side has closed it. Where bytes come to a closed socket its
    system resets the connection (RFC 1122, 4.2.2.13), and the reset overtakes the goodbye.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        budget: Budget,
        clock: Callable[[], float],
        later: Later,
        on_end: Callable[[str], None],
        on_open: Callable[[Stream], None] | None = None,
        opens_per_s: float = OPENS_PER_S,
        reader: FrameReader | None = None,
        linger_s: float = 0.0,
    ) -> None:
        self._transport = transport
        self._linger_s = linger_s
        self._clock = clock
        self._later = later
        self._on_end = on_end
        self._reader = reader or FrameReader()
        self._channel = Channel(budget)
        self.streams = Streams(
            budget=budget,
            clock=clock,
            on_open=on_open,
            wake=self._wake,
            send_control=self._send_control,
            opens_per_s=opens_per_s,
        )
        self._urgent: deque[bytes] = deque()  # not numbered
        self._control: deque[bytes] = deque()
        self._ack: bytes | None = None  # the newest says what all before it said
        self._paused = False
        self._timers: dict[str, Timer] = {}
        self._asked_s: float | None = None  # since when an answer is owed to us
        self._pinged_s: float | None = None
        self._ping = 0
        self._measured_s = self._heard_s = clock()
        self.ended = False

    def start(self) -> None:
        """To be called once the owner has this object; what came with the hello is taken now."""
        self._put_off("tick", TICK_S, self._tick)
        self._send_ping()
        self.receive(b"")

    # For the owner

    @property
    def round_trip_s(self) -> float:
        """The last measurement, smoothed; 0 before the first."""
        return self.streams.round_trip_s

    @property
    def held_bytes(self) -> int:
        """Memory that this link holds: sent and not acknowledged."""
        return self._channel.unacknowledged

    def open(self, user: User) -> Stream:
        """Opens a stream; what is written to it at once goes with it. Raises `LinkError`."""
        if self.ended:
            raise LinkError("the link is over")
        return self.streams.open(user)

    def receive(self, data: bytes) -> None:
        """Bytes came in. A side that breaks the rules ends the link."""
        if self.ended:
            return  # after our goodbye
        self._heard_s = self._clock()
        try:
            self._take_all(data)
        except LinkError as error:
            self._fail(error)

    def pause(self) -> None:
        """The transport holds enough; asyncio's `pause_writing`."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes bytes again; asyncio's `resume_writing`."""
        self._paused = False
        self._flush()

    def probe(self) -> None:
        """Somebody doubts that the other side is there: it has a few seconds to show that it is."""
        asked_s = self._clock()
        if self._pinged_s is None:
            self._send_ping()

        def look() -> None:
            if self._heard_s < asked_s:
                self.lost("link_silent")

        self._put_off("probe", PROBE_S, look)

    def bye(self, reason: str) -> None:
        """Says why, then ends the link."""
        if not self.ended:
            self._say_bye(reason)
            self._over(reason)

    def lost(self, reason: str = "link_lost") -> None:
        """The connection is gone."""
        if not self.ended:
            self._transport.abort()
            self._over(reason)

    # Inside

    def _take_all(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            if self.ended:
                return
            self._take(frame)
        if self._channel.owes_ack:
            self._put_off("ack", ACK_S, self._ack_late)
            self._measure()

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind in NUMBERED:
            self.streams.take(frame)
            if self._channel.take(frame.size):
                self._ack = self._channel.ack()
                self._wake()
        elif kind == Kind.ACK:
            self._asked_s = None
            self._channel.confirm(count_of(frame))
            self._wake()
        elif kind == Kind.PING:
            if len(self._urgent) >= PONGS_WAITING_MAX:
                raise LinkError("a flood of pings")
            self._urgent.append(count_frame(Kind.PONG, count_of(frame)))
            self._wake()
        elif kind == Kind.PONG:
            self._take_pong(count_of(frame))
        elif kind == Kind.BYE:
            self._transport.close()
            self._over(reason_of(frame))
        else:
            raise LinkError("a second hello")

    def _take_pong(self, ping: int) -> None:
        if ping != self._ping or self._pinged_s is None:
            return
        took_s = self._clock() - self._pinged_s
        self._pinged_s = self._asked_s = None
        before_s = self.streams.round_trip_s
        self.streams.round_trip_s = took_s if not before_s else (3 * before_s + took_s) / 4

    def _measure(self) -> None:
        """Windows grow by the round trip, so it is measured again and again while data flows."""
        if self._pinged_s is None and self._clock() - self._measured_s >= BUSY_PING_S:
            self._send_ping()

    def _send_ping(self) -> None:
        now_s = self._clock()
        self._ping += 1
        self._pinged_s = self._measured_s = now_s
        if self._asked_s is None:
            self._asked_s = now_s
        self._urgent.append(count_frame(Kind.PING, self._ping))
        self._wake()

    def _send_control(self, frame: bytes) -> None:
        self._control.append(frame)
        self._wake()

    def _put_off(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Calls once after the delay, unless that call waits already or the link is over."""
        if name in self._timers or self.ended:
            return

        def due() -> None:
            del self._timers[name]
            call()

        self._timers[name] = self._later(delay_s, due)

    def _wake(self) -> None:
        """Writes at the end of this turn of the loop: many small things go out together."""
        self._put_off("flush", 0, self._flush)

    def _flush(self) -> None:
        if self.ended or self._transport.is_closing():
            return  # of a closing connection its owner is told, and tells us
        try:
            self._write_all(data=True)
        except LinkError as error:
            self._fail(error)
        except Exception:
            # What was taken out of a queue and not written is lost, so nothing may follow it.
            self.lost("link_failed")
            raise

    def _write_all(self, *, data: bool) -> None:
        while True:
            chunks = self._output(data=data and not self._paused)
            if not chunks:
                return
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _output(self, *, data: bool) -> list[bytes]:
        """What goes out next: first what answers, then control, then data in turns.

        Frames are numbered here, so that they are kept in the order in which they are sent.
        """
        chunks = self._answers()
        size = 0
        while size < OUTPUT_BYTES:
            if self._control:
                frame, control = self._control.popleft(), True
            else:
                if not (data and self.streams.waiting):
                    break
                next_frame = self.streams.next_data(self._channel.room())
                if next_frame is None:
                    break
                frame, control = next_frame, next_frame[0] != Kind.DATA
            self._channel.send(frame, control=control)
            chunks.append(frame)
            size += len(frame)
        if size:
            if self._asked_s is None:
                self._asked_s = self._clock()
            self._measure()
        return chunks

    def _answers(self) -> list[bytes]:
        """What is not numbered. It waits for the transport too: who asks and never reads would
        otherwise be answered into memory without end.
        """
        if self._paused:
            return []
        chunks = list(self._urgent)
        self._urgent.clear()
        if self._ack is not None:
            chunks.append(self._ack)
            self._ack = None
        return chunks

    def _ack_late(self) -> None:
        if self._channel.owes_ack:
            self._ack = self._channel.ack()
            self._flush()

    def _tick(self) -> None:
        now_s = self._clock()
        waited_from_s = max(self._heard_s, self._asked_s if self._asked_s is not None else now_s)
        if self._asked_s is not None and now_s - waited_from_s > SILENCE_S_MAX:
            self.lost("link_silent")
            return
        if self._pinged_s is None and now_s - self._heard_s >= QUIET_S:
            self._send_ping()
        self._channel.rest()
        # Not later than silence is over: somebody may wait for a stream.
        left_s = SILENCE_S_MAX - (now_s - waited_from_s)
        self._put_off("tick", min(TICK_S, max(left_s, TICK_S_MIN)), self._tick)

    def _fail(self, error: LinkError) -> None:
        if not self.ended:
            self._say_bye("protocol_error")
            self._over(f"protocol_error: {error}")

    def _say_bye(self, reason: str) -> None:
        """What waits to be sent is dropped: it would come too late for anybody."""
        if not self._transport.is_closing():
            self._transport.write(reason_frame(Kind.BYE, 0, reason))
            if self._linger_s:
                self._later(self._linger_s, self._transport.abort)
            else:
                self._transport.close()

    def _over(self, reason: str) -> None:
        self.ended = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        try:
            self.streams.end_all("link_lost" if reason.startswith("link_") else reason)
        finally:
            self._channel.close()
            self._on_end(reason)
