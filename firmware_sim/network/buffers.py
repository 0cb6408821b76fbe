"""Large buffers that are used again: making and clearing them would cost more than copying."""

from firmware_sim.network.faults import READ_BYTES_MAX

_FREE_MAX = 64
_ROOM_BYTES_MIN = 64 * 1024


class Buffer:
    """Bytes that were read one after another, and how many pieces of it still travel."""

    __slots__ = ("filled", "pieces", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES_MAX))
        self.filled = 0
        self.pieces = 0

    def has_room(self) -> bool:
        """Whether reading into the rest is worth a call."""
        return READ_BYTES_MAX - self.filled >= _ROOM_BYTES_MIN


class Pool:
    """Free buffers, the warmest first."""

    def __init__(self) -> None:
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        """An empty one."""
        return self._free.pop() if self._free else Buffer()

    def give_back(self, buffer: Buffer) -> None:
        """Keeps it for the next one who takes."""
        buffer.filled = buffer.pieces = 0
        if len(self._free) < _FREE_MAX:
            self._free.append(buffer)
