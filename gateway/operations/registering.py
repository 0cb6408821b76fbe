"""Registering and unregistering: a serial begins and ends to belong to a company."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.presence import Presence
from gateway.domain.refusals import Code, Refused
from gateway.domain.registering import Known, Outcome, registering
from gateway.domain.rights import Right
from gateway.domain.service import NOT_ACTIVATED, SUSPENDED
from gateway.operations.companies import company_row
from gateway.operations.daily import is_daily
from gateway.operations.devices import (
    Device,
    Long,
    OneDevice,
    Short,
    Tags,
    alias_taken,
    described,
    find,
    locked_row,
    one_standing,
    show,
)
from gateway.operations.held import held_of, save
from gateway.operations.logins import set_login
from gateway.operations.registration_end import Unregistered, end_registration
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.standing import mark_active, pay
from gateway.storage.compiled import CompiledSelect
from gateway.storage.constraints import broke
from gateway.storage.latest_values import NOTHING
from gateway.storage.locks import Raced
from gateway.storage.schema import (
    company,
    device,
    device_latest,
    device_live,
    enrolment,
)
from gateway.storage.search_rows import note_names
from gateway.storage.transaction import AnyRow
from wire.serials import is_serial

INTERVAL_S_DEFAULT = 60
# Of the row of heartbeats of a device that has sent none.
NEVER_HEARD: Mapping[str, Any] = {
    "last_day": 0,
    "interval_s": INTERVAL_S_DEFAULT,
    "presence": Presence.NEVER.value,
    "late_at": 0,
    "offline_at": 0,
    "need_full": True,
    "command_n": 0,
    "recent": NOTHING,
    "supersessions": 0,
    "supersessions_since": 0,
    "commanded_at": 0,
    "repeats": 0,
    "lost": 0,
    "dropped": 0,
    "ignored_fields": 0,
    "malformed": 0,
}
STARTS: dict[object, str] = {True: "now", "on_contact": "on_contact", "later": "later"}
_PAYMENT_TEXT = {
    Code.CREDITS_INSUFFICIENT: "Nobody who may pay has a whole credit left.",
    Code.PARENT_LIMIT_REACHED: "This month's limit of credits from above is reached.",
    Code.COMPANY_SUSPENDED: "The company is suspended: no new period starts.",
    Code.CLOCK_IN_DOUBT: "The server's clock is in doubt: an operator must look at it.",
    Code.PAYMENT_TOO_SHORT: "Pay for longer than the grace that was already served.",
}


class Register(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A serial for a company; `activate`: true (a credit now), "on_contact" or "later"."""

    serial: str
    company_id: str
    alias: str | None = None
    name: Short = ""
    mac: str | None = None
    tags: Tags = []
    notes: Long = ""
    reference: Short = ""
    auto_extend: bool = True
    activate: bool | str = "on_contact"


def serial_unavailable() -> Refused:
    """The same answer, word for word, whoever holds the serial."""
    return Refused(
        Code.SERIAL_UNAVAILABLE,
        "The serial is registered already. If it is yours and you do not see it, "
        "whoever held it before has to unregister it.",
        field="serial",
    )


def refused_payment(code: Code) -> Refused:
    """Why nobody pays, for people."""
    return Refused(code, _PAYMENT_TEXT[code])


@operation(
    "devices.register",
    "POST",
    "/devices",
    right=Right.MANAGE_DEVICES,
    result=Device,
    status=201,
    errors=(
        Code.SERIAL_UNAVAILABLE,
        Code.NAME_TAKEN,
        Code.CREDITS_INSUFFICIENT,
        Code.PARENT_LIMIT_REACHED,
        Code.COMPANY_SUSPENDED,
    ),
    moves_credits=True,
)
def register(call: Call, given: Register) -> Device:
    """Registers a serial for a company, or wakes a dormant one."""
    if not is_serial(given.serial):
        raise Refused(Code.VALIDATION, "serial: 6 to 32 of A-Z, a-z, 0-9, _ and -", field="serial")
    start = STARTS.get(given.activate)
    if start is None:
        raise Refused(Code.VALIDATION, 'activate: true, "on_contact" or "later"', field="activate")
    number = company_number(given.company_id)
    call.require(Right.MANAGE_DEVICES, number, see=Right.SEE_DEVICES, what="company")
    company_row(call, number)
    values = described(
        {
            "alias": given.alias,
            "name": given.name,
            "mac": given.mac,
            "tags": list(given.tags),
            "notes": given.notes,
            "reference": given.reference,
            "auto_extend": given.auto_extend,
        }
    )
    device_id = admit(call, given.serial, number, start, values)
    if device_id is None:
        raise serial_unavailable()
    if start == "now":
        _pay_now(call, device_id)
    return show(call, given.serial)


def _pay_now(call: Call, device_id: int) -> None:
    held = held_of(one_standing(call, device_id))
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
    if is_daily(call.treasury, held.company_id):
        # Nobody pays for a router that was not there.
        held.start, held.auto_extend = "on_contact", True
        save(call.tx, held)
        return
    payment = pay(call.tx, call.treasury, held, 1, actor=call.principal.name, cause="operator")
    if isinstance(payment, Code):
        raise refused_payment(payment)
    mark_active(call.tx, held)
    save(call.tx, held)


_NEWEST = CompiledSelect(
    select(device)
    .join(device_live, device_live.c.device_id == device.c.id)
    .where(device.c.serial == bindparam("wanted"), device.c.ended_at.is_(None))
)


