"""Writes down every sample made and every sample receipted, for a checker that looks from outside.

`made` is written before the sample goes into the spool. The other way round, a process killed in
between would leave a sample in the spool of which the journal knows nothing, and the proof that
everything in a spool gets stored would have a hole. This way the last `made` of a killed process
may name a sample that never reached the spool: one at most, and the checker can tell, because it
is the very last line of that process about a run that then ended.
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
        if path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o644)

    def made(self, serial: str, run: str, number: int, at_ms: int) -> None:
        """Called before the sample is put into the spool."""
        self.made_count += 1
        self._write("made", serial, run, (number,), at_ms)

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
