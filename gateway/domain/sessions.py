"""Sessions: how long they last, how many there may be, and why they end."""

from enum import StrEnum

from gateway.domain.instants import DAY_MS
from wire.endings import Ended

MINUTES_DEFAULT = 60
MINUTES_MAX = 720
REASON_CHARS_MAX = 200
IDLE_STREAMS_S = 15 * 60  # no open stream for so long ends a session
IDLE_BYTES_S = 60 * 60  # and so does no byte for so long
SESSIONS_OF_DEVICE_MAX = 8  # as many as an agent takes
SESSIONS_OF_PERSON_MAX = 50
USAGE_KEPT_MS = DAY_MS  # after a session's end; its totals are kept with the session
SESSION_KEPT_MS = 2 * 365 * DAY_MS  # after its end; the audit stays
REVOCATION_KEPT_MS = DAY_MS  # no session lives longer, nor does a relay remember for longer
WEB_PROTOCOLS = frozenset({"http", "https"})


class SessionState(StrEnum):
    """What people see: wanted without a link, with one, or over."""

    WAITING = "waiting"
    OPEN = "open"
    ENDED = "ended"


def ended_because(text: str) -> Ended:
    """The reason that a relay gave."""
    try:
        return Ended(text)
    except ValueError:
        return Ended.OVER


def state_of(ended_at: int | None, linked: bool) -> SessionState:
    """The state of a session; `linked` is the relay's word."""
    if ended_at is not None:
        return SessionState.ENDED
    return SessionState.OPEN if linked else SessionState.WAITING
