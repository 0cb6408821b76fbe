"""Brings a device's service up to date: ends periods, pays for the next, grants grace."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

from sqlalchemy import bindparam, select, update

from gateway.domain import service
from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind
from gateway.domain.payers import Payment
from gateway.domain.periods import (
    Grace,
    Period,
    Standing,
    Wish,
    credits_beyond,
    grace_after,
    next_start,
    wish,
)
from gateway.domain.refusals import Code
from gateway.domain.service import UNSERVED_INTERVAL_S, Service, State
from gateway.operations import outbox
from gateway.operations.booking import Booking
from gateway.operations.prepaid import use_up
from gateway.operations.treasury import Treasury
from gateway.storage.schema import device, device_live, outage
from gateway.storage.transaction import AnyRow, Transaction
from wire.commands import Verb

RETRY_MS = 60_000  # an unpaid device that reports asks for payment at most this often


@dataclass(slots=True)
class Held:
    """What of a device decides about its service; changed here and saved by `save`."""

    id: int
    serial: str
    company_id: int
    start: str
    auto_extend: bool
    state: str
    reason: str
    period_start: int | None
    period_end: int | None
    period_seq: int | None
    payer_id: int | None
    last_start: int | None
    last_end: int | None
    grace_from: int | None
    grace_until: int | None
    attempted_at: int | None
    sending_s: int | None
    last_heard_at: int | None
    interval_s: int
    node: str

    @property
    def period(self) -> Period | None:
        if self.period_start is None or self.period_end is None:
            return None
        return Period(self.period_start, self.period_end)

    @property
    def grace(self) -> Grace | None:
        if self.grace_from is None or self.grace_until is None:
            return None
        return Grace(self.grace_from, self.grace_until)

    @property
    def active(self) -> bool:
        return self.state == State.ACTIVE


HELD_COLUMNS = tuple(
    (device_live if field.name in ("last_heard_at", "interval_s", "node") else device).c[field.name]
    for field in fields(Held)
)
_SAVED = (
    "start state reason period_start period_end period_seq payer_id last_start last_end "
    "grace_from grace_until attempted_at sending_s id"
).split()
_saved = attrgetter(*_SAVED)
_NEED_FULL = (
    update(device_live).where(device_live.c.device_id == bindparam("device")).values(need_full=True)
)
_OUTAGES = select(outage.c.started_at, outage.c.ended_at).where(
    outage.c.ended_at > bindparam("since")
)


def held_of(row: AnyRow) -> Held:
    """The device of a row selected with `HELD_COLUMNS`."""
    return Held(*row)


_BY_NAME = attrgetter(*(field.name for field in fields(Held)))


def held_among(row: AnyRow) -> Held:
    """The device of a wider row, which carries these columns under their names."""
    return Held(*_BY_NAME(row))


def save(tx: Transaction, held: Held) -> None:
    """Writes what `Held` may change."""
    save_all(tx, [held])


def save_booked(treasury: Treasury, held: Held) -> None:
    """The same with what `gather` had noted, in one exchange with the database."""
    treasury.write((_SAVED, _saved(held)))


def save_all(tx: Transaction, some: Iterable[Held]) -> None:
    """The same for many; to be called with their locks, in any order."""
    tx.change_rows("device", _SAVED, [_saved(held) for held in some])


def book(
    tx: Transaction, treasury: Treasury, held: Held, *, actor: str, cause: str, note: str = ""
) -> Booking:
    """A booking about this device."""
    return Booking(
        tx,
        actor,
        cause,
        held.company_id,
        treasury.path(held.company_id),
        held.id,
        held.serial,
        note,
        journal=treasury.journal,
    )


def bring_up_to_date(
    tx: Transaction,
    treasury: Treasury,
    held: Held,
    *,
    contact: bool,
    actor: str = "gateway",
    cause: str = "",
    forced: bool = False,
) -> bool:
    """Applies the rules of credits.md to one device now; True when its service changed.

    `contact`: a heartbeat is being handled. `forced`: a payment may have become possible, so
    the wait between attempts does not hold. The caller saves.
    """
    before = (held.state, held.reason, held.period_end)
    period = held.period
    if period is not None and tx.now_ms >= period.end_ms:
        end_period(tx, treasury, held, cause="period_over")
        period = None
    if period is None:
        _set(tx, held, _without_period(tx, treasury, held, contact, actor, cause, forced))
    else:
        _set(tx, held, service.PAID)
    return before != (held.state, held.reason, held.period_end)


def end_period(tx: Transaction, treasury: Treasury, held: Held, *, cause: str) -> None:
    """Books a period that ran out: all its days were served."""
    period = held.period
    assert period is not None
    booking = book(tx, treasury, held, actor="gateway", cause=cause)
    # The next period may be paid for in the same transaction.
    treasury.prepare((held.company_id,), (held.id,))
    lots = treasury.paid(held.id, held.period_seq or 0)
    use_up(booking, treasury.prepaid(held.id), lots, used=period.days, forfeited=0)
    forget_period(held)


def forget_period(held: Held) -> None:
    """The period is over; its bounds stay as the last ones."""
    held.last_start, held.last_end = held.period_start, held.period_end
    held.period_start = held.period_end = held.period_seq = None


def _without_period(
    tx: Transaction,
    treasury: Treasury,
    held: Held,
    contact: bool,
    actor: str,
    cause: str,
    forced: bool,
) -> Service:
    if treasury.suspended(held.company_id):
        _stop_grace(tx, held)
        return service.SUSPENDED
    link = treasury.chain(held.company_id)[0]
    wanted = wish(
        Standing(
            held.start,
            held.auto_extend,
            held.last_end,
            held.last_start,
            held.last_heard_at,
            held.grace,
            link.extend_unheard,
        ),
        tx.now_ms,
        contact=contact,
    )
    if wanted is Wish.NOTHING:
        _stop_grace(tx, held)
        return service.NOT_ACTIVATED
    if wanted is Wish.WAIT:
        if held.last_end is None:
            return service.NOT_ACTIVATED
        return _in_grace_or(tx, held, service.UNHEARD)
    if _waits(tx, held) and not forced:
        return Service(State.UNPAID, service.Reason(held.reason))
    held.attempted_at = tx.now_ms
    payment = pay(tx, treasury, held, None, actor=actor, cause=cause or _cause(held, tx, contact))
    if not isinstance(payment, Code):
        return service.PAID
    _begin_grace(tx, held, link.grace_days)
    return _in_grace_or(tx, held, service.unpaid(payment))


def _waits(tx: Transaction, held: Held) -> bool:
    """Whether nobody could pay a moment ago."""
    at = held.attempted_at
    lately = at is not None and 0 <= tx.now_ms - at < RETRY_MS
    return held.state == State.UNPAID and lately


def may_be_charged(tx: Transaction, held: Held, *, forced: bool = False) -> bool:
    """Whether `bring_up_to_date` could change accounts; whoever has many prepares them for all."""
    period = held.period
    if period is not None:
        return tx.now_ms >= period.end_ms
    return forced or not _waits(tx, held)


def _begin_grace(tx: Transaction, held: Held, grace_days: int) -> None:
    """At a period's end, or at the first contact after it; or again after a suspension in it."""
    now = held.grace
    served = held.state == State.ACTIVE or held.reason == service.Reason.UNHEARD
    if now is None and held.last_end is not None and served:
        now = grace_after(held.last_end, tx.now_ms, grace_days)
    elif now is not None and held.reason == service.Reason.SUSPENDED:
        now = now.resumed(tx.now_ms, grace_days, _outages(tx, now)) or now
    if now is not None:
        held.grace_from, held.grace_until = now.from_ms, now.until_ms


