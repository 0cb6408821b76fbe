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
    if held.period is not None:
        raise Refused(
            Code.ALREADY_ACTIVE, "A period is running; use `extend` to add credits to it."
        )
    if is_daily(call.treasury, held.company_id):
        return _want(call, row, held, given)
    if paid_by_day(call.tx, call.treasury, held):
        # The plan was changed today, or the device came from a company that pays by the day.
        raise Refused(
            Code.ALREADY_ACTIVE,
            "Today is paid by the day, and is not paid twice; the credit is taken with the first "
            "heartbeat of tomorrow, or activate it then.",
        )
    return _start(call, row, held, given)


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
    if held.period is None:
        by_day = is_daily(call.treasury, held.company_id)
        if not by_day and held.grace is not None and call.tx.now_ms < held.grace.until_ms:
            return _start(call, row, held, given)
        raise Refused(Code.NOT_ACTIVE, "No period is running; use `activate` to start one.")
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    payment = extend_running(
        call.tx,
        call.treasury,
        held,
        given.credits,
        actor=call.principal.name,
        cause="operator",
    )
    if isinstance(payment, Code):
        raise refused_payment(payment)
    save_booked(call.treasury, held)
    return show_standing(call, row, held)


def _held(call: Call, given: Pay) -> tuple[AnyRow, Held]:
    row = find(call, given.serial, Right.MANAGE_DEVICES)
    held = held_among(row)
    call.treasury.gather()
    period = held.period
    if period is not None and call.tx.now_ms >= period.end_ms:
        # The job has not come by yet: what ended has ended.
        end_period(call.tx, call.treasury, held, cause="period_over")
    return row, held


def _start(call: Call, row: AnyRow, held: Held, given: Pay) -> Device:
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    payment = pay(
        call.tx,
        call.treasury,
        held,
        given.credits,
        actor=call.principal.name,
        cause="operator",
    )
    if isinstance(payment, Code):
        raise refused_payment(payment)
    mark_active(call.tx, held)
    save_booked(call.treasury, held)
    return show_standing(call, row, held)


def _want(call: Call, row: AnyRow, held: Held, given: Pay) -> Device:
    """Under the plan `daily` nothing is taken until the device is heard."""
    if given.credits > 1:
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
    save_booked(call.treasury, held)
    return show_standing(call, row, held)


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
