"""What was paid for a device's running period: used up in the order of payment, or given back."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from gateway.domain.ledger import Kind
from gateway.operations.booking import CONSUMED, EXPIRED, FORFEITED, Booking, prepaid_account
from gateway.operations.queueing import queue_recheck
from gateway.storage.schema import account, transfer
from gateway.storage.transaction import Transaction


class Paid(NamedTuple):
    """Days of one lot that went into the running period."""

    account_id: int
    days: int
    free: bool
    payer_id: int
    expires_day: int | None


_PAID = (
    select(
        transfer.c.from_account,
        transfer.c.days,
        transfer.c.free,
        transfer.c.payer_company_id,
        account.c.expires_day,
    )
    .join(account, account.c.id == transfer.c.from_account)
    .where(
        transfer.c.device_id == bindparam("device"),
        transfer.c.seq > bindparam("seq"),
        transfer.c.to_account == bindparam("prepaid"),
    )
    .order_by(transfer.c.seq)
)


def _paid(tx: Transaction, device_id: int, period_seq: int, prepaid: int) -> list[Paid]:
    values = {"device": device_id, "seq": period_seq, "prepaid": prepaid}
    return [Paid(*row) for row in tx.all(_PAID, values)]


def _runs(paid: Sequence[Paid], days: int, skip: int) -> Iterator[tuple[int, bool, int]]:
    """`(days, free, payer)` of `days` days after the first `skip`, in the order of payment."""
    run, free, payer = 0, False, 0
    for lot in paid:
        skipped = min(skip, lot.days)
        skip -= skipped
        taken = min(lot.days - skipped, days)
        days -= taken
        if not taken:
            continue
        if run and (lot.free, lot.payer_id) != (free, payer):
            yield run, free, payer
            run = 0
        run, free, payer = run + taken, lot.free, lot.payer_id
    assert days == 0, "a period holds more days than were paid"
    if run:
        yield run, free, payer


def use_up(
    tx: Transaction, booking: Booking, device_id: int, period_seq: int, *, used: int, forfeited: int
) -> None:
    """Empties the prepaid account: days keep being free or paid, and whose they were."""
    prepaid = prepaid_account(tx, device_id)
    paid = _paid(tx, device_id, period_seq, prepaid)
    for days, free, payer in _runs(paid, used, 0):
        booking.post(Kind.SERVE, prepaid, CONSUMED, days, free=free, payer_id=payer)
    for days, free, payer in _runs(paid, forfeited, used):
        booking.post(Kind.FORFEIT, prepaid, FORFEITED, days, free=free, payer_id=payer)


def give_back(tx: Transaction, booking: Booking, device_id: int, period_seq: int) -> int:
    """Everything goes back to the lots that paid; what has expired meanwhile does not."""
    prepaid = prepaid_account(tx, device_id)
    paid = _paid(tx, device_id, period_seq, prepaid)
    for lot in paid:
        expired = lot.expires_day is not None and lot.expires_day < tx.today
        booking.post(
            Kind.UNUSED,
            prepaid,
            EXPIRED if expired else lot.account_id,
            lot.days,
            free=lot.free,
            payer_id=lot.payer_id,
        )
        if not expired:
            queue_recheck(tx, lot.payer_id)  # somebody else may be paid for now
    return sum(lot.days for lot in paid)
