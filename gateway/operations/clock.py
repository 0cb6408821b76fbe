"""Accepting the server's clock, after a person has looked at it."""

import msgspec

from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.clock_state import accept_clock, caution_of
from gateway.operations.registry import Call, operation


class AcceptClock(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing has to be said."""


class AcceptedClock(msgspec.Struct):
    """The time that is taken for right, and what had been waited for, if anything."""

    now: str
    was_in_doubt: str | None
    was_waited_for: str | None


@operation(
    "clock.accept",
    "POST",
    "/clock/accept",
    right=Right.OPERATE,
    result=AcceptedClock,
)
def accept(call: Call, given: AcceptClock) -> AcceptedClock:
    """Takes the server's clock for right: charges and expiries go on."""
    doubt, caution = call.tx.trust.doubt, caution_of(call.tx)
    accept_clock(call.tx)
    record(
        call.tx,
        "clock.accepted",
        actor=call.principal.name,
        owner_id=None,
        company_id=None,
        device_id=None,
        serial=None,
        subject="",
        detail={"in_doubt": doubt, "waited_for": "" if caution is None else caution.why},
    )
    return AcceptedClock(
        instant_text(call.tx.now_ms), doubt or None, None if caution is None else caution.why
    )
