"""Why sessions end: the closed list that gateway, relay, agent and `fleetgate connect` share."""

from enum import StrEnum


class Ended(StrEnum):
    """Why a session ended; what ends otherwise, as a link does, may come back."""

    CLOSED = "closed"  # by a person
    EXPIRED = "expired"
    IDLE_STREAMS = "idle_streams"  # nothing was open for a while
    IDLE_BYTES = "idle_bytes"  # nothing moved for a while
    UNREGISTERED = "unregistered"
    SERVICE_UNPAID = "service_unpaid"
    COMPANY_SUSPENDED = "company_suspended"
    RIGHT_LOST = "right_lost"
    MOVED = "moved"  # the device belongs to another company now
    RELEASED = "released"  # another device took the serial over
    RESTORED = "restored"  # the installation was restored from a backup
    CONTROL_LINK_LOST = "control_link_lost"  # the relay heard nothing of the gateway
    OVER = "over"  # the relay ended it for another reason