def _stop_grace(tx: Transaction, held: Held) -> None:
    """Service ends before grace does: what was served stays owed, what was not never is."""
    if held.grace is not None:
        stopped = held.grace.stopped(tx.now_ms)
        held.grace_from, held.grace_until = stopped.from_ms, stopped.until_ms


def _outages(tx: Transaction, grace: Grace) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in tx.all(_OUTAGES, {"since": grace.from_ms})]


def _in_grace_or(tx: Transaction, held: Held, otherwise: Service) -> Service:
    grace = held.grace
    return service.GRACE if grace is not None and tx.now_ms < grace.until_ms else otherwise


def _cause(held: Held, tx: Transaction, contact: bool) -> str:
    if held.last_end is None:
        return "on_contact"
    if held.state == State.UNPAID or held.grace_until is not None:
        return "recovered"
    return "resumed" if contact and held.state == State.OFF else "period_end"


def pay(
    tx: Transaction,
    treasury: Treasury,
    held: Held,
    credits: int | None,
    *,
    actor: str,
    cause: str,
    note: str = "",
) -> Payment | Code:
    """Starts a period of `credits` (None: the fewest that reach beyond now), or says why not."""
    assert held.period is None
    grace = held.grace
    outages = [] if grace is None else _outages(tx, grace)
    start_ms = next_start(tx.now_ms, held.last_end, grace, outages)
    fewest = credits_beyond(start_ms, tx.now_ms)
    if credits is not None and credits < fewest:
        return Code.PAYMENT_TOO_SHORT
    days = (credits or fewest) * DAYS_PER_CREDIT
    treasury.prepare((held.company_id,), (held.id,))
    seq = treasury.last_seq()
    kind = Kind.ACTIVATE if held.last_end is None or start_ms != held.last_end else Kind.EXTEND
    booking = book(tx, treasury, held, actor=actor, cause=cause, note=note)
    payment = treasury.pay(booking, kind, days)
    if isinstance(payment, Code):
        return payment
    held.period_start, held.period_end = start_ms, start_ms + days * DAY_MS
    held.period_seq, held.payer_id = seq, payment.payer_id
    held.grace_from = held.grace_until = held.attempted_at = None
    return payment


