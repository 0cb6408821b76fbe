"""A heartbeat machine on its disk, with a clock that is set by hand, for tests."""

import shutil
from pathlib import Path
from random import Random

from agent.heartbeat import Heartbeats
from agent.intervals import Intervals
from agent.spool import Spool
from wire.fields import Value

INTERVALS = Intervals(60, 60)


class Device:
    """The machine on its disk, with a clock that is set by hand."""

    def __init__(self, folder: Path, *, limit: int = 10_000, intervals: Intervals = INTERVALS):
        self.memory, self.flash = folder / "memory", folder / "flash"
        self.limit, self.intervals = limit, intervals
        self.now_ms = 1_000_000
        self.boot = 1
        self.rng = Random(5)
        self.start()

    def start(self) -> None:
        self.spool = Spool(self.memory, self.flash, limit=self.limit)
        self.machine = Heartbeats(
            self.spool, boot_id=f"boot-{self.boot}", rng=self.rng, intervals=self.intervals
        )
        self.spool.note_offset(self.machine.run, 5_000 * self.boot)

    def kill(self) -> None:
        self.spool.close()
        self.start()

    def reboot(self) -> None:
        self.spool.snapshot()
        self.spool.close()
        shutil.rmtree(self.memory)
        self.boot += 1
        self.now_ms = 10_000
        self.start()

    def connect(self) -> None:
        self.machine.next_connection()
        self.machine.connected(self.now_ms)

    def sample(self, values: dict[int, Value]) -> int:
        return self.machine.sample(values, self.now_ms)

    def take(self) -> list[bytes]:
        taken = []
        while (payload := self.machine.take(self.now_ms)) is not None:
            taken.append(payload)
        return taken
