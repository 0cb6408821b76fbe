"""Takes a relay out of service: no new session goes there, and it ends after its last one."""

import msgspec
from sqlalchemy import func, select, update

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.registry import Call, operation
from gateway.storage.schema import relay, session
from gateway.storage.transaction import Signal


class DrainRelay(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which relay, by its name; `drain` false puts it back into service."""

    relay_id: str
    drain: bool = True


class DrainedRelay(msgspec.Struct):
    """`sessions` is how many it still carries; at 0 one that is drained ends by itself."""

    id: str
    draining: bool
    sessions: int


# Bound to one life of the relay: whoever is started anew takes sessions.
IS_DRAINED = (relay.c.epoch != "") & (relay.c.drained_epoch == relay.c.epoch)
CARRIED = (
    select(func.count())
    .where(session.c.relay_id == relay.c.id, session.c.ended_at.is_(None))
    .scalar_subquery()
)


@operation(
    "relays.drain", "POST", "/relays/{relay_id}/drain", right=Right.OPERATE, result=DrainedRelay
)
def drain_relay(call: Call, given: DrainRelay) -> DrainedRelay:
    """Sends no new session to a relay, which ends once its last one is over; or goes on with it."""
    call.tx.lock_relay(given.relay_id)
    wanted = relay.c.id == given.relay_id
    row = call.tx.one(select(relay.c.epoch, CARRIED.label("carried")).where(wanted))
    if row is None:
        raise Refused(Code.NOT_FOUND, "There is no such relay; /status lists those that there are.")
    if given.drain and not row.epoch:
        raise Refused(Code.UNAVAILABLE, "This relay was never heard, so there is nothing to drain.")
    call.tx.run(
        update(relay).where(wanted).values(drained_epoch=row.epoch if given.drain else None)
    )
    call.tx.signals.add(Signal.RELAY)
    record(
        call.tx,
        "relays.drain",
        actor=call.principal.name,
        owner_id=None,
        company_id=None,
        device_id=None,
        serial=None,
        subject=given.relay_id,
        detail={"drain": given.drain, "sessions": row.carried},
    )
    return DrainedRelay(given.relay_id, given.drain, row.carried)
