"""The server behind a tunnel: swallows, pours, echoes or answers, as the first byte asks."""

import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SINK, SOURCE, ECHO = b"K", b"R", b"E"
REPORT = struct.Struct("!QQ")  # bytes swallowed until now, and this server's clock in ns
BODY = b"Hello from the device\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)
REPORT_EVERY_NS = 20_000_000
STOP_S_MAX = 10.0
_CHUNK_BYTES = 256 * 1024
_HEAD_BYTES_MAX = 8_192


@dataclass(frozen=True, slots=True)
class Behind:
    """Where the server listens."""

    port: int
    pid: int


@contextmanager
def server_behind() -> Iterator[Behind]:
    """Runs it in a process of its own, so that its work is not the tunnel's."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.server_behind", str(number)], pass_fds=[number]
        )
    try:
        yield Behind(port, process.pid)
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


class Conversation:
    """One connection to the server."""

    def __init__(self, side: socket.socket, selector: selectors.BaseSelector) -> None:
        side.setblocking(False)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._side = side
        self._selector = selector
        self._kind = b""
        self._head = b""
        self._swallowed_bytes = 0
        self._reported_ns = 0
        selector.register(side, selectors.EVENT_READ, self)

    def serve(self, events: int) -> None:
        """Does what can be done without waiting."""
        try:
            if events & selectors.EVENT_WRITE:
                self._side.send(_ZEROES)
            if events & selectors.EVENT_READ:
                self._read()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._close()

    def _read(self) -> None:
        if self._kind == SINK:
            self._swallow(self._side.recv_into(_SPARE))
            return
        data = self._side.recv(_CHUNK_BYTES)
        if not data:
            self._close()
            return
        if not self._kind:
            self._kind = data[:1]
            if self._kind == SOURCE:
                self._selector.modify(self._side, _BOTH, self)
            if self._kind in (SINK, SOURCE):
                self._swallow(len(data) - 1)
                return
            if self._kind == ECHO:
                data = data[1:]
        if self._kind == ECHO:
            self._side.send(data)
        elif self._kind not in (SINK, SOURCE):
            self._answer(data)

    def _swallow(self, count: int) -> None:
        if not count and self._kind == SINK and self._swallowed_bytes:
            self._close()
            return
        self._swallowed_bytes += count
        now_ns = time.monotonic_ns()
        if self._kind == SINK and now_ns - self._reported_ns >= REPORT_EVERY_NS:
            self._reported_ns = now_ns
            self._side.send(REPORT.pack(self._swallowed_bytes, now_ns))

    def _answer(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > _HEAD_BYTES_MAX:
            self._side.send(ANSWER)
            self._close()

    def _close(self) -> None:
        self._selector.unregister(self._side)
        self._side.close()


_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE
_ZEROES = bytes(_CHUNK_BYTES)
_SPARE = bytearray(1024 * 1024)


def serve(listener: socket.socket) -> None:
    """Until the process is ended."""
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, events in selector.select():
                if isinstance(key.data, Conversation):
                    key.data.serve(events)
                    continue
                try:
                    side, _ = listener.accept()
                except OSError:
                    continue  # whoever dialled has left
                Conversation(side, selector)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
