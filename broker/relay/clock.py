"""The relay's clocks: wall and boot time, both moved by a test's offset where one is set."""

import time
from pathlib import Path

_REREAD_S = 0.05


class Clock:
    """Wall clock in ms and boot-time clock in s.

    With an offset file (`FLEETGATE_TEST_CLOCK`) both are moved together by the seconds in it.
    Links never use it: their time is the loop's.
    """

    def __init__(self, offset_file: Path | None = None) -> None:
        self._offset_file = offset_file
        self._offset_s = 0.0
        self._reread_at_s = 0.0

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        now_ms = time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000
        return now_ms + round(self._moved_s() * 1000)

    def now_s(self) -> float:
        """Seconds that this machine has run; sleeping counts."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._moved_s()

    def _moved_s(self) -> float:
        if self._offset_file is None:
            return 0.0
        now_s = time.monotonic()
        if now_s >= self._reread_at_s:
            self._reread_at_s = now_s + _REREAD_S
            try:
                self._offset_s = float(self._offset_file.read_text().strip() or "0")
            except (FileNotFoundError, ValueError):
                # A file half written: the offset read before stays in force.
                pass
        return self._offset_s
