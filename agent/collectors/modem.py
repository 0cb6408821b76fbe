"""Values of a modem at a serial port of this device, beside those of the device itself."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from agent.collectors.at_answers import DECODERS, TRAFFIC, qgdcnt, values_of
from agent.collectors.at_dialogue import Answer, Dialogue
from agent.collectors.counter import U32, Counter
from agent.collectors.linux import LinuxCollector
from agent.collectors.reading import Values, known
from agent.errors import ConfigurationError
from wire.fields import Value

log = logging.getLogger(__name__)

AUTOMATIC = "auto"
BAUD = 115_200
ANSWER_S_MAX = 3.0
PASS_S_MAX = 20.0
_PROBE_S_MAX = 1.0
_READ_S = 0.2
_READ_BYTES_MAX = 4_096
_DRAIN_READS_MAX = 32
_ANSWER_BYTES_MAX = 64 * 1024
_PORTS_MAX = 16
_TRAFFIC = ("mobile_received", "mobile_sent")
_PORTS = ("ttyUSB*", "ttyACM*")
# No echo, errors by number, cells with the registration, operators by name; none of it is stored.
_OPENING = ("ATE0", "AT+CMEE=1", "AT+CREG=2", "AT+COPS=3,0")


class Port(Protocol):
    """What is used of a serial port; `OSError` when it is gone."""

    def read(self) -> bytes:
        """What has come, after a short wait for the first byte."""

    def write(self, data: bytes) -> None:
        """Sends it."""

    def close(self) -> None:
        """Lets others have it."""


OpenPort = Callable[[str, int], Port]


class SerialPort:
    """A port of pyserial that gives what is there instead of waiting for more."""

    def __init__(self, serial: Any) -> None:
        self._serial = serial

    def read(self) -> bytes:
        """What has come, after a short wait for the first byte."""
        data: bytes = self._serial.read(min(self._serial.in_waiting, _READ_BYTES_MAX) or 1)
        return data

    def write(self, data: bytes) -> None:
        """Sends it."""
        self._serial.write(data)

    def close(self) -> None:
        """Lets others have it."""
        self._serial.close()


def open_serial(name: str, baud: int) -> Port:
    """The real port, which no other program may use meanwhile. Raises `OSError`."""
    return SerialPort(
        _library().Serial(name, baud, timeout=_READ_S, write_timeout=ANSWER_S_MAX, exclusive=True)
    )


def check_library() -> None:
    """Raises `ConfigurationError` where the library for serial ports is missing."""
    _library()


def _library() -> Any:
    try:
        import serial
    except ImportError as error:
        text = "collector: a modem needs pyserial: pip install 'fleetgate-agent[modem]'"
        raise ConfigurationError(text) from error
    return serial


class ModemCollector:
    """Asks the modem, when there is one; whatever it does, the device's own values come."""

    def __init__(
        self,
        port: str = AUTOMATIC,
        baud: int = BAUD,
        *,
        root: Path = Path("/"),
        open_port: OpenPort = open_serial,
    ) -> None:
        self._names = port
        self._baud = baud
        self._root = root
        self._open_port = open_port
        self._linux = LinuxCollector(root)
        self._port: Port | None = None
        self._failure = ""
        self._commands = [*DECODERS, TRAFFIC]
        self._kernel_counts: bool | None = None
        self._received, self._sent = Counter(U32), Counter(U32)

    def __call__(self) -> Mapping[str, Value]:
        values: Values = dict(self._linux())
        try:
            said = self._ask_modem()
        except (OSError, ValueError) as error:  # pyserial's own errors are OSErrors
            said = {}
            self._tell(str(error))
            self.close()
        if self._kernel_counts is None and any(name in values or name in said for name in _TRAFFIC):
            # Of the modem's own count and the kernel's of its interface, the one that is seen first
            # stays the source: one would look like a reset of the other.
            self._kernel_counts = any(name in values for name in _TRAFFIC)
        counted = values if self._kernel_counts else said
        merged = {name: v for name, v in (said | values).items() if name not in _TRAFFIC}
        return merged | {name: counted[name] for name in _TRAFFIC if name in counted}

    def close(self) -> None:
        """Gives the port back; the next reading opens it again."""
        if self._port is not None:
            try:
                self._port.close()
            except OSError as error:
                log.debug("port closed badly error=%s", error)
            self._port = None

    def _tell(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            log.warning("modem gives nothing port=%s error=%s", self._names, failure or "none")

    def _ask_modem(self) -> Values:
        until_s = time.monotonic() + PASS_S_MAX
        port = self._port = self._port or self._find(until_s)
        _drain(port)
        answers: list[Answer] = []
        for command in list(self._commands):
            answer = converse(port, command, min(until_s, time.monotonic() + ANSWER_S_MAX))
            if answer is None:
                # What it still says would be taken for answers to what follows. The command is
                # asked last from now on, so that in the next pass it costs its own fields only.
                self._commands.remove(command)
                self._commands.append(command)
                break
            answers.append(answer)
        if not answers:
            raise TimeoutError("the modem has stopped answering")
        self._failure = ""
        counted = next((a for a in answers if a.command == TRAFFIC and a.ok), None)
        received, sent = (None, None) if counted is None else qgdcnt(counted)
        totals = {
            "mobile_received": self._received.read(received),
            "mobile_sent": self._sent.read(sent),
        }
        return values_of(answers) | known(totals)

    def _find(self, until_s: float) -> Port:
        """The first port at which somebody answers to AT. Raises `OSError`."""
        for name in self._candidates():
            try:
                port = self._open_port(name, self._baud)
            except (OSError, ValueError) as error:
                log.debug("port cannot be opened port=%s error=%s", name, error)
                continue
            if _greets(port, min(until_s, time.monotonic() + _PROBE_S_MAX)):
                log.info("modem found port=%s", name)
                for command in _OPENING:
                    converse(port, command, min(until_s, time.monotonic() + _PROBE_S_MAX))
                return port
            port.close()
        raise FileNotFoundError(f"nothing answers to AT at {self._names}")

    def _candidates(self) -> list[str]:
        if self._names != AUTOMATIC:
            return [self._names]
        found = [str(path) for name in _PORTS for path in (self._root / "dev").glob(name)]
        return sorted(found)[:_PORTS_MAX]


def converse(port: Port, command: str, until_s: float) -> Answer | None:
    """Asks and reads until the answer is whole; None when it is not by then, or too long."""
    dialogue = Dialogue()
    port.write(dialogue.begin(command))
    taken = 0
    while taken <= _ANSWER_BYTES_MAX and time.monotonic() < until_s:
        data = port.read()
        taken += len(data)
        answer = dialogue.feed(data)
        if answer is not None:
            return answer
    return None


def _greets(port: Port, until_s: float) -> bool:
    try:
        _drain(port)
        answer = converse(port, "AT", until_s)
    except OSError:
        return False
    return answer is not None and answer.ok


def _drain(port: Port) -> None:
    """Drops what came unasked, or too late for the last question."""
    for _ in range(_DRAIN_READS_MAX):
        if not port.read():
            return
