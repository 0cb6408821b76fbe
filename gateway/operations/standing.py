"""Brings a device's service up to date: ends periods, pays for the next, grants grace."""

from sqlalchemy import bindparam, update

from gateway.domain import service
from gateway.domain.clock_trust import Trust
from gateway.domain.happenings import Happening
from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind
from gateway.domain.payers import Payment
from gateway.domain.periods import (
    Standing,
    Wish,
    credits_beyond,
    next_start,
    wish,
)
from gateway.domain.refusals import Code
from gateway.domain.service import UNSERVED_INTERVAL_S, Reason, Service, State
from gateway.operations import outbox
from gateway.operations.clock_state import trust_of
from gateway.operations.daily import DAILY, paid_by_day, served_by_day
from gateway.operations.grace import (
    begin_grace,
    in_grace_or,
    outages_since,
    resume_grace,
    stop_grace,
)
from gateway.operations.happening import happened
from gateway.operations.held import Held, book
from gateway.operations.prepaid import use_up
from gateway.operations.service_notices import announce
from gateway.operations.treasury import Treasury
from gateway.operations.trial import begin_trial
from gateway.storage.schema import device_live
from gateway.storage.transaction import Transaction
from wire.commands import Verb

_NEED_FULL = (
    update(device_live).where(device_live.c.device_id == bindparam("device")).values(need_full=True)
)
RETRY_MS = 60_000  # an unpaid device that reports asks for payment at most this often


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
    if not tx.trust.sure and clock_forbids(tx, held):
        return False
    before = (held.state, held.reason, held.period_end)
    period = held.period
    if period is None and paid_by_day(tx, treasury, held):
        return False
    if period is not None and tx.now_ms >= period.end_ms:
        end_period(tx, treasury, held, cause="period_over")
        period = None
    if period is None:
        _set(tx, held, _without_period(tx, treasury, held, contact, actor, cause, forced))
        announce(tx, treasury, held, Service(State(before[0]), Reason(before[1])))
    else:
        mark_served(tx, held)
    return before != (held.state, held.reason, held.period_end)


def clock_forbids(tx: Transaction, held: Held) -> bool:
    """Whether the device stays as it is until people or time say that the clock is right."""
    trust = trust_of(tx)
    if trust.doubt:
        return True
    return paid_since(held.period_seq, trust) and tx.now_ms >= (held.period_end or 0)


def paid_since(period_seq: int | None, trust: Trust) -> bool:
    """Whether the running period was paid after a start at which the clock may have been wrong."""
    if trust.wary_after is None or period_seq is None:
        return False
    return period_seq >= trust.wary_after


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
        stop_grace(tx, held)
        return service.SUSPENDED
    if held.switched_off:
        stop_grace(tx, held)
        return service.SWITCHED_OFF
    link = treasury.chain(held.company_id)[0]
    if contact and held.first_heard_at is None and begin_trial(tx, treasury, held):
        return service.PAID
    if link.plan == DAILY:
        return _by_day(tx, treasury, held, link.grace_days, contact, forced)
    wanted = wish(
        Standing(
            held.start,
            held.auto_extend,
            held.last_end,
            held.last_start,
            held.last_heard_at,
            held.grace,
            link.extend_unheard,
            held.payer_id is not None,
        ),
        tx.now_ms,
        contact=contact,
    )
    if wanted is Wish.NOTHING:
        stop_grace(tx, held)
        return service.NOT_ACTIVATED
    if wanted is Wish.WAIT:
        if held.last_end is None:
            return service.NOT_ACTIVATED
        return in_grace_or(tx, held, service.UNHEARD)
    if _waits(tx, held) and not forced:
        return Service(State.UNPAID, Reason(held.reason))
    held.attempted_at = tx.now_ms
    payment = pay(tx, treasury, held, None, actor=actor, cause=cause or _cause(held, tx, contact))
    if not isinstance(payment, Code):
        return service.PAID
    begin_grace(tx, held, link.grace_days)
    return in_grace_or(tx, held, service.unpaid(payment))


def _by_day(
    tx: Transaction,
    treasury: Treasury,
    held: Held,
    grace_days: int,
    contact: bool,
    forced: bool,
) -> Service:
    if _waits(tx, held) and not forced:
        return Service(State.UNPAID, Reason(held.reason))
    now = served_by_day(tx, treasury, held, grace_days, contact=contact)
    if now is None:
        stop_grace(tx, held)
        return service.NOT_ACTIVATED
    if now.state is State.UNPAID:
        held.attempted_at = tx.now_ms
    return now


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
    outages = [] if grace is None else outages_since(tx, grace)
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
    held.owed_days = ""
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
    """A period was paid by hand, by whoever wants service: the device is served from now on."""
    held.switched_off = False
    _set(tx, held, service.PAID)


def stop_service(tx: Transaction, treasury: Treasury, held: Held) -> None:
    """Switches a device off; a running period goes on by the calendar."""
    held.switched_off = True
    if held.period is None:
        stop_grace(tx, held)
        if treasury.suspended(held.company_id):
            return  # that is what stops it
    _set(tx, held, service.SWITCHED_OFF)


def serve_again(tx: Transaction, treasury: Treasury, held: Held) -> None:
    """Switches a device on: it is served as it is wanted; if that costs, its next contact pays."""
    held.switched_off = False
    period = held.period
    if period is not None and tx.now_ms >= period.end_ms and not clock_forbids(tx, held):
        end_period(tx, treasury, held, cause="period_over")
    link = treasury.chain(held.company_id)[0]
    if held.period is not None or link.plan == DAILY or treasury.suspended(held.company_id):
        bring_up_to_date(tx, treasury, held, contact=False, forced=True)
    elif held.last_end is None or not held.auto_extend:
        _set(tx, held, service.NOT_ACTIVATED)
    else:
        resume_grace(tx, held, link.grace_days)
        _set(tx, held, in_grace_or(tx, held, service.UNHEARD))


def mark_served(tx: Transaction, held: Held) -> None:
    """A period runs: the device is served, unless it was switched off."""
    _set(tx, held, service.SWITCHED_OFF if held.switched_off else service.PAID)


def _set(tx: Transaction, held: Held, now: Service) -> None:
    was_active, before = held.active, (held.state, held.reason)
    held.state, held.reason = now.state.value, now.reason.value
    if before != (held.state, held.reason):
        shown = {"state": held.state, "reason": held.reason}
        happened(tx, Happening.DEVICE_SERVICE, held.company_id, serial=held.serial, detail=shown)
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
