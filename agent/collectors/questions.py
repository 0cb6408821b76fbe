"""Asks programs of this device, within limits of time and size, and leaves hanging ones alone."""

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

ANSWER_BYTES_MAX = 64 * 1024
ANSWER_S_MAX = 3.0
PASS_S_MAX = 15.0
HUNG_REST = 10  # passes in which a question at which a program hung is not asked again
HUNG_MAX = 3  # in one pass; after that it is the program itself that rests
_REAP_S_MAX = 1.0

Ask = Callable[[Sequence[str], float], str]


def ask(command: Sequence[str], within_s: float) -> str:
    """What the program printed. Raises `OSError`; `TimeoutError` when it hung or said too much.

    It is killed then, with whatever it started. Its exit code is not looked at: programs of a
    router print values and fail all the same, and what is no value is left out by who reads it.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = _read(process.stdout.fileno(), time.monotonic() + within_s)
            process.wait(_REAP_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError("closed its output and went on") from error
        finally:
            if process.returncode is None:
                # Not reaped yet, so the number still is that of its group.
                os.killpg(process.pid, signal.SIGKILL)
    return said.decode("utf-8", "replace")


def _read(descriptor: int, until_s: float) -> bytes:
    said = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1_000):
            raise TimeoutError("no end within the time")
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            return bytes(said)
        said += chunk
        if len(said) > ANSWER_BYTES_MAX:
            raise TimeoutError(f"more than {ANSWER_BYTES_MAX} bytes")


class Questions:
    """The questions of one pass after another; all of a pass together have a limit too."""

    def __init__(self, ask_one: Ask = ask) -> None:
        self._ask = ask_one
        self._resting: dict[tuple[str, ...], int] = {}  # bounded by the questions that exist
        self._answered: set[tuple[str, ...]] = set()
        self._hung: dict[str, int] = {}  # in this pass, by program
        self._until_s = 0.0
        self._told: set[str] = set()

    def begin(self) -> None:
        """A new pass."""
        self._until_s = time.monotonic() + PASS_S_MAX
        self._hung.clear()
        self._resting = {key: left - 1 for key, left in self._resting.items() if left > 1}

    def ask(self, *command: str, rest: int = 0) -> str:
        """The answer without blanks around it; empty when there is none.

        `rest` is for how many passes a question that never had an answer is not asked again.
        """
        left_s = min(ANSWER_S_MAX, self._until_s - time.monotonic())
        program = command[0]
        if command in self._resting or (program,) in self._resting or left_s <= 0:
            return ""
        try:
            said = self._ask(command, left_s).strip()
        except TimeoutError as error:
            said = ""
            self._rest(command, HUNG_REST)
            self._hung[program] = self._hung.get(program, 0) + 1
            if self._hung[program] >= HUNG_MAX:
                self._rest((program,), HUNG_REST)
            log.warning("program hung and was ended program=%s error=%s", program, error)
        except OSError as error:
            said = ""
            if program not in self._told:
                self._told.add(program)
                log.info("program cannot be asked program=%s error=%s", program, error)
        if said:
            self._answered.add(command)
        elif rest and command not in self._answered:
            self._rest(command, rest)
        return said

    def _rest(self, command: tuple[str, ...], passes: int) -> None:
        self._resting[command] = passes + 1  # the next pass begins by taking one off
