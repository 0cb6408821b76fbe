"""A server that listens on the real loopback, and how it is ended."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

LOOPBACK = "127.0.0.1"


class Listening(NamedTuple):
    """`close` ends the listener and every connection."""

    port: int
    close: Callable[[], Awaitable[None]]
