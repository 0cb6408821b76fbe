"""The clocks an agent is handed: one that never jumps, and the one on the wall."""

import time
from pathlib import Path
from typing import Protocol

from agent.build import BUILT_AT_MS

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """`boot_id` names the boot in which `boot_ms` counts."""

    @property
    def boot_id(self) -> str:
        """Another text after every start of the system."""

    def boot_ms(self) -> int:
        """Milliseconds since the system started, sleep included."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as far as the device knows."""


class SystemClock:
    """The clocks of this machine."""

    def __init__(self, boot_id_file: Path = _BOOT_ID_FILE) -> None:
        self.boot_id = boot_id_file.read_text(encoding="ascii").strip()[:36]

    def boot_ms(self) -> int:
        """Milliseconds since the system started, sleep included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as far as the device knows."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


def wall_is_plausible(wall_ms: int) -> bool:
    """Whether the wall clock can be right: it is not before this build was made."""
    return wall_ms >= BUILT_AT_MS
