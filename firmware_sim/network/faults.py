"""What one direction of a network does to the bytes that travel in it."""

from dataclasses import dataclass, field
from random import Random

READ_BYTES_MAX = 256 * 1024
QUEUE_S_MAX = 0.05
_QUANTUM_S = 0.005


@dataclass(slots=True)
class Faults:
    """The settings of one direction, changeable at any time, and what has travelled so far.

    A setting holds for bytes that enter the network from now on; zero means no such fault.
    The bandwidth is shared by all connections, like a radio's. A connection that was fast before
    keeps what its system's buffers hold already, up to 6 MiB: a short queue needs a narrow start.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bandwidth_bytes_s: float = 0.0
    slice_bytes: int = 0
    slice_pause_ms: float = 0.0
    # Each connection is reset when this many bytes of it have been delivered: a cut at a byte.
    reset_after_bytes: int = 0

    taken_bytes: int = field(default=0, init=False)
    delivered_bytes: int = field(default=0, init=False)
    swallowed_bytes: int = field(default=0, init=False)
    in_flight_bytes: int = field(default=0, init=False)
    # Kept by `black_hole`, `hold` and `mend` of the proxy.
    silent: bool = field(default=False, init=False)
    held: bool = field(default=False, init=False)
    _sent_at_s: float = field(default=0.0, init=False, repr=False)

    def clear(self) -> None:
        """No more latency, jitter, bandwidth, slices and limit."""
        self.latency_ms = self.jitter_ms = self.bandwidth_bytes_s = self.slice_pause_ms = 0.0
        self.slice_bytes = self.reset_after_bytes = 0

    def room(self, now_s: float) -> int:
        """How many bytes may enter now: 0 while the queue before a narrow link is full."""
        if not self.bandwidth_bytes_s:
            return READ_BYTES_MAX
        if self._sent_at_s - now_s >= QUEUE_S_MAX:
            return 0
        return min(READ_BYTES_MAX, max(1, int(self.bandwidth_bytes_s * _QUANTUM_S)))

    def room_at_s(self, now_s: float) -> float:
        """When to ask for room again; soon, since the bandwidth may be changed meanwhile."""
        return now_s + min(QUEUE_S_MAX, self._sent_at_s - now_s - QUEUE_S_MAX + _QUANTUM_S)

    def due_s(self, now_s: float, count: int, rng: Random) -> float:
        """When `count` bytes that enter now come out, on a network that kept no order."""
        due_s = now_s
        if self.bandwidth_bytes_s:
            began_s = max(now_s, self._sent_at_s)
            self._sent_at_s = due_s = began_s + count / self.bandwidth_bytes_s
        if self.latency_ms:
            due_s += self.latency_ms / 1_000
        if self.jitter_ms:
            due_s += rng.uniform(-self.jitter_ms, self.jitter_ms) / 1_000
        return due_s
