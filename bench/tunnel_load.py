"""Load over any tunnel that offers a local port which leads to the server behind it.

Every function takes the visitor's side of the tunnel, as host and port.
"""

import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from bench.bad_network import resident_bytes
from bench.installation import cpu_s
from bench.server_behind import BODY, ECHO, REPORT, SINK, SOURCE

Direction = Literal["to device", "from device"]

WARM_UP_S = 1.0
WINDOW_S = 4.0
GETS = 15
ECHOES = 2_000
READERS = 3
REQUESTS = 20
SETTLE_S = 1.5
PARALLEL = 32
STREAMS_S = 3.0
ANSWER_S_MAX = 30.0
_CHUNK_BYTES = 256 * 1024
_REQUEST = b"GET / HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Throughput:
    """One stream, one direction; the processor time is of the processes that were named."""

    mbit_s: float
    cpu_s_per_gb: float


@dataclass(frozen=True, slots=True)
class Stalled:
    """What readers that stop do to other streams and to memory."""

    before_ms: float
    during_ms: float
    longest_ms: float
    growth_bytes: int

    @property
    def added_ms(self) -> float:
        """Median delay of the others, beyond what it was."""
        return self.during_ms - self.before_ms


@contextmanager
def stream(host: str, port: int) -> Iterator[socket.socket]:
    """A connection that nothing collects small pieces on."""
    with socket.create_connection((host, port), timeout=ANSWER_S_MAX) as side:
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield side


def throughput(
    host: str,
    port: int,
    direction: Direction,
    *,
    pids: Sequence[int] = (),
    warm_up_s: float = WARM_UP_S,
    window_s: float = WINDOW_S,
) -> Throughput:
    """Bytes that arrive at the far end of one stream within the window, after the warm-up."""
    with stream(host, port) as side:
        meter = Meter(pids, warm_up_s, window_s)
        if direction == "from device":
            side.sendall(SOURCE)
            spare, count = bytearray(1024 * 1024), 0
            while not meter.is_over:
                taken = side.recv_into(spare)
                if not taken:
                    raise ConnectionError("the tunnel ended the stream")
                count += taken
                meter.note(count, time.monotonic_ns())
        else:
            reader = threading.Thread(target=_read_reports, args=(side, meter))
            reader.start()
            try:
                zeroes = bytes(_CHUNK_BYTES)
                side.sendall(SINK)
                while not meter.is_over:
                    side.sendall(zeroes)
            finally:
                meter.is_over = True
                side.shutdown(socket.SHUT_RDWR)
                reader.join()
        return meter.result()


class Meter:
    """Counts within a window, by the clock of whoever counts."""

    def __init__(self, pids: Sequence[int], warm_up_s: float, window_s: float) -> None:
        self._pids = pids
        self._warm_up_ns = int(warm_up_s * 1e9)
        self._window_ns = int(window_s * 1e9)
        self._first_ns = 0
        self._begun: tuple[int, int, float] | None = None
        self._ended: tuple[int, int, float] | None = None
        self.is_over = False

    def note(self, count: int, now_ns: int) -> None:
        """So many bytes have arrived until now."""
        if self._ended is not None:
            return
        self._first_ns = self._first_ns or now_ns
        if self._begun is None:
            if now_ns - self._first_ns >= self._warm_up_ns:
                self._begun = (count, now_ns, self._cpu_s())
        elif now_ns - self._begun[1] >= self._window_ns:
            self._ended = (count, now_ns, self._cpu_s())
            self.is_over = True

    def _cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in self._pids)

    def result(self) -> Throughput:
        """Raises `ConnectionError` when the window was not reached."""
        if self._begun is None or self._ended is None:
            raise ConnectionError("the stream ended before the window did")
        count = self._ended[0] - self._begun[0]
        seconds = (self._ended[1] - self._begun[1]) / 1e9
        used_s = self._ended[2] - self._begun[2]
        return Throughput(count * 8 / 1e6 / seconds, used_s / (count / 1e9) if count else 0.0)


def _read_reports(side: socket.socket, meter: Meter) -> None:
    rest = b""
    while not meter.is_over:
        try:
            data = side.recv(65_536)
        except OSError:
            data = b""
        if not data:
            meter.is_over = True
            return
        rest += data
        while len(rest) >= REPORT.size:
            meter.note(*REPORT.unpack_from(rest))
            rest = rest[REPORT.size :]


