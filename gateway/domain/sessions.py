"""Sessions: how long they last, how many there may be, and why they end."""

from enum import StrEnum

MINUTES_DEFAULT = 60
MINUTES_MAX = 720
REASON_CHARS_MAX = 200
IDLE_STREAMS_S = 15 * 60  # no open stream for so long ends a session
IDLE_BYTES_S = 60 * 60  # and so does no byte for so long
SESSIONS_OF_DEVICE_MAX = 8  # as many as an agent takes
SESSIONS_OF_PERSON_MAX = 50
WEB_PROTOCOLS = frozenset({"http", "https"})


class SessionState(StrEnum):
    """What people see: wanted without a link, with one, or over."""

    WAITING = "waiting"
    OPEN = "open"
    ENDED = "ended"


class Ended(StrEnum):
    """Why a session ended."""

    CLOSED = "closed"  # by a person
    EXPIRED = "expired"
    IDLE_STREAMS = "idle_streams"
    IDLE_BYTES = "idle_bytes"
    UNREGISTERED = "unregistered"
    SERVICE_UNPAID = "service_unpaid"
    COMPANY_SUSPENDED = "company_suspended"
    RIGHT_LOST = "right_lost"
    MOVED = "moved"  # the device belongs to another company now
    RELEASED = "released"  # another device took the serial over
    CONTROL_LINK_LOST = "control_link_lost"  # the relay heard nothing of the gateway
    OVER = "over"  # the relay ended it for another reason


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