def newest(call: Call, serial: str) -> AnyRow | None:
    """The newest tenure of a serial, registered or not; who writes holds its lock from here on."""
    return locked_row(call.tx, _NEWEST, serial)


def admit(
    call: Call,
    serial: str,
    company_id: int,
    start: str,
    values: dict[str, Any],
    *,
    by_join: bool = False,
) -> int | None:
    """Makes the serial belong to the company; None when it is not available.

    `by_join`: the device itself asks, with a join code of the company.
    """
    row = newest(call, serial)
    outcome = outcome_for(call, row, company_id, by_join=by_join)
    if outcome is Outcome.UNAVAILABLE:
        return None
    payers = (company_id,) if start == "now" else ()
    if outcome is Outcome.WAKE:
        assert row is not None
        if payers:
            call.treasury.prepare(payers, (row.id,))
        return wake(call, row, company_id, start, values)
    if row is not None and row.registered:
        end_registration(call, row, cause="registration_lapsed", payers=payers)
    return begin_tenure(call, row, serial, company_id, start, values)


def outcome_for(
    call: Call, row: AnyRow | None, company_id: int, *, by_join: bool = False
) -> Outcome:
    """What registering a serial with this newest tenure does for the company."""
    known = None
    if row is not None:
        joined = row.joined_at is not None
        known = Known(row.registered, joined, row.company_id, row.registered_at, row.dormant_at)
    return registering(known, company_id, near(call, company_id), call.tx.now_ms, by_join=by_join)


def begin_tenure(
    call: Call,
    row: AnyRow | None,
    serial: str,
    company_id: int,
    start: str,
    values: dict[str, Any],
) -> int:
    """A new registration of a serial whose newest tenure, if it has one, is not registered."""
    if row is not None:
        # The credential of the tenure that ends must not open the new one.
        call.tx.run(delete(enrolment).where(enrolment.c.device_id == row.id))
        call.tx.run(
            update(device)
            .where(device.c.id == row.id)
            .values(ended_at=call.tx.now_ms, registered=False)
        )
    return _insert(call, serial, company_id, start, values)


def near(call: Call, company_id: int) -> frozenset[int]:
    """The company itself, the one above, and those one below: a dormant device wakes there."""
    above = call.treasury.path(company_id)[:2]
    below = call.tx.all(select(company.c.id).where(company.c.parent_id == company_id))
    return frozenset(above) | {row.id for row in below}


def fresh(call: Call, company_id: int, start: str) -> dict[str, Any]:
    """What of a registration that begins is the same for every device of the company."""
    service = SUSPENDED if call.treasury.suspended(company_id) else NOT_ACTIVATED
    return {
        "company_id": company_id,
        "registered": True,
        "registered_at": call.tx.now_ms,
        "first_heard_at": None,
        "dormant_at": None,
        "start": start,
        "state": service.state.value,
        "reason": service.reason.value,
        "switched_off": False,
        "owed_days": "",
    }


def _insert(call: Call, serial: str, company_id: int, start: str, values: dict[str, Any]) -> int:
    try:
        device_id = call.tx.insert(
            insert(device), {"serial": serial, **values, **fresh(call, company_id, start)}
        )
    except IntegrityError as error:
        if broke(error, "uq_device_serial"):
            # Somebody registered it at the same time; the rules decide with that known.
            raise Raced(f"serial {serial}") from error
        if not broke(error, "uq_device_alias"):
            raise
        raise alias_taken() from error
    call.tx.run(
        insert(device_live),
        {
            "device_id": device_id,
            "node": call.site.node,
            **NEVER_HEARD,
        },
    )
    call.tx.run(insert(device_latest), {"device_id": device_id, "latest": NOTHING})
    note_names(call.tx, [device_id])
    call.treasury.open_prepaid(device_id)
    return device_id


def wake(call: Call, row: AnyRow, company_id: int, start: str, values: dict[str, Any]) -> int:
    """The device's kept hash becomes its login again: nobody has to drive there."""
    cleared = dict.fromkeys(
        ("last_start", "last_end", "grace_from", "grace_until", "payer_id", "attempted_at")
    )
    try:
        call.tx.run(
            update(device)
            .where(device.c.id == row.id)
            .values(
                **values,
                **fresh(call, company_id, start),
                **cleared,
                heard_before=row.heard_before or row.first_heard_at is not None,
            )
        )
    except IntegrityError as error:
        if not broke(error, "uq_device_alias"):
            raise
        raise alias_taken() from error
    note_names(call.tx, [row.id])
    call.tx.run(
        update(device_live)
        .where(device_live.c.device_id == row.id)
        .values(presence=Presence.NEVER.value, last_heard_at=None, last_day=0, need_full=True)
    )
    kept = call.tx.scalar(
        select(enrolment.c.password_hash).where(
            enrolment.c.device_id == row.id, enrolment.c.state == "joined"
        )
    )
    if kept is not None:
        set_login(call.tx, row.serial, kept)
    return int(row.id)


@operation(
    "devices.unregister",
    "DELETE",
    "/devices/{serial}",
    right=Right.UNREGISTER,
    result=Unregistered,
    moves_credits=True,
    irrevocable=True,
)
def unregister(call: Call, given: OneDevice) -> Unregistered:
    """Ends a device's registration; days left are forfeited, and it becomes dormant."""
    row = find(call, given.serial, Right.UNREGISTER)
    return end_registration(call, row, cause="unregistered")
