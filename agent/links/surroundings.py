"""What all sessions of an agent share."""

import ssl
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from agent.clock import Clock
from agent.links.allow import AllowList
from agent.links.resolver import Resolve
from agent.links.target import DialTarget
from wire.session_commands import Report


class Surroundings(NamedTuple):
    """Handed to each session."""

    allow: AllowList
    dial_target: DialTarget
    resolve: Resolve
    tls: Callable[[], ssl.SSLContext]
    clock: Clock
    rng: Random
    buffer: memoryview
    opens_per_s: float
    report: Callable[[Report], None]
