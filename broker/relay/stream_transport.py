"""An asyncio transport over one stream of a link, so that HTTP and TLS can be spoken on it."""

import asyncio
from collections import deque
from typing import Any

from wire.stream import Stream

LINGER_S = 10.0  # so long a closed stream may take to send its last bytes and be ended there


class StreamLost(ConnectionResetError):
    """The stream was refused or reset, or its link is gone; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StreamTransport(asyncio.Transport):
    """The stream's user on one side, an asyncio protocol's transport on the other.

    Bytes for a protocol that has paused reading are held here and not confirmed, so that their
    sender's window holds no more than this.
    """

    # `loop.start_tls` asks for this mark of transports that can be put under TLS.
    _start_tls_compatible = True

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._stream: Stream | None = None
        self._held: deque[bytes] = deque()
        self._reading = False
        self._eof_due = False
        self._paused_writing = False
        self._closing = False
        self._linger: asyncio.TimerHandle | None = None
        self.reason = ""  # why the stream ended, where it did not end well

    def attach(self, stream: Stream) -> None:
        """The stream is open; its protocol may begin."""
        self._stream = stream
        self._call("connection_made", self)
        if self.reason:
            self._lose(StreamLost(self.reason))
        else:
            self.resume_reading()

    # The stream's side

    def stream_data(self, data: bytes) -> None:
        """Bytes came from the target."""
        if self._closing:
            # Nobody reads them: the target shall stop sending.
            self._end("reset")
        elif self._reading and not self._held:
            self._deliver(data)
        else:
            self._held.append(data)

    def stream_finished(self) -> None:
        """The target sends no more."""
        self._eof_due = True
        self._deliver_held()

    def stream_ended(self, reason: str) -> None:
        """The stream is gone; what was held is worth nothing."""
        self.reason = self.reason or reason
        self._held.clear()
        if self._stream is not None:
            self._lose(StreamLost(reason))

    def stream_room(self) -> None:
        """The stream takes bytes again."""
        if self._paused_writing:
            self._paused_writing = False
            self._call("resume_writing")

    # The protocol's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """There is no socket, and nothing to tell of one."""
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol takes over: TLS, or whoever follows after an upgrade."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that has the bytes now."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Bytes are held from now on, and the sender's window runs out."""
        self._reading = False

    def resume_reading(self) -> None:
        """What was held is handed on."""
        if not self._closing:
            self._reading = True
            self._deliver_held()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queues bytes; the protocol is told to pause when the queue is full."""
        if self._closing or self._stream is None:
            return
        self._stream.write(bytes(data))
        if self._stream.room <= 0 and not self._paused_writing and not self._stream.ended:
            self._paused_writing = True
            self._call("pause_writing")

    def get_write_buffer_size(self) -> int:
        """Bytes written and not sent yet."""
        return 0 if self._stream is None else self._stream.queued

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The stream has its own."""

    def can_write_eof(self) -> bool:
        """Streams can be closed in one direction."""
        return True

    def write_eof(self) -> None:
        """No more will be written; reading goes on."""
        if self._stream is not None:
            self._stream.finish()

    def close(self) -> None:
        """Sends what was written, then ends; what still comes is not read."""
        if self._closing:
            return
        stream = self._stream
        unread = bool(self._held)
        self._lose(None)
        if stream is None or stream.ended:
            return
        if unread:
            self._end("reset")
            return
        stream.finish()
        if not stream.ended:
            self._linger = self._loop.call_later(LINGER_S, self._end, "reset")

    def abort(self) -> None:
        """Ends at once; what was written may be lost."""
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        # asyncio's TLS calls this by name when the handshake or the shutdown fails.
        self._end("reset")
        if not self._closing:
            self._lose(exc if isinstance(exc, Exception) else None)

    # Inside

    def _end(self, reason: str) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._stream is not None:
            self._stream.reset(reason)

    def _deliver_held(self) -> None:
        while self._held and self._reading and not self._closing:
            self._deliver(self._held.popleft())
        if self._eof_due and self._reading and not self._held and not self._closing:
            self._eof_due = False
            if not self._call("eof_received"):
                self.close()

    def _deliver(self, data: bytes) -> None:
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            self._fill(self._protocol, data)
        else:
            self._call("data_received", data)
        if self._stream is not None:
            self._stream.took(len(data))

    def _fill(self, protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        left = memoryview(data)
        while left:
            buffer = memoryview(protocol.get_buffer(len(left)))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            protocol.buffer_updated(size)
            left = left[size:]

    def _lose(self, exc: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._held.clear()
            if self._stream is not None:
                self._stream.discard()
            # As asyncio's own transports do: never inside a call of the protocol.
            self._loop.call_soon(self._call, "connection_lost", exc)

    def _call(self, name: str, *arguments: object) -> Any:
        """A protocol's own mistake ends its connection and no other: the link serves many."""
        try:
            return getattr(self._protocol, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed on and logged
            self._loop.call_exception_handler(
                {"message": f"{name} failed", "exception": error, "transport": self}
            )
            self._force_close(error)
            return None
