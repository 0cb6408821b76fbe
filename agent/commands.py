"""Judges commands and keeps their answers, so that each is carried out once."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

from wire.commands import SEEN_WINDOW, Answer, Command, Outcome, decode_command
from wire.heartbeat import WireError

log = logging.getLogger(__name__)

ANSWERS_MAX = 64

Verbs = Mapping[str, Callable[[Mapping[str, object]], Mapping[str, object]]]


class CommandRefused(Exception):
    """Raised by a verb that will not do what it is told; the text is the reason."""


class SeenWindow:
    """Which of the newest 64 counters of a connection were used, in any order."""

    def __init__(self) -> None:
        self._highest = 0
        self._bits = 0

    def take(self, n: int) -> bool:
        """Whether `n` is new; it is not new from now on."""
        if n > self._highest:
            shift = n - self._highest
            # Without the bound, a far jump would ask for an integer of that many bits.
            self._bits = (self._bits << shift if shift < SEEN_WINDOW else 0) | 1
            self._bits &= (1 << SEEN_WINDOW) - 1
            self._highest = n
            return True
        age = self._highest - n
        if age >= SEEN_WINDOW or self._bits >> age & 1:
            return False
        self._bits |= 1 << age
        return True


class CommandDesk:
    """Takes the commands of one connection after another."""

    def __init__(self, key: bytes, serial: str, verbs: Verbs) -> None:
        self._key = key
        self._serial = serial
        self._verbs = verbs
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._nonce = ""
        self._window = SeenWindow()
        self._server_time_ms = 0
        self.ignored = 0

    def connected(self, nonce: str) -> None:
        """A connection begins: whatever was told to the one before is void."""
        self._nonce = nonce
        self._window = SeenWindow()
        self._server_time_ms = 0

    def heard_server_time(self, time_ms: int) -> None:
        """Receipts carry the server's time; the newest one judges the age of commands."""
        self._server_time_ms = max(self._server_time_ms, time_ms)

    def take(self, payload: bytes) -> Answer | None:
        """Carries out a command; None when nothing is to be said, as to a forged one."""
        if not self._nonce:
            return None
        try:
            command = decode_command(payload, key=self._key, serial=self._serial, nonce=self._nonce)
        except WireError as error:
            self.ignored += 1
            log.warning("command ignored error=%s", error)
            return None
        new = self._window.take(command.n)
        known = self._answers.get(command.id)
        if known is not None:
            return known
        if not new:
            self.ignored += 1
            log.warning("command ignored, its counter was used before n=%d", command.n)
            return None
        answer = self._judge(command)
        self._answers[command.id] = answer
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        log.info(
            "command answered id=%s verb=%s outcome=%s",
            command.id,
            command.verb[:32],
            answer.outcome,
        )
        return answer

    def _judge(self, command: Command) -> Answer:
        age_ms = self._server_time_ms - command.time_ms
        self.heard_server_time(command.time_ms)
        if age_ms > command.ttl_s * 1_000:
            return Answer(command.id, Outcome.REFUSED, {"error": "expired"})
        verb = self._verbs.get(command.verb)
        if verb is None:
            return Answer(command.id, Outcome.REFUSED, {"error": "unknown_verb"})
        try:
            result = verb(command.args)
        except CommandRefused as refusal:
            return Answer(command.id, Outcome.REFUSED, {"error": str(refusal)})
        except OSError as error:
            return Answer(command.id, Outcome.FAILED, {"error": error.strerror or "os_error"})
        return Answer(command.id, Outcome.DONE, result)
