"""Activating and extending a device's service."""

from typing import Annotated

import msgspec

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.devices import Device, find, show_standing
from gateway.operations.registering import refused_payment
from gateway.operations.registry import Call, operation
from gateway.operations.standing import (
    Held,
    end_period,
    extend_running,
    held_among,
    mark_active,
    pay,
    save_booked,
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
)
def activate(call: Call, given: Pay) -> Device:
    """Starts a period now, for one credit or several."""
    row, held = _held(call, given)
    if held.period is not None:
        raise Refused(
            Code.ALREADY_ACTIVE, "A period is running; use `extend` to add credits to it."
        )
    return _start(call, row, held, given)


@operation(
    "devices.extend",
    "POST",
    "/devices/{serial}/extend",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.NOT_ACTIVE, Code.PAYMENT_TOO_SHORT, *_ERRORS),
)
def extend(call: Call, given: Pay) -> Device:
    """Adds credits to the running period, or pays for a device that is served in grace."""
    row, held = _held(call, given)
    if held.period is None:
        if held.grace is not None and call.tx.now_ms < held.grace.until_ms:
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
