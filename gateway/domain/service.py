"""A device's service as people see it: a state and the reason for it."""

from enum import StrEnum
from typing import NamedTuple

from gateway.domain.refusals import Code

UNSERVED_INTERVAL_S = 900  # a router nobody pays for must not eat its SIM


class State(StrEnum):
    """Whether heartbeats are kept and remote access works."""

    ACTIVE = "active"
    UNPAID = "unpaid"
    OFF = "off"


class Reason(StrEnum):
    """Why it is so."""

    PAID = "paid"
    GRACE = "grace"
    NO_CREDIT = "no_credit"
    LIMIT = "limit"
    SUSPENDED = "suspended"
    SWITCHED_OFF = "switched_off"
    NOT_ACTIVATED = "not_activated"
    UNHEARD = "unheard"


class Service(NamedTuple):
    """State and reason; only the pairs of this module exist."""

    state: State
    reason: Reason


PAID = Service(State.ACTIVE, Reason.PAID)
GRACE = Service(State.ACTIVE, Reason.GRACE)
NO_CREDIT = Service(State.UNPAID, Reason.NO_CREDIT)
LIMIT = Service(State.UNPAID, Reason.LIMIT)
SUSPENDED = Service(State.OFF, Reason.SUSPENDED)
NOT_ACTIVATED = Service(State.OFF, Reason.NOT_ACTIVATED)
UNHEARD = Service(State.OFF, Reason.UNHEARD)
SWITCHED_OFF = Service(State.OFF, Reason.SWITCHED_OFF)

PAIRS = frozenset({PAID, GRACE, NO_CREDIT, LIMIT, SUSPENDED, NOT_ACTIVATED, UNHEARD, SWITCHED_OFF})


def unpaid(code: Code) -> Service:
    """The service of a device for which nobody could pay."""
    return LIMIT if code is Code.PARENT_LIMIT_REACHED else NO_CREDIT