def extend_running(
    tx: Transaction, treasury: Treasury, held: Held, credits: int, *, actor: str, cause: str
) -> Payment | Code:
    """Adds credits to the running period."""
    period = held.period
    assert period is not None
    days = credits * DAYS_PER_CREDIT
    booking = book(tx, treasury, held, actor=actor, cause=cause)
    payment = treasury.pay(booking, Kind.EXTEND, days)
    if not isinstance(payment, Code):
        held.period_end = period.extended(days).end_ms
        held.payer_id = payment.payer_id
    return payment


def mark_active(tx: Transaction, held: Held) -> None:
    """A period was paid by hand: the device is served from now on."""
    _set(tx, held, service.PAID)


def _set(tx: Transaction, held: Held, now: Service) -> None:
    was_active = held.active
    held.state, held.reason = now.state.value, now.reason.value
    if held.active == was_active:
        return
    if held.active and held.last_heard_at is not None:
        # Its state was not kept meanwhile: the next receipt asks for a full sample.
        tx.run(_NEED_FULL, {"device": held.id})
    tell_interval(tx, held)


def tell_interval(tx: Transaction, held: Held) -> None:
    """Tells a device that is served its own sending interval, any other the slow one."""
    if held.last_heard_at is None:
        return
    if not held.active:
        if held.interval_s == UNSERVED_INTERVAL_S:
            return
        held.sending_s, wanted_s = held.interval_s, UNSERVED_INTERVAL_S
    elif held.sending_s is not None and held.interval_s != held.sending_s:
        wanted_s = held.sending_s
    else:
        return
    outbox.put(
        tx,
        device_id=held.id,
        serial=held.serial,
        node=held.node,
        verb=Verb.SET_INTERVALS,
        args={"sending_s": wanted_s},
        actor="gateway",
    )
