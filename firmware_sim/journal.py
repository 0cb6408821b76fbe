"""Writes down every sample made and every sample receipted, for a checker that looks from outside.

`made` is written when the sample is in the spool and before it can be sent. A process that is
killed between the two leaves one sample in a spool of which the journal knows nothing; it writes
that line at its next start, from the spool. So, once killed processes were started again, the
journal names exactly the samples that were put into a spool, each once.
"""

import json
import os
from pathlib import Path


class JournalFile:
    """Lines of JSON, appended; any number of processes may write to one file."""

    def __init__(self, path: Path | None) -> None:
        self.made_count = 0
        self.receipted_count = 0
        self._descriptor: int | None = None
        self._told: dict[tuple[str, str], int] = {}  # the highest number of each run
        if path is not None:
            self._read(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o644)

    def made(self, serial: str, run: str, number: int, at_ms: int) -> None:
        """Called when the sample is in the spool; what was written before is not written again."""
        if number <= self._told.get((serial, run), 0):
            return
        self._told[serial, run] = number
        self.made_count += 1
        self._write("made", serial, run, (number,), at_ms)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        with path.open(encoding="ascii") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # another process is writing this line, or was killed in it
                if entry["event"] == "made":
                    key = entry["serial"], entry["run"]
                    self._told[key] = max(self._told.get(key, 0), entry["number"])

    def receipted(self, serial: str, run: str, numbers: list[int], at_ms: int) -> None:
        """Called when a receipt covered these numbers, which were still in the spool."""
        self.receipted_count += len(numbers)
        self._write("receipted", serial, run, numbers, at_ms)

    def _write(
        self, event: str, serial: str, run: str, numbers: "list[int] | tuple[int, ...]", at_ms: int
    ) -> None:
        if self._descriptor is None:
            return
        line = {"event": event, "serial": serial, "run": run, "number": 0, "at": at_ms}
        text = "".join(json.dumps(line | {"number": number}) + "\n" for number in numbers)
        # One write: lines of several processes never mix, and nothing waits in a buffer for a kill.
        os.write(self._descriptor, text.encode())

    def close(self) -> None:
        """Gives the file back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
