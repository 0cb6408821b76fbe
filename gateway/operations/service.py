"""Activating and extending a device's service, and switching it off and on."""

from typing import Annotated

import msgspec

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.daily import is_daily, paid_by_day
from gateway.operations.devices import Device, OneDevice, find, show_standing
from gateway.operations.held import Held, held_among, save_booked
from gateway.operations.registering import refused_payment
from gateway.operations.registry import Call, operation
from gateway.operations.standing import (
    bring_up_to_date,
    end_period,
    extend_running,
    mark_active,
    pay,
    serve_again,
    stop_service,
)
from gateway.storage.transaction import AnyRow

CREDITS_MAX = 120  # ten years
ASKED = "operator"  # why it is booked: somebody asked for it


class Pay(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """For which device, and how many credits at once."""

    serial: str
    credits: Annotated[int, msgspec.Meta(ge=1, le=CREDITS_MAX)] = 1


_ERRORS = (Code.COMPANY_SUSPENDED, Code.CREDITS_INSUFFICIENT, Code.PARENT_LIMIT_REACHED)


@operation(
    "devices.activate",
    "POST",
    "/devices/{serial}/activate",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.ALREADY_ACTIVE, Code.PAYMENT_TOO_SHORT, *_ERRORS),
    moves_credits=True,
)
def activate(call: Call, given: Pay) -> Device:
    """Starts a period now, for one credit or several."""
    row, held = _held(call, given)
    begin_service(call, held, given.credits)
    save_booked(call.treasury, held)
    return show_standing(call, row, held)


@operation(
    "devices.extend",
    "POST",
    "/devices/{serial}/extend",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.NOT_ACTIVE, Code.PAYMENT_TOO_SHORT, *_ERRORS),
    moves_credits=True,
)
def extend(call: Call, given: Pay) -> Device:
    """Adds credits to the running period, or pays for a device that is served in grace."""
    row, held = _held(call, given)
    extend_service(call, held, given.credits)
    save_booked(call.treasury, held)
    return show_standing(call, row, held)


def _held(call: Call, given: Pay) -> tuple[AnyRow, Held]:
    row = find(call, given.serial, Right.MANAGE_DEVICES)
    call.treasury.gather()
    return row, held_among(row)


def begin_service(call: Call, held: Held, credits: int, *, cause: str = ASKED) -> None:
    """Starts a period of a device that is locked; the caller saves. Raises `Refused`."""
    _end_what_is_over(call, held)
    if held.period is not None:
        raise Refused(
            Code.ALREADY_ACTIVE, "A period is running; use `extend` to add credits to it."
        )
    if is_daily(call.treasury, held.company_id):
        _want(call, held, credits)
        return
    if paid_by_day(call.tx, call.treasury, held):
        # The plan was changed today, or the device came from a company that pays by the day.
        raise Refused(
            Code.ALREADY_ACTIVE,
            "Today is paid by the day, and is not paid twice; the credit is taken with the first "
            "heartbeat of tomorrow, or activate it then.",
        )
    _start(call, held, credits, cause)


def extend_service(call: Call, held: Held, credits: int, *, cause: str = ASKED) -> None:
    """Adds credits to the period of a device that is locked; the caller saves. Raises `Refused`."""
    _end_what_is_over(call, held)
    if held.period is None:
        by_day = is_daily(call.treasury, held.company_id)
        if not by_day and held.grace is not None and call.tx.now_ms < held.grace.until_ms:
            _start(call, held, credits, cause)
            return
        raise Refused(Code.NOT_ACTIVE, "No period is running; use `activate` to start one.")
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    actor = call.principal.name
    payment = extend_running(call.tx, call.treasury, held, credits, actor=actor, cause=cause)
    if isinstance(payment, Code):
        raise refused_payment(payment)


def _end_what_is_over(call: Call, held: Held) -> None:
    period = held.period
    if period is not None and call.tx.now_ms >= period.end_ms:
        # The job has not come by yet: what ended has ended.
        end_period(call.tx, call.treasury, held, cause="period_over")


def _start(call: Call, held: Held, credits: int, cause: str) -> None:
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    actor = call.principal.name
    payment = pay(call.tx, call.treasury, held, credits, actor=actor, cause=cause)
    if isinstance(payment, Code):
        raise refused_payment(payment)
    mark_active(call.tx, held)


def _want(call: Call, held: Held, credits: int) -> None:
    """Under the plan `daily` nothing is taken until the device is heard."""
    if credits > 1:
        raise Refused(
            Code.VALIDATION,
            "credits: under the plan `daily` nothing is paid ahead",
            field="credits",
        )
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    held.start, held.auto_extend = "on_contact", True
    held.switched_off, held.attempted_at = False, None
    bring_up_to_date(call.tx, call.treasury, held, contact=False)


@operation(
    "devices.switch-off",
    "POST",
    "/devices/{serial}/switch-off",
    right=Right.MANAGE_DEVICES,
    result=Device,
    moves_credits=True,
)
def switch_off(call: Call, given: OneDevice) -> Device:
    """Stops a device's service; a running period goes on by the calendar, and nothing is lost."""
    return _switch(call, given.serial, off=True)


@operation(
    "devices.switch-on",
    "POST",
    "/devices/{serial}/switch-on",
    right=Right.MANAGE_DEVICES,
    result=Device,
    moves_credits=True,
)
def switch_on(call: Call, given: OneDevice) -> Device:
    """Serves a device again that was switched off: in its running period, or as it is wanted."""
    return _switch(call, given.serial, off=False)


def _switch(call: Call, serial: str, *, off: bool) -> Device:
    row = find(call, serial, Right.MANAGE_DEVICES)
    held = held_among(row)
    if held.switched_off != off:
        call.treasury.gather()
        (stop_service if off else serve_again)(call.tx, call.treasury, held)
        save_booked(call.treasury, held)
    return show_standing(call, row, held)
