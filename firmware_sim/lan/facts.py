"""What the servers of a simulated router say about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wire.fields import Value

# The sign-in of every simulated router, on its page and over SSH.
USER = "admin"
PASSWORD = "admin01"
SSH_USERS = frozenset({USER, "root"})  # RutOS calls its administrator `root` over SSH


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """Identity of one router, and a way to ask for its values of this moment."""

    serial: str
    hostname: str
    model: str
    firmware: str
    read: Callable[[], Mapping[str, Value]]