def get_ms(host: str, port: int) -> float:
    """A GET on a new connection, until the last byte of the answer."""
    began_s = time.perf_counter()
    with stream(host, port) as side:
        side.sendall(_REQUEST)
        answer = b""
        while not answer.endswith(BODY):
            data = side.recv(65_536)
            if not data:
                raise ConnectionError(f"no answer through the tunnel: {answer!r}")
            answer += data
    return (time.perf_counter() - began_s) * 1_000


def median_get_ms(host: str, port: int, count: int = GETS) -> float:
    """Of so many in a row."""
    return statistics.median(get_ms(host, port) for _ in range(count))


def round_trip_us(host: str, port: int, count: int = ECHOES) -> float:
    """Median of 64 bytes there and back on one stream."""
    with stream(host, port) as side:
        side.sendall(ECHO)
        taken = []
        for _ in range(count):
            began_ns = time.perf_counter_ns()
            side.sendall(bytes(64))
            left = 64
            while left:
                data = side.recv(left)
                if not data:
                    raise ConnectionError("the tunnel ended the stream")
                left -= len(data)
            taken.append(time.perf_counter_ns() - began_ns)
    return statistics.median(taken) / 1_000


def stalled_readers(
    host: str, port: int, *, pids: Sequence[int], fast_s: float = 0.0, readers: int = READERS
) -> Stalled:
    """Downloads whose readers stop, at once or after `fast_s` of reading, then small requests."""
    before_ms = median_get_ms(host, port, REQUESTS)
    memory_bytes = sum(map(resident_bytes, pids))
    with ExitStack() as open_streams:
        sides = [open_streams.enter_context(stream(host, port)) for _ in range(readers)]
        for side in sides:
            side.sendall(SOURCE)
        _read_all(sides, fast_s)
        # What the tunnel takes for readers that stopped, it takes now.
        time.sleep(SETTLE_S)
        during = [get_ms(host, port) for _ in range(REQUESTS)]
        growth_bytes = sum(map(resident_bytes, pids)) - memory_bytes
    return Stalled(before_ms, statistics.median(during), max(during), growth_bytes)


def idle_stream_bytes(host: str, port: int, streams: int, *, pids: Sequence[int]) -> float:
    """Memory of these processes for one of many streams that were used once and stay open."""
    before_bytes = sum(map(resident_bytes, pids))
    with ExitStack() as open_streams:
        for _ in range(streams):
            side = open_streams.enter_context(stream(host, port))
            side.sendall(ECHO + b"x")
            assert side.recv(1)
        time.sleep(SETTLE_S)
        return (sum(map(resident_bytes, pids)) - before_bytes) / streams


def _read_all(sides: Sequence[socket.socket], for_s: float) -> None:
    ending_s, spare = time.monotonic() + for_s, bytearray(_CHUNK_BYTES)
    with selectors.DefaultSelector() as selector:
        for side in sides:
            selector.register(side, selectors.EVENT_READ)
        while (left_s := ending_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv_into(spare)


def new_streams_per_s(
    host: str, port: int, *, parallel: int = PARALLEL, for_s: float = STREAMS_S
) -> float:
    """GETs on new connections, so many at a time, that were answered in a second."""
    load = Connections(host, port)
    with load:
        for _ in range(parallel):
            load.dial()
        load.run(0.5)
        before, began_s = load.answered, time.perf_counter()
        load.run(for_s)
        return (load.answered - before) / (time.perf_counter() - began_s)


class Connections:
    """Dials anew whenever a request was answered."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._selector = selectors.DefaultSelector()
        self.answered = 0

    def __enter__(self) -> "Connections":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def dial(self) -> None:
        """One more connection."""
        side = socket.socket()
        side.setblocking(False)
        side.connect_ex(self._address)
        self._selector.register(side, selectors.EVENT_WRITE)

    def run(self, for_s: float) -> None:
        """Raises `ConnectionError` when one was refused or not answered."""
        ending_s = time.monotonic() + for_s
        while (left_s := ending_s - time.monotonic()) > 0:
            for key, events in self._selector.select(left_s):
                side = key.fileobj
                assert isinstance(side, socket.socket)
                if events & selectors.EVENT_WRITE:
                    side.sendall(_REQUEST)
                    self._selector.modify(side, selectors.EVENT_READ, b"")
                    continue
                data = side.recv(4_096)
                answer = key.data + data
                if data and not answer.endswith(BODY):
                    self._selector.modify(side, selectors.EVENT_READ, answer)
                    continue
                if not data:
                    raise ConnectionError(f"no answer through the tunnel: {answer!r}")
                self.answered += 1
                self._selector.unregister(side)
                side.close()
                self.dial()
