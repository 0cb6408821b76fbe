"""Giving days: tonight's rescue, or an outage made good, at the expense of somebody above."""

from dataclasses import replace

import msgspec
from sqlalchemy import ColumnElement, and_, select

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import Kind, transfer_id
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.booking import Booking
from gateway.operations.companies import company_row
from gateway.operations.credit_moves import DayCount, Note
from gateway.operations.credits import Shown, Transfer, ledger_rows
from gateway.operations.devices import find
from gateway.operations.held import HELD_COLUMNS, Held, held_of, save_all
from gateway.operations.lots import not_enough
from gateway.operations.registering import refused_payment
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.standing import end_period, mark_served
from gateway.storage.schema import company_path, device, device_live, transfer

AHEAD_DAYS_MAX = 36_500  # a period that no calendar reaches could not be shown
DEVICES_MAX = 5_000  # of one request: the accounts of all are locked together
TRANSFERS_SHOWN_MAX = 500


class GiveDays(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """To the device `serial`, or to each device of `company_id` and below; who pays, if not the
    nearest company above that can and in which one may move credits."""

    serial: str = ""
    company_id: str = ""
    days: DayCount
    payer_company_id: str = ""
    note: Note = ""


class Given(msgspec.Struct):
    """How many devices got how many days each, and who paid; of very many transfers the first.

    Devices of companies that are suspended are not among them.
    """

    operation_id: str
    payer_company_id: str
    devices: int
    days_each: int
    days: int
    transfers: list[Transfer]


@operation(
    "credits.give",
    "POST",
    "/credits/courtesies",
    right=Right.MOVE_CREDITS,
    result=Given,
    status=201,
    errors=(Code.CREDITS_INSUFFICIENT, Code.COMPANY_SUSPENDED, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def give(call: Call, given: GiveDays) -> Given:
    """Gives days to a device, or to all of a company and below, from a company above."""
    if bool(given.serial) == bool(given.company_id):
        raise Refused(
            Code.VALIDATION, "Give `serial` or `company_id`, one of them.", field="serial"
        )
    if given.serial:
        row = find(call, given.serial, Right.MOVE_CREDITS)
        below, which = row.company_id, device.c.id == row.id
    else:
        below = company_number(given.company_id)
        call.require(Right.MOVE_CREDITS, below, see=Right.SEE_COMPANIES, what="company")
        company_row(call, below)
        inside = select(company_path.c.descendant_id).where(company_path.c.ancestor_id == below)
        which = device.c.company_id.in_(inside)
        which = and_(which, _locked(call, which))
    some = _standing(call, which)
    total = given.days * len(some)
    payers = _payers(call, below, given)
    # What ended without anybody noticing ends first; its next period is the gift.
    call.treasury.prepare((), [held.id for held in some], pools=payers)
    payer = _who_pays(call, payers, total)
    call.treasury.gather()
    booking = Booking(
        call.tx,
        call.principal.name,
        "courtesy",
        below,
        call.treasury.path(below),
        note=given.note,
        journal=call.treasury.journal,
    )
    for held in some:
        booking = _give(call, booking, held, payer, given.days)
    call.treasury.write()
    save_all(call.tx, some)
    shown = _transfers(call)
    return Given(call.tx.operation_id, str(payer), len(some), given.days, total, shown)


def _locked(call: Call, which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those that are there now, with their locks; one that comes meanwhile is not among them."""
    found = select(device.c.id).where(which, device.c.registered, device.c.ended_at.is_(None))
    ids = [row.id for row in call.tx.all(found.limit(DEVICES_MAX + 1))]
    if len(ids) > DEVICES_MAX:
        raise Refused(
            Code.VALIDATION,
            f"company_id: more than {DEVICES_MAX} devices; give to the companies below, one by one",
            field="company_id",
        )
    those = device.c.id.in_(ids)
    call.tx.lock_devices(select(device.c.id).where(those))
    return those


def _standing(call: Call, which: ColumnElement[bool]) -> list[Held]:
    statement = (
        select(*HELD_COLUMNS)
        .join_from(device, device_live, device_live.c.device_id == device.c.id)
        .where(which, device.c.registered, device.c.ended_at.is_(None))
        .order_by(device.c.id)
    )
    found = [held_of(row) for row in call.tx.all(statement)]
    if not found:
        raise Refused(
            Code.VALIDATION, "company_id: there is no device in it or below", field="company_id"
        )
    some = [held for held in found if not call.treasury.suspended(held.company_id)]
    if not some:
        raise refused_payment(Code.COMPANY_SUSPENDED)
    return some


def _payers(call: Call, below: int, given: GiveDays) -> list[int]:
    """The companies strictly above that the caller may spend from, the nearest first.

    Above a root company there is none: it gives from its own, by its own people.
    """
    path = call.treasury.path(below)
    above = path[1:] or path
    allowed = [one for one in above if call.allows(Right.MOVE_CREDITS, one)]
    if given.payer_company_id:
        wanted = company_number(given.payer_company_id, "payer_company_id")
        allowed = [one for one in allowed if one == wanted]
    if not allowed:
        raise Refused(
            Code.FORBIDDEN, "Days are given by people of a company above, from its own credits."
        )
    return allowed


def _who_pays(call: Call, payers: list[int], total: int) -> int:
    for payer in payers:
        if call.treasury.spendable(payer) >= total:
            return payer
    raise not_enough(total, call.treasury.spendable(payers[0]))


def _give(call: Call, booking: Booking, held: Held, payer: int, days: int) -> Booking:
    """Books the days of one device, within the one operation that they all are."""
    tx, treasury = call.tx, call.treasury
    if held.period is not None and tx.now_ms >= held.period.end_ms:
        end_period(tx, treasury, held, cause="period_over")
    draws = treasury.draw(payer, days)
    assert draws is not None
    booking = replace(
        booking,
        company_id=held.company_id,
        company_path=treasury.path(held.company_id),
        device_id=held.id,
        serial=held.serial,
    )
    path = (held.company_id,) if held.company_id == payer else (held.company_id, payer)
    booking.post_draws(Kind.COURTESY, draws, treasury.prepaid(held.id), payer, path)
    period = held.period
    if period is None:
        held.period_start, held.period_end = tx.now_ms, tx.now_ms + days * DAY_MS
        held.period_seq = treasury.last_seq()
        # What was served for nothing meanwhile is part of the gift.
        held.grace_from = held.grace_until = held.attempted_at = None
        held.owed_days = ""
        mark_served(tx, held)
    else:
        held.period_end = period.extended(days).end_ms
    if held.period_end > tx.now_ms + AHEAD_DAYS_MAX * DAY_MS:
        raise Refused(
            Code.VALIDATION,
            f"days: a period ends at most {AHEAD_DAYS_MAX} days from now",
            field="days",
        )
    held.payer_id = payer
    return booking


def _transfers(call: Call) -> list[Transfer]:
    ids = [transfer_id(call.tx.operation_id, n) for n in range(TRANSFERS_SHOWN_MAX)]
    rows = call.tx.all(ledger_rows().where(transfer.c.id.in_(ids)).order_by(transfer.c.seq))
    shown = Shown(call)
    return [shown.transfer(row) for row in rows]
