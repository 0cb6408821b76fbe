"""The gateway's clocks: wall and boot time, both moved by a test's offset where one is set."""

import os
import time
from pathlib import Path

_REREAD_S = 0.05
_SAME_NS = 1_000_000_000  # clocks read within this are compared by the minute


class Clock:
    """Wall clock and boot-time clock in ms.

    With an offset file (`FLEETGATE_TEST_CLOCK`) both are moved together by the seconds in it,
    so that months can be lived in a test.
    """

    def __init__(self, offset_file: Path | None = None) -> None:
        self._offset_file = offset_file
        self._offset_ms = 0
        self._reread_at_s = 0.0

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000 + self._moved_ms()

    def boot_ms(self) -> int:
        """Milliseconds that this machine has run."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + self._moved_ms()

    def unmoved(self) -> tuple[int, int]:
        """Wall and boot-time clock as the machine has them, whatever a test moved.

        Of the same instant, even if the process was stopped in the middle of it.
        """
        after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        while True:
            before_ns, wall_ns = after_ns, time.clock_gettime_ns(time.CLOCK_REALTIME)
            after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if after_ns - before_ns < _SAME_NS:
                return wall_ns // 1_000_000, after_ns // 1_000_000

    def offset_ms(self) -> int:
        """By how much a test has moved both clocks."""
        return self._moved_ms()

    def _moved_ms(self) -> int:
        if self._offset_file is None:
            return 0
        now_s = time.monotonic()
        if now_s >= self._reread_at_s:
            self._reread_at_s = now_s + _REREAD_S
            try:
                self._offset_ms = round(float(self._offset_file.read_text().strip() or "0") * 1000)
            except (FileNotFoundError, ValueError):
                # A file half written: the offset read before stays in force.
                pass
        return self._offset_ms


def test_clock_file() -> Path | None:
    """The offset file named in the environment, if any."""
    name = os.environ.get("FLEETGATE_TEST_CLOCK", "")
    return Path(name) if name else None
