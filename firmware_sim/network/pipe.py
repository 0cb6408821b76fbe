"""One direction of one connection: bytes are read, travel for their time, and are written.

Callbacks on bare sockets instead of tasks and streams: the network shares its processors with the
programs under test, and a task woken for every piece would cost them more than the copying.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from random import Random

from firmware_sim.network.buffers import Buffer, Pool
from firmware_sim.network.faults import QUEUE_S_MAX, Faults

# Timers are late by up to a millisecond, so half of one early is as exact and saves wake-ups.
EARLY_S = 0.0005
_SLICES_AT_ONCE_MAX = 64
_WINDOW_BYTES_MIN = 16 * 1024
_WINDOW_BYTES_MAX = 1 << 30


class End(Enum):
    """What comes after the last byte; broken is a sink that takes no more."""

    FIN = auto()
    RESET = auto()
    BROKEN = auto()


class Piece:
    """Bytes that come out at one moment, or the end behind them."""

    __slots__ = ("begin", "buffer", "due_s", "end", "stop")

    def __init__(
        self, due_s: float, buffer: Buffer | None, begin: int, stop: int, end: End | None = None
    ) -> None:
        self.due_s = due_s
        self.buffer = buffer
        self.begin = begin
        self.stop = stop
        self.end = end


class Pipe:
    """Reads `source` when started and writes to `sink` when connected; says what ended it."""

    def __init__(
        self,
        faults: Faults,
        pool: Pool,
        rng: Random,
        in_flight_bytes_max: int,
        ended: Callable[[End], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._faults = faults
        self._pool = pool
        self._rng = rng
        self._in_flight_bytes_max = in_flight_bytes_max
        self._ended = ended
        self._source: socket.socket | None = None
        self._sink: socket.socket | None = None
        self._pieces: deque[Piece] = deque()
        self._filling: Buffer | None = None
        self._in_flight_bytes = 0
        self._delivered_bytes = 0
        self._last_due_s = 0.0
        self._slice_at_s = 0.0
        self._narrow = False
        self._reading = False
        self._writing = False
        self._wake: asyncio.TimerHandle | None = None
        self._room: asyncio.TimerHandle | None = None
        self.source_over = False  # nothing more comes from it
        self.source_broken = False  # its other direction failed: an end of it is no clean one
        self.sink_broken = False  # nothing more can be written to it
        self.lossy = False  # bytes or an end were swallowed: nothing may follow them

    def read_from(self, source: socket.socket) -> None:
        """Starts reading."""
        self._source = source
        self._resume()

    def write_to(self, sink: socket.socket) -> None:
        """Starts writing."""
        self._sink = sink
        self._deliver()

    def close(self) -> None:
        """Lets go of the sockets, which stay open, and forgets what travels."""
        self._pause()
        self._stop_writing()
        for timer in (self._wake, self._room):
            if timer is not None:
                timer.cancel()
        self._forget()
        if self._filling is not None:
            self._pool.give_back(self._filling)
        self._filling = self._source = self._sink = None

    def heed(self) -> None:
        """Looks at `held` and `silent` again after they were changed."""
        if self._faults.silent and self._pieces:
            self.lossy = True
            self._faults.swallowed_bytes += self._in_flight_bytes
            self._forget()
        if self._faults.held:
            self._pause()
        else:
            self._resume()
        self._deliver()

    def end_with_reset(self) -> None:
        """The source is gone: the other side learns it behind the bytes that still travel."""
        self.source_over = True
        self._pause()
        if self._faults.silent:
            self.lossy = True
            return
        self._append(self._faults.due_s(self._loop.time(), 0, self._rng), None, 0, 0, End.RESET)
        self._deliver()

    def break_off(self) -> None:
        """The sink is gone: what was on its way to it is lost."""
        self.sink_broken = True
        self._pause()
        self._stop_writing()
        self._forget()

    # Reading.

    def _resume(self) -> None:
        ready = not (self._reading or self.source_over or self.sink_broken or self._faults.held)
        if ready and self._source is not None and self._room is None and not self._is_full():
            self._reading = True
            self._loop.add_reader(self._source, self._read)

    def _pause(self) -> None:
        if self._reading and self._source is not None:
            self._reading = False
            self._loop.remove_reader(self._source)

    def _is_full(self) -> bool:
        return self._in_flight_bytes >= self._in_flight_bytes_max

    def _read(self) -> None:
        now_s, faults = self._loop.time(), self._faults
        room = faults.room(now_s)
        if not room:
            self._pause()
            self._room = self._loop.call_at(faults.room_at_s(now_s), self._has_room)
            return
        buffer = self._filling
        if buffer is None or not buffer.has_room():
            # The last piece of a full buffer gives it back.
            buffer = self._filling = self._pool.take()
        assert self._source is not None
        begin = buffer.filled
        try:
            count = self._source.recv_into(buffer.view[begin : begin + room])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.end_with_reset()
            return
        if faults.bandwidth_bytes_s or self._narrow:
            self._fit_source(faults.bandwidth_bytes_s)
        if count:
            self._take(now_s, buffer, begin, count)
        else:
            self._take_end(now_s)

    def _fit_source(self, bandwidth_bytes_s: float) -> None:
        """Keeps the system's buffer from being the long queue that a narrow link does not have.

        Each read lets the kernel widen the window again, hence after every one.
        """
        assert self._source is not None
        self._narrow = bool(bandwidth_bytes_s)
        window = _WINDOW_BYTES_MAX
        if self._narrow:
            window = max(_WINDOW_BYTES_MIN, min(window, int(bandwidth_bytes_s * QUEUE_S_MAX)))
        try:
            self._source.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, window)
        except OSError:
            pass  # it has been reset, which the next read tells

    def _has_room(self) -> None:
        self._room = None
        self._resume()

    def _take(self, now_s: float, buffer: Buffer, begin: int, count: int) -> None:
        faults = self._faults
        faults.taken_bytes += count
        if faults.silent:
            faults.swallowed_bytes += count
            self.lossy = True
            return
        self._in_flight_bytes += count
        faults.in_flight_bytes += count
        buffer.filled = begin + count
        self._append(faults.due_s(now_s, count, self._rng), buffer, begin, begin + count)
        if self._is_full():
            self._pause()
        if self._wake is None and not self._writing:
            self._deliver()

    def _take_end(self, now_s: float) -> None:
        self.source_over = True
        self._pause()
        if self._faults.silent:
            self.lossy = True
            return
        end = End.RESET if self.source_broken else End.FIN
        self._append(self._faults.due_s(now_s, 0, self._rng), None, 0, 0, end)
        self._deliver()

    def _append(
        self, due_s: float, buffer: Buffer | None, begin: int, stop: int, end: End | None = None
    ) -> None:
        # Order is kept: nothing overtakes, as within one TCP connection.
        due_s = self._last_due_s = max(due_s, self._last_due_s)
        if buffer is not None:
            last = self._pieces[-1] if self._pieces else None
            near = last is not None and due_s - last.due_s < EARLY_S
            if last is not None and near and last.buffer is buffer and last.stop == begin:
                last.stop = stop
                return
            buffer.pieces += 1
        self._pieces.append(Piece(due_s, buffer, begin, stop, end))

    # Writing.

    def _woken(self) -> None:
        self._wake = None
        self._deliver()

    def _deliver(self) -> None:
        """Writes what is due, then waits for the next piece or for the sink."""
        if self._sink is None or self._writing or self._faults.held or self.sink_broken:
            return
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        slices = 0
        while self._pieces and self._sink is not None:
            piece = self._pieces[0]
            now_s = self._loop.time()
            ready_s = max(piece.due_s, self._slice_at_s)
            if ready_s > now_s + EARLY_S or slices >= _SLICES_AT_ONCE_MAX:
                self._wake = self._loop.call_at(ready_s, self._woken)
                break
            if piece.end is not None:
                self._pieces.popleft()
                self._finish(piece.end)
                continue
            if self._faults.slice_bytes:
                slices += 1
                self._slice_at_s = now_s + self._faults.slice_pause_ms / 1_000
            if not self._write(piece):
                return
        if self._in_flight_bytes <= self._in_flight_bytes_max * 3 // 4:
            self._resume()

    def _write(self, piece: Piece) -> bool:
        """False when the sink takes no more for now, or never again."""
        assert self._sink is not None
        assert piece.buffer is not None
        faults, wanted = self._faults, piece.stop - piece.begin
        if faults.slice_bytes:
            wanted = min(wanted, faults.slice_bytes)
        if faults.reset_after_bytes:
            wanted = min(wanted, max(0, faults.reset_after_bytes - self._delivered_bytes))
        try:
            count = self._sink.send(piece.buffer.view[piece.begin : piece.begin + wanted])
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self.break_off()
            self._ended(End.BROKEN)
            return False
        self._count_out(count)
        piece.begin += count
        if piece.begin == piece.stop:
            self._pieces.popleft()
            self._release(piece.buffer)
        if 0 < faults.reset_after_bytes <= self._delivered_bytes:
            self._ended(End.RESET)
            return False
        if count < wanted:
            self._writing = True
            self._loop.add_writer(self._sink, self._writable)
        return count == wanted

    def _count_out(self, count: int) -> None:
        self._delivered_bytes += count
        self._in_flight_bytes -= count
        self._faults.delivered_bytes += count
        self._faults.in_flight_bytes -= count

    def _writable(self) -> None:
        self._stop_writing()
        self._deliver()

    def _stop_writing(self) -> None:
        if self._writing and self._sink is not None:
            self._writing = False
            self._loop.remove_writer(self._sink)

    def _finish(self, end: End) -> None:
        """The last byte is out: the sink is told, and whoever owns both directions."""
        if end is End.FIN:
            assert self._sink is not None
            try:
                self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.break_off()
                end = End.BROKEN
        self._ended(end)

    def _release(self, buffer: Buffer) -> None:
        buffer.pieces -= 1
        if buffer.pieces:
            return
        if buffer is self._filling:
            # Empty again: the next bytes go to its beginning, which is still warm.
            buffer.filled = 0
        else:
            self._pool.give_back(buffer)

    def _forget(self) -> None:
        for piece in self._pieces:
            if piece.buffer is not None:
                self._release(piece.buffer)
        self._pieces.clear()
        self._faults.in_flight_bytes -= self._in_flight_bytes
        self._in_flight_bytes = 0
