"""What `fleetgate-agent status` shows of a running agent: one small file in memory."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from agent.clock import Clock
from agent.heartbeat import Heartbeats
from agent.spool import Spool

FILE_NAME = "status.json"
_WRITE_MS_MIN = 5_000
_FILE_BYTES_MAX = 16 * 1024


class Shown(NamedTuple):
    """What stands in the file."""

    pid: int
    run: str
    server: str | None
    connections: int
    last_receipt_ms: int | None  # wall clock of the device
    receipts: int
    spool: int
    dropped: int
    refused: int
    sampling_s: int
    sending_s: int
    written_ms: int
    sessions: Sequence[str] = ()


class Status:
    """Writes the file, at most every 5 s unless the connection or a session changed."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._path = directory / FILE_NAME
        self._clock = clock
        self._written_ms = 0
        self._server: str | None = None
        self._sessions: Sequence[str] = ()
        self._receipts = 0
        self._last_receipt_ms: int | None = None

    def note(
        self,
        server: str | None,
        heartbeats: Heartbeats,
        spool: Spool,
        sessions: Sequence[str] = (),
    ) -> None:
        """Something happened."""
        now_ms = self._clock.boot_ms()
        if heartbeats.receipts != self._receipts:
            self._receipts = heartbeats.receipts
            self._last_receipt_ms = self._clock.wall_ms()
        changed = server != self._server or sessions != self._sessions
        if not changed and now_ms - self._written_ms < _WRITE_MS_MIN:
            return
        self._server, self._sessions, self._written_ms = server, sessions, now_ms
        shown = Shown(
            os.getpid(),
            heartbeats.run,
            server,
            heartbeats.connection,
            self._last_receipt_ms,
            heartbeats.receipts,
            len(spool),
            spool.dropped,
            spool.refused,
            heartbeats.intervals.sampling_s,
            heartbeats.intervals.sending_s,
            self._clock.wall_ms(),
            sessions,
        )
        beside = self._path.with_name(FILE_NAME + ".new")
        try:
            beside.write_text(json.dumps(shown._asdict()), encoding="utf-8")
            beside.replace(self._path)
        except OSError:
            pass  # Memory is full: the sample matters more, and its own failure is logged.


def read_status(directory: Path) -> Shown | None:
    """What the running agent wrote last; None when there is nothing to read."""
    try:
        with (directory / FILE_NAME).open("rb") as file:
            return Shown(**json.loads(file.read(_FILE_BYTES_MAX)))
    except (OSError, ValueError, TypeError):
        return None
