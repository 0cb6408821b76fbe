"""Ends sessions: one way for all reasons, so that relay, agent and audit always hear of it."""

from sqlalchemy import bindparam, insert, select, update

from gateway.operations import outbox
from gateway.operations.audit_writing import record
from gateway.operations.session_locks import lock_sessions_of
from gateway.storage.schema import device_live, relay, revocation, session
from gateway.storage.transaction import AnyRow, Signal, Transaction
from wire.commands import Verb
from wire.endings import Ended

_WANTED = select(session).where(
    session.c.device_id == bindparam("of_device"), session.c.ended_at.is_(None)
)
_END = (
    update(session)
    .where(session.c.id == bindparam("ending"), session.c.ended_at.is_(None))
    .values(
        ended_at=bindparam("at"),
        ended_because=bindparam("because"),
        ended_by=bindparam("by"),
        linked=False,
    )
)
_NUMBER = (
    update(relay)
    .where(relay.c.id == bindparam("of_relay"))
    .values(newest=relay.c.newest + 1)
    .returning(relay.c.newest)
)
_NODE = select(device_live.c.node).where(device_live.c.device_id == bindparam("of_device"))


def end_session(tx: Transaction, row: AnyRow, reason: Ended, actor: str) -> bool:
    """Ends a session; False when somebody else had ended it. `row` is of the table `session`,
    read after its relay was locked.

    The relay is sent a numbered revocation, the agent the command `close`, and the audit has a
    row of what was done, all in this transaction.
    """
    ended = {"ending": row.id, "at": tx.now_ms, "because": reason.value, "by": actor}
    if tx.run(_END, ended) == 0:
        return False
    revoke(tx, row.relay_id, row.id, reason)
    outbox.put(
        tx,
        device_id=row.device_id,
        serial=row.serial,
        node=tx.scalar(_NODE, {"of_device": row.device_id}),
        verb=Verb.CLOSE,
        args={"session": row.id},
        actor=actor,
    )
    record_of(
        tx,
        "session.ended",
        row,
        actor,
        ended_because=reason.value,
        duration_s=(tx.now_ms - row.created_at) // 1000,
        bytes_out=row.bytes_to_device,
        bytes_in=row.bytes_from_device,
    )
    return True


def end_sessions_of(tx: Transaction, device_id: int, reason: Ended, actor: str) -> int:
    """Ends every session of a device, which is locked; how many there were."""
    lock_sessions_of(tx, (device_id,))
    rows = tx.all(_WANTED, {"of_device": device_id})
    return sum(end_session(tx, row, reason, actor) for row in rows)


def revoke(tx: Transaction, relay_id: str, session_id: str, reason: Ended) -> None:
    """Queues a revocation: the relay is told until it says that it has applied the number."""
    number = tx.scalar(_NUMBER, {"of_relay": relay_id})
    tx.run(
        insert(revocation),
        {
            "relay_id": relay_id,
            "number": number,
            "session_id": session_id,
            "reason": reason.value,
            "at": tx.now_ms,
        },
    )
    tx.signals.add(Signal.RELAY)


def record_of(tx: Transaction, verb: str, row: AnyRow, actor: str, **detail: object) -> None:
    """An entry of the audit about a session."""
    about = {
        "target": row.target,
        "target_name": row.target_name,
        "protocol": row.protocol,
        "reason": row.reason,
    }
    record(
        tx,
        verb,
        actor=actor,
        owner_id=row.person_id,
        company_id=row.company_id,
        device_id=row.device_id,
        serial=row.serial,
        subject=row.id,
        detail={**about, **detail},
    )
