"""Joins a stream with a socket: bytes both ways, half-close both ways, nothing read too early.

It has the methods of asyncio's `BufferedProtocol` and is mixed into one by the programs that own
sockets. The buffer is lent by them: reads are taken out of it at once, so one serves all.
"""

from typing import Protocol

from wire.frames import PAYLOAD_BYTES_MAX
from wire.stream import QUEUE_BYTES_FAST, Stream

READ_BYTES = QUEUE_BYTES_FAST


class SocketTransport(Protocol):
    """What a socket's transport offers: asyncio's do."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def can_write_eof(self) -> bool: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Splice:
    """One stream and one socket, which may come later: until then bytes wait in the window."""

    def __init__(self, stream: Stream, buffer: memoryview) -> None:
        self.stream = stream
        self._buffer = buffer
        self._socket: SocketTransport | None = None
        self._early: list[bytes] = []
        self._untold = 0  # bytes that the socket has not taken yet
        self._paused_writing = False
        self._paused_reading = False
        self._ended_there = False  # the stream's other side
        self._ended_here = False  # the socket's other side
        self.over = False

    # The socket's side

    def attach(self, transport: SocketTransport) -> None:
        """The socket is there; called by `connection_made`."""
        self._socket = transport
        if self.over:
            self.cut(transport)
            return
        # What the socket does not take waits in the window, which the budget counts.
        transport.set_write_buffer_limits(high=0)
        early, self._early = self._early, []
        for data in early:
            self._write(data)
        if self._ended_there:
            self._end_writing()
        if self.stream.room <= 0:
            self._pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """No more than the stream has room for."""
        return self._buffer[: max(1, min(len(self._buffer), self.stream.room))]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came from the socket."""
        # A frame's worth each: a few bytes too many would travel, and wake everybody, alone.
        for start in range(0, nbytes, PAYLOAD_BYTES_MAX):
            end = min(nbytes, start + PAYLOAD_BYTES_MAX)
            self.stream.write(bytes(self._buffer[start:end]))
        if self.stream.room <= 0:
            self._pause_reading()

    def eof_received(self) -> bool:
        """The socket's other side has ended; ours may go on."""
        self._ended_here = True
        self.stream.finish()
        self._close_if_done()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if not self.over:
            self.over = True
            if not (self._ended_here and self._ended_there and exc is None):
                self.stream.reset("reset")
        self.stream.discard()

    def pause_writing(self) -> None:
        """The socket does not keep up: the other side gets no more window."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """It does again."""
        self._paused_writing = False
        untold, self._untold = self._untold, 0
        self.stream.took(untold)

    # The stream's side

    def stream_data(self, data: bytes) -> None:
        """Bytes came from the stream."""
        if self._socket is None:
            self._early.append(data)
        else:
            self._write(data)

    def stream_finished(self) -> None:
        """The stream's other side sends no more."""
        self._ended_there = True
        if self._socket is not None:
            self._end_writing()

    def stream_ended(self, reason: str) -> None:
        """The stream is gone."""
        self.over = True
        self._early.clear()
        if self._socket is not None:
            self.cut(self._socket)

    def stream_room(self) -> None:
        """The stream takes bytes again."""
        if self._paused_reading and self._socket is not None and not self._socket.is_closing():
            self._paused_reading = False
            self._socket.resume_reading()

    def cut(self, transport: SocketTransport) -> None:
        """Ends the socket at once. Who owns sockets makes it a reset (`SO_LINGER` of 0 s) first:

        after a mere end, which is all that aborting sends, half a file would pass for a whole one.
        """
        transport.abort()

    # Inside

    def _write(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.write(data)
        if self._paused_writing:
            self._untold += len(data)
        else:
            self.stream.took(len(data))

    def _pause_reading(self) -> None:
        if not self._paused_reading and self._socket is not None:
            self._paused_reading = True
            self._socket.pause_reading()

    def _end_writing(self) -> None:
        assert self._socket is not None
        if self._socket.can_write_eof() and not self._socket.is_closing():
            try:
                self._socket.write_eof()
            except OSError:
                # The socket's other side is gone, of which `connection_lost` will tell.
                self.cut(self._socket)
                return
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ended_here and self._ended_there and self._socket is not None:
            self._socket.close()
