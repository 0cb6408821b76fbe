"""The end of a registration: what is left is booked, the login goes, and the device sleeps."""

import msgspec
from sqlalchemy import delete, update

from gateway.domain.notices import Notice
from gateway.domain.service import NOT_ACTIVATED
from gateway.operations.announcing import tell
from gateway.operations.devices import one_standing
from gateway.operations.held import Held, book, held_of, save
from gateway.operations.logins import set_login
from gateway.operations.prepaid import give_back, paid, refund, use_up
from gateway.operations.registry import Call
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.standing import forget_period
from gateway.storage.schema import device, enrolment, join_code
from gateway.storage.transaction import AnyRow
from wire.endings import Ended


class Unregistered(msgspec.Struct):
    """What became of the days: forfeited, given back, and used."""

    serial: str
    days_forfeited: int
    days_returned: int
    days_used: int


def end_registration(
    call: Call, row: AnyRow, *, cause: str, payers: tuple[int, ...] = ()
) -> Unregistered:
    """Books what is left, takes the login away, keeps its hash for waking up.

    `payers`: the companies that pay for something else in this transaction.
    """
    end_sessions_of(call.tx, row.id, Ended.UNREGISTERED, call.principal.name)
    ended = book_end(call, row, cause=cause, payers=payers)
    take_login(call, row)
    return ended


def book_end(call: Call, row: AnyRow, *, cause: str, payers: tuple[int, ...] = ()) -> Unregistered:
    """The first half of an end: what is left of the period is booked, and none runs any more."""
    held = held_of(one_standing(call, row.id))
    forfeited = returned = used = 0
    period = held.period
    if period is not None:
        booking = book(call.tx, call.treasury, held, actor=call.principal.name, cause=cause)
        lots = paid(call.tx, held.id, held.period_seq or 0)
        unused = row.first_heard_at is None and call.tx.now_ms < period.end_ms
        refunds = call.treasury.chain(held.company_id)[0].refunds
        back_to = [lot.account_id for lot in lots] if unused or refunds else ()
        call.treasury.prepare(payers, (held.id,), back_to)
        prepaid = call.treasury.prepaid(held.id)
        if unused:
            returned = give_back(booking, prepaid, lots)
        else:
            left = period.days_left(call.tx.now_ms)
            used = period.days - left
            forfeited = 0 if refunds else left
            use_up(booking, prepaid, lots, used=used, forfeited=forfeited)
            if refunds:
                returned = refund(booking, prepaid, lots, used)
        tell_payer(call, held, forfeited, returned)
    elif payers:
        call.treasury.prepare(payers)
    leave_service(held)
    save(call.tx, held)
    return Unregistered(row.serial, forfeited, returned, used)


def leave_service(held: Held) -> None:
    """From now on nobody wants any; what was left of a period is booked."""
    if held.period is not None:
        forget_period(held)
    held.grace_from = held.grace_until = None
    held.owed_days = ""
    held.state, held.reason = NOT_ACTIVATED.state.value, NOT_ACTIVATED.reason.value


def tell_payer(call: Call, held: Held, forfeited: int, returned: int) -> None:
    """Whoever paid hears what became of it, unless it was done by its own people."""
    payer = held.payer_id
    if payer is None or payer == held.company_id or payer in call.principal.memberships:
        return
    detail = {"forfeited": forfeited, "returned": returned}
    key = f"{call.tx.operation_id} unregistered {held.id}"
    tell(call.tx, payer, Notice.DEVICE_UNREGISTERED, held.serial, detail, key)


def take_login(call: Call, row: AnyRow) -> None:
    """The second half: the device sleeps, and its MQTT login is gone."""
    call.tx.run(
        update(device)
        .where(device.c.id == row.id)
        .values(registered=False, dormant_at=call.tx.now_ms)
    )
    call.tx.run(
        delete(enrolment).where(enrolment.c.device_id == row.id, enrolment.c.state == "waiting")
    )
    call.tx.run(delete(join_code).where(join_code.c.serial == row.serial))
    set_login(call.tx, row.serial, None)
