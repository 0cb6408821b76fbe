"""The dialogue of AT commands with a modem: bytes in, answers out, no port."""

import re
from typing import NamedTuple

LINE_BYTES_MAX = 1_024
LINES_MAX = 64
_FINAL = re.compile(r"OK|ERROR|NO CARRIER|\+CM[ES] ERROR: ?(.{0,40})")
# What modems say unasked, beside lines that begin with a plus and another name.
_UNASKED = re.compile(r"RING|RDY|NO CARRIER|POWERED DOWN|NORMAL POWER DOWN|\^.*")


class Answer(NamedTuple):
    """The lines between a command and its end; `error` is the code, or a text, of a refusal."""

    command: str
    lines: tuple[str, ...]
    ok: bool
    error: str = ""


class Dialogue:
    """One command at a time; lines that were not asked for, and the echo, are left out."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._skipping = False  # the rest of a line that was too long
        self._command: str | None = None
        self._lines: list[str] = []

    def begin(self, command: str) -> bytes:
        """What to write for this command; an unfinished one before it is given up."""
        self._command, self._lines = command, []
        self._pending.clear()
        return command.encode("ascii") + b"\r"

    def feed(self, data: bytes) -> Answer | None:
        """Takes what was read; the answer once it is whole, and what follows it is dropped."""
        for byte in data:
            if byte not in (10, 13):
                if len(self._pending) < LINE_BYTES_MAX:
                    self._pending.append(byte)
                else:
                    self._skipping = True
                continue
            line = "" if self._skipping else self._pending.decode("utf-8", "replace").strip()
            self._pending.clear()
            self._skipping = False
            answer = self._take(line)
            if answer is not None:
                return answer
        return None

    def _take(self, line: str) -> Answer | None:
        command = self._command
        if command is None or not line or line.upper() == command.upper():
            return None
        final = _FINAL.fullmatch(line)
        if final is not None:
            answer = Answer(command, tuple(self._lines), line == "OK", final[1] or "")
            self._command, self._lines = None, []
            return answer
        if len(self._lines) < LINES_MAX and _belongs(command, line):
            self._lines.append(line)
        return None


def _belongs(command: str, line: str) -> bool:
    """Whether the line answers the command: `AT+CSQ` has `+CSQ: …`, `AT+CGSN` bare digits."""
    if not line.startswith("+"):
        return _UNASKED.fullmatch(line) is None
    name = re.match(r"AT(\+[A-Z0-9]+)", command, re.IGNORECASE)
    return name is not None and line.upper().startswith(f"{name[1].upper()}:")
