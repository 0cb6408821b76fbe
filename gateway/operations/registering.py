"""Registering and unregistering: a serial begins and ends to belong to a company."""

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
from gateway.operations.logins import set_login
from gateway.operations.prepaid import give_back, paid, use_up
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.standing import book, forget_period, held_of, mark_active, pay, save
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
    join_code,
)
from gateway.storage.transaction import AnyRow
from wire.endings import Ended
from wire.serials import is_serial

INTERVAL_S_DEFAULT = 60
_STARTS: dict[object, str] = {True: "now", "on_contact": "on_contact", "later": "later"}
_PAYMENT_TEXT = {
    Code.CREDITS_INSUFFICIENT: "Nobody who may pay has a whole credit left.",
    Code.PARENT_LIMIT_REACHED: "This month's limit of credits from above is reached.",
    Code.COMPANY_SUSPENDED: "The company is suspended: no new period starts.",
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


class Unregistered(msgspec.Struct):
    """What became of the days: forfeited, given back, and used."""

    serial: str
    days_forfeited: int
    days_returned: int
    days_used: int


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
)
def register(call: Call, given: Register) -> Device:
    """Registers a serial for a company, or wakes a dormant one."""
    if not is_serial(given.serial):
        raise Refused(Code.VALIDATION, "serial: 6 to 32 of A-Z, a-z, 0-9, _ and -", field="serial")
    start = _STARTS.get(given.activate)
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
        raise Refused(
            Code.SERIAL_UNAVAILABLE,
            "The serial is registered already. If it is yours and you do not see it, "
            "whoever held it before has to unregister it.",
            field="serial",
        )
    if start == "now":
        _pay_now(call, device_id)
    return show(call, given.serial)


def _pay_now(call: Call, device_id: int) -> None:
    held = held_of(one_standing(call, device_id))
    if call.treasury.suspended(held.company_id):
        raise refused_payment(Code.COMPANY_SUSPENDED)
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
    outcome = Outcome.NEW
    if row is not None:
        known = Known(
            row.registered,
            row.joined_at is not None,
            row.company_id,
            row.registered_at,
            row.dormant_at,
        )
        outcome = registering(
            known, company_id, _near(call, company_id), call.tx.now_ms, by_join=by_join
        )
    if outcome is Outcome.UNAVAILABLE:
        return None
    payers = (company_id,) if start == "now" else ()
    if outcome is Outcome.WAKE:
        assert row is not None
        if payers:
            call.treasury.prepare(payers, (row.id,))
        return _wake(call, row, company_id, start, values)
    if row is not None and row.registered:
        end_registration(call, row, cause="registration_lapsed", payers=payers)
    return begin_tenure(call, row, serial, company_id, start, values)


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


def _near(call: Call, company_id: int) -> frozenset[int]:
    above = call.treasury.path(company_id)[:2]
    below = call.tx.all(select(company.c.id).where(company.c.parent_id == company_id))
    return frozenset(above) | {row.id for row in below}


def _fresh(call: Call, company_id: int, start: str) -> dict[str, Any]:
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
    }


def _insert(call: Call, serial: str, company_id: int, start: str, values: dict[str, Any]) -> int:
    try:
        device_id = call.tx.insert(
            insert(device), {"serial": serial, **values, **_fresh(call, company_id, start)}
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
        },
    )
    call.tx.run(insert(device_latest), {"device_id": device_id, "latest": NOTHING})
    call.treasury.open_prepaid(device_id)
    return device_id


def _wake(call: Call, row: AnyRow, company_id: int, start: str, values: dict[str, Any]) -> int:
    """The device's kept hash becomes its login again: nobody has to drive there."""
    cleared = dict.fromkeys(
        ("last_start", "last_end", "grace_from", "grace_until", "payer_id", "attempted_at")
    )
    try:
        call.tx.run(
            update(device)
            .where(device.c.id == row.id)
            .values(**values, **_fresh(call, company_id, start), **cleared)
        )
    except IntegrityError as error:
        if not broke(error, "uq_device_alias"):
            raise
        raise alias_taken() from error
    call.tx.run(
        update(device_live)
        .where(device_live.c.device_id == row.id)
        .values(presence=Presence.NEVER.value, last_heard_at=None, need_full=True)
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
)
def unregister(call: Call, given: OneDevice) -> Unregistered:
    """Ends a device's registration; days left are forfeited, and it becomes dormant."""
    row = find(call, given.serial, Right.UNREGISTER)
    return end_registration(call, row, cause="unregistered")


def end_registration(
    call: Call, row: AnyRow, *, cause: str, payers: tuple[int, ...] = ()
) -> Unregistered:
    """Books what is left, takes the login away, keeps its hash for waking up.

    `payers`: the companies that pay for something else in this transaction.
    """
    end_sessions_of(call.tx, row.id, Ended.UNREGISTERED, call.principal.name)
    held = held_of(one_standing(call, row.id))
    forfeited = returned = used = 0
    period = held.period
    if period is not None:
        booking = book(call.tx, call.treasury, held, actor=call.principal.name, cause=cause)
        lots = paid(call.tx, held.id, held.period_seq or 0)
        unused = row.first_heard_at is None and call.tx.now_ms < period.end_ms
        back_to = [lot.account_id for lot in lots] if unused else ()
        call.treasury.prepare(payers, (held.id,), back_to)
        prepaid = call.treasury.prepaid(held.id)
        if unused:
            returned = give_back(booking, prepaid, lots)
        else:
            forfeited = period.days_left(call.tx.now_ms)
            used = period.days - forfeited
            use_up(booking, prepaid, lots, used=used, forfeited=forfeited)
        forget_period(held)
    elif payers:
        call.treasury.prepare(payers)
    held.grace_from = held.grace_until = None
    held.state, held.reason = NOT_ACTIVATED.state.value, NOT_ACTIVATED.reason.value
    save(call.tx, held)
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
    return Unregistered(row.serial, forfeited, returned, used)
