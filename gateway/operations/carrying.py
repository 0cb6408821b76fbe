"""One tenure follows another: service, period and prepaid days go over to a new row of `device`."""

import json
from typing import Any

from sqlalchemy import LargeBinary, delete, insert, select, update

from gateway.domain.ledger import Kind
from gateway.domain.presence import Presence
from gateway.domain.service import NOT_ACTIVATED
from gateway.operations.devices import one_standing
from gateway.operations.held import Held, book, held_among, held_of, save
from gateway.operations.logins import set_login
from gateway.operations.prepaid import Paid, paid
from gateway.operations.registry import Call
from gateway.operations.standing import bring_up_to_date, clock_forbids, end_period
from gateway.storage.schema import device, device_live, enrolment, join_code, outbox
from gateway.storage.transaction import AnyRow
from wire.commands import Outcome, Verb

# What decides about a device's service beside its period.
STANDING = (
    "start auto_extend state reason period_start period_end payer_id last_start last_end "
    "grace_from grace_until attempted_at switched_off owed_days first_heard_at"
).split()


def emptied() -> dict[str, Any]:
    """The service of a tenure whose days went over to another."""
    return {
        "period_start": None,
        "period_end": None,
        "period_seq": None,
        "grace_from": None,
        "grace_until": None,
        "owed_days": "",
        "state": NOT_ACTIVATED.state.value,
        "reason": NOT_ACTIVATED.reason.value,
    }


def hand_over(
    call: Call,
    row: AnyRow,
    follower_id: int,
    *,
    cause: str,
    more: dict[str, Any],
    again: bool = False,
) -> None:
    """Service and days of a tenure, whose wide `row` was read before it ended, go to another.

    The accounts of both are locked, and the payers' where the period is over. `more`: what else
    the follower's row is to hold. `again`: it had days before.
    """
    former = held_among(row)
    ended = end_what_is_over(call, former)
    lots = [] if ended else lots_of(call, row)
    held = held_of(one_standing(call, follower_id))
    # What went into a tenure of before is none of what this period was paid with.
    seq = call.treasury.last_seq() if again and lots else row.period_seq
    _carry_days(call, lots, row.id, held, cause=cause)
    values = {name: getattr(row, name) for name in STANDING} | {"period_seq": seq, **more}
    if ended:
        values |= {"period_start": None, "period_end": None, "period_seq": None}
        values |= {"last_start": former.last_start, "last_end": former.last_end}
    call.tx.run(update(device).where(device.c.id == follower_id).values(**values))
    if ended:
        begin_next(call, follower_id)


def begin_next(call: Call, device_id: int) -> None:
    """After a period that was over: the next charge is that of the company that holds it now."""
    held = held_of(one_standing(call, device_id))
    bring_up_to_date(call.tx, call.treasury, held, contact=False, forced=True)
    save(call.tx, held)


def is_over(row: AnyRow, now_ms: int) -> bool:
    """Whether a period ran out that no job has ended yet."""
    return row.period_end is not None and bool(row.period_end <= now_ms)


def end_what_is_over(call: Call, held: Held) -> bool:
    """Whether its period was over: then it is booked now, by the rules of the former tenure.

    While the clock is in doubt it goes along as it is, and is ended where it went.
    """
    period = held.period
    if period is None or call.tx.now_ms < period.end_ms or clock_forbids(call.tx, held):
        return False
    end_period(call.tx, call.treasury, held, cause="period_over")
    return True


def lots_of(call: Call, row: AnyRow) -> list[Paid]:
    """What was paid for the running period of a row of `device`; nothing when none runs."""
    if row.period_start is None:
        return []
    return paid(call.tx, row.id, row.period_seq or 0)


def _carry_days(call: Call, lots: list[Paid], source_id: int, held: Held, *, cause: str) -> None:
    """Moves a period's days to the device of `held`.

    Every lot is named, and in the order of payment, so that later refunds find it.
    """
    if not lots:
        return
    treasury = call.treasury
    booking = book(call.tx, treasury, held, actor=call.principal.name, cause=cause)
    source, target = treasury.prepaid(source_id), treasury.prepaid(held.id)
    for lot in lots:
        booking.post(
            Kind.CARRY,
            source,
            target,
            lot.days,
            free=lot.free,
            payer_id=lot.payer_id,
            lot_id=lot.account_id,
        )


def end_tenure(call: Call, device_id: int) -> None:
    """The row holds its serial no longer; nothing of it is heard or swept any more."""
    call.tx.run(
        update(device)
        .where(device.c.id == device_id)
        .values(registered=False, ended_at=call.tx.now_ms, **emptied())
    )
    call.tx.run(
        update(device_live)
        .where(device_live.c.device_id == device_id, device_live.c.presence != Presence.NEVER.value)
        .values(presence=Presence.OFFLINE.value, nonce=None)
    )


def end_commands(call: Call, device_id: int, error: str, *, follower: int | None = None) -> None:
    """What was not answered never will be; a `follower` is still told to close its sessions."""
    waiting = outbox.c.device_id == device_id, outbox.c.answered_at.is_(None)
    if follower is not None:
        closing = outbox.c.verb == Verb.CLOSE.value
        call.tx.run(update(outbox).where(*waiting, closing).values(device_id=follower))
    call.tx.run(
        update(outbox)
        .where(*waiting)
        .values(
            sent_at=call.tx.now_ms,
            answered_at=call.tx.now_ms,
            outcome=Outcome.UNKNOWN.value,
            answer=json.dumps({"error": error}),
        )
    )


def forget_credential(call: Call, device_id: int, serial: str) -> None:
    """The credential of a tenure and the join codes of its serial are gone."""
    call.tx.run(delete(enrolment).where(enrolment.c.device_id == device_id))
    call.tx.run(delete(join_code).where(join_code.c.serial == serial))


def kept_credential(call: Call, device_id: int) -> dict[str, Any] | None:
    """The credential in force as JSON can hold it, for a while in which it may be wanted back."""
    row = call.tx.one(
        select(enrolment).where(enrolment.c.device_id == device_id, enrolment.c.state == "joined")
    )
    if row is None:
        return None
    return {
        column.name: value.hex() if isinstance(value, bytes) else value
        for column, value in zip(enrolment.columns, row, strict=True)
    }


def restore_credential(call: Call, serial: str, kept: dict[str, Any] | None) -> None:
    """The same credential is in force again; without one the device has to join."""
    if kept is None:
        return
    binary = {column.name for column in enrolment.columns if isinstance(column.type, LargeBinary)}
    values = {name: bytes.fromhex(v) if name in binary else v for name, v in kept.items()}
    call.tx.run(insert(enrolment), values)
    set_login(call.tx, serial, kept["password_hash"])
