"""A link: channel and streams over one connection at a time, driven by whoever owns that.

It does no I/O of its own: bytes are handed to `receive`, go out by the transport's `write`, and
clock and timers are handed in. The hello has been spoken before (`wire.hello`).
"""

from collections.abc import Callable

from wire.budget import Budget
from wire.channel import ACK_S, Channel
from wire.frames import (
    NUMBERED,
    Bytes,
    Frame,
    FrameReader,
    Kind,
    LinkError,
    count_frame,
    count_of,
    reason_frame,
    reason_of,
)
from wire.outbox import Outbox
from wire.stream import Stream, User
from wire.streams import OPENS_PER_S, UNLIMITED, Rates, Streams
from wire.transport import Later, Timers, Transport
from wire.vigil import NOTICE_S, Vigil

TICK_S = 3.0
TICK_S_MIN = 0.1
QUIET_S = 15.0  # a quiet link is asked whether it lives
QUIET_DIALLING_S = 3.0  # by the side that can dial again: about 300 KB in an hour without a byte
BUSY_PING_S = 0.5  # the round trip is measured so often while data flows
SILENCE_S_MAX = 15.0  # nothing heard for so long after something was asked: lost
PONGS_WAITING_MAX = 64


class Link:
    """One side of a link, from the first hello's end until it is over.

    `on_open` accepts the streams that the other side opens and sets their user at once; without
    it this side opens them. `on_end` is called once, with a reason, when the link is over.

    With `on_loss` the loss of a connection is told there, and the link waits for another one, to
    be handed to `attach`; without it the link is over. Whoever can dial another one sets
    `on_doubt`: called, maybe again and again, while the connection is silent though it owes an
    answer. It may come to life again, so it is given up only when the next one is there.

    A connection given up may go on calling for a while: whoever owns it asks `carries` first.

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
        on_loss: Callable[[str], None] | None = None,
        on_doubt: Callable[[], None] | None = None,
        opens_per_s: float = OPENS_PER_S,
        reader: FrameReader | None = None,
        linger_s: float = 0.0,
        rates: Rates = UNLIMITED,
    ) -> None:
        self._transport: Transport | None = transport
        self._linger_s = linger_s
        self._clock = clock
        self._later = later
        self._on_end = on_end
        self._on_loss = on_loss
        self._on_doubt = on_doubt
        self._reader = reader or FrameReader()
        self._channel = Channel(budget)
        self.streams = Streams(
            budget=budget,
            clock=clock,
            on_open=on_open,
            wake=self._wake,
            send_control=self._send_control,
            opens_per_s=opens_per_s,
            rates=rates,
        )
        self._outbox = Outbox(self._channel, self.streams)
        self._timers = Timers(later)
        self._pinged_s: float | None = None
        self._ping = 0
        self._measured_s = clock()
        self._vigil = Vigil(self._measured_s)
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
    def attached(self) -> bool:
        """Whether there is a connection."""
        return self._transport is not None

    @property
    def doubted(self) -> bool:
        """Whether there is none, or one that owes an answer and is silent."""
        return self._transport is None or self._vigil.doubted

    def carries(self, transport: Transport | None) -> bool:
        """Whether this is the connection; what another one says does not count any more."""
        return self._transport is not None and self._transport is transport

    @property
    def held_bytes(self) -> int:
        """Memory that this link holds: sent and not acknowledged."""
        return self._channel.unacknowledged

    def open(self, user: User) -> Stream:
        """Opens a stream; what is written to it at once goes with it. Raises `LinkError`."""
        if self.ended:
            raise LinkError("the link is over")
        return self.streams.open(user)

    def receive(self, data: Bytes) -> None:
        """Bytes came in; the memory may be lent. A side that breaks the rules ends the link."""
        if self._transport is None:
            return  # after our goodbye, or of a connection given up
        self._vigil.heard(self._clock())
        try:
            self._take_all(data)
        except LinkError as error:
            self._fail(error)
        except Exception:
            # Nobody knows whether the frame was taken, so it can neither be counted nor come again.
            self._give_up("link_failed")
            raise

    def pause(self) -> None:
        """The transport holds enough; asyncio's `pause_writing`."""
        self._outbox.paused = True

    def resume(self) -> None:
        """The transport takes bytes again; asyncio's `resume_writing`."""
        self._outbox.paused = False
        self._flush()

    def probe(self) -> None:
        """Somebody doubts that the other side is there: it has seconds to show that it is."""
        if self._transport is None:
            return
        asked_s = self._clock()
        if self._pinged_s is None:
            self._send_ping()

        def look() -> None:
            if self._vigil.heard_s < asked_s:
                self._vigil.doubted = True
                self._doubt()

        self._put_off("probe", NOTICE_S, look)

    def bye(self, reason: str) -> None:
        """Says why, then ends the link."""
        if not self.ended:
            self._say_bye(reason)
            self._over(reason)

    def lost(self, reason: str = "link_lost") -> None:
        """The connection is gone; with nobody to bring another one the link is, too."""
        if self._on_loss is None:
            self._give_up(reason)
        elif self._transport is not None:
            self.detach()
            self._on_loss(reason)

    def end(self, reason: str) -> None:
        """The link is over, and there is nobody to say it to, or no time."""
        self._give_up(reason)

    # Another connection

    def detach(self) -> int:
        """Gives the connection up, unread; how much was taken from all connections until now.

        What is to be sent waits from now on, as what is not acknowledged does.
        """
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
            self._timers.cancel()
            self._outbox.detach()
            self._pinged_s = None
        return self._channel.state()

    def attach(self, transport: Transport, reader: FrameReader, count: int) -> None:
        """Goes on over this connection; its other side has taken so much of what was sent.

        To be called after `detach` and a hello in which its count was said, and before `start`.
        Raises `LinkError` where the count cannot be true: then the link is of no use any more.
        """
        assert self._transport is None
        assert not self.ended
        self._outbox.attach(count)
        self._reader = reader
        self._transport = transport
        self._vigil.begin(self._clock())

    # Inside

    def _take_all(self, data: Bytes) -> None:
        for frame in self._reader.feed(data):
            self._take(frame)
            if self._transport is None:
                return
        if self._channel.owes_ack:
            self._put_off("ack", ACK_S, self._ack_late)
            self._measure()

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind in NUMBERED:
            # Counted first: whoever ends the connection while the frame is taken states it too.
            due = self._channel.take(frame.size)
            self.streams.take(frame)
            if due:
                self._outbox.ack = self._channel.ack()
                self._wake()
        elif kind == Kind.ACK:
            self._channel.confirm(count_of(frame))
            self._answered()
            self._wake()
        elif kind == Kind.PING:
            if len(self._outbox.urgent) >= PONGS_WAITING_MAX:
                raise LinkError("a flood of pings")
            self._outbox.urgent.append(count_frame(Kind.PONG, count_of(frame)))
            self._wake()
        elif kind == Kind.PONG:
            self._take_pong(count_of(frame))
        elif kind == Kind.BYE:
            if self._transport is not None:
                self._transport.close()
            self._over(reason_of(frame))
        else:
            raise LinkError("a second hello")

    def _take_pong(self, ping: int) -> None:
        if ping != self._ping or self._pinged_s is None:
            return
        took_s = self._clock() - self._pinged_s
        self._pinged_s = None
        self._answered()
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
        self._ask(now_s)
        self._outbox.urgent.append(count_frame(Kind.PING, self._ping))
        self._wake()

    def _ask(self, now_s: float) -> None:
        if self._vigil.ask(now_s) and self._on_doubt is not None:
            self._put_off("vigil", self._vigil.patience_s, self._watch)

    def _answered(self) -> None:
        owes = self._channel.unacknowledged > 0 or self._pinged_s is not None
        self._vigil.answered(self._clock(), owes=owes)

    def _watch(self) -> None:
        """The dialling side looks while something is owed to it."""
        now_s, vigil = self._clock(), self._vigil
        if vigil.asked_s is None:
            return
        left_s = max(vigil.patience_s - vigil.silent_s(now_s), TICK_S_MIN)
        if vigil.doubt(now_s):
            self._doubt()
            left_s = NOTICE_S
        self._put_off("vigil", left_s, self._watch)

    def _doubt(self) -> None:
        if self._on_doubt is None:
            self.lost("link_silent")
        else:
            self._on_doubt()

    def _send_control(self, frame: bytes) -> None:
        self._outbox.control.append(frame)
        self._wake()

    def _put_off(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Calls once after the delay, unless it waits already; never without a connection."""
        if self._transport is not None:
            self._timers.put_off(name, delay_s, call)

    def _wake(self) -> None:
        """Writes at the end of this turn of the loop: many small things go out together."""
        self._put_off("flush", 0, self._flush)

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # of a closing connection its owner is told, and tells us
        try:
            self._write_all()
        except LinkError as error:
            self._fail(error)
        except Exception:
            # What was taken out of a queue and not written is lost, so nothing may follow it.
            self._give_up("link_failed")
            raise

    def _write_all(self) -> None:
        while self._transport is not None:
            chunks, owed_bytes = self._outbox.next()
            if owed_bytes:
                if self._vigil.asked_s is None:
                    self._ask(self._clock())
                self._measure()
            if not chunks:
                return
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _ack_late(self) -> None:
        if self._channel.owes_ack:
            self._outbox.ack = self._channel.ack()
            self._flush()

    def _tick(self) -> None:
        now_s = self._clock()
        silent_s = self._vigil.silent_s(now_s)
        if silent_s > SILENCE_S_MAX:
            self.lost("link_silent")
            return
        quiet_s_max = QUIET_S if self._on_doubt is None else QUIET_DIALLING_S
        quiet_s = now_s - self._vigil.heard_s
        if self._pinged_s is None and quiet_s >= quiet_s_max:
            self._send_ping()
            quiet_s = 0.0
        self._channel.rest()
        # Not later than silence is over, or quiet has lasted: somebody may wait for a stream.
        left_s = min(SILENCE_S_MAX - silent_s, quiet_s_max - quiet_s)
        self._put_off("tick", min(TICK_S, max(left_s, TICK_S_MIN)), self._tick)

    def _fail(self, error: LinkError) -> None:
        if not self.ended:
            self._say_bye("protocol_error")
            self._over(f"protocol_error: {error}")

    def _say_bye(self, reason: str) -> None:
        """What waits to be sent is dropped: it would come too late for anybody."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reason_frame(Kind.BYE, 0, reason))
            if self._linger_s:
                self._later(self._linger_s, self._transport.abort)
            else:
                self._transport.close()

    def _give_up(self, reason: str) -> None:
        if not self.ended:
            if self._transport is not None:
                self._transport.abort()
            self._over(reason)

    def _over(self, reason: str) -> None:
        self.ended = True
        self._transport = None
        self._outbox.detach()
        self._timers.cancel()
        try:
            self.streams.end_all("link_lost" if reason.startswith("link_") else reason)
        finally:
            self._channel.close()
            self._on_end(reason)
