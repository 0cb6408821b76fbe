"""What a link is handed by its owner: a connection to write to, and timers."""

from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """What carries the bytes: asyncio's transports fit."""

    def write(self, data: bytes) -> None:
        """Sends, or keeps until it can."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""

    def close(self) -> None:
        """Ends the connection after what was written."""

    def abort(self) -> None:
        """Ends it at once."""


class Timer(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Never mind."""


Later = Callable[[float, Callable[[], None]], Timer]


class Timers:
    """Calls that were put off, by name."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._waiting: dict[str, Timer] = {}

    def put_off(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Calls once after the delay, unless a call of that name waits already."""
        if name in self._waiting:
            return

        def due() -> None:
            del self._waiting[name]
            call()

        self._waiting[name] = self._later(delay_s, due)

    def cancel(self) -> None:
        """All of them."""
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
