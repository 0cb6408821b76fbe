"""What was paid for a device's running period: used up in the order of payment, or given back."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from gateway.domain.ledger import Kind, prepaid_name
from gateway.operations.booking import CONSUMED, EXPIRED, FORFEITED, Booking
from gateway.operations.queueing import queue_recheck
from gateway.storage.schema import account, device, transfer
from gateway.storage.transaction import Transaction


class Paid(NamedTuple):
    """Days of one lot that went into the running period."""

    account_id: int
    days: int
    free: bool
    payer_id: int
    expires_day: int | None


_PREPAID = (
    select(account.c.id.label("id"))
    .where(account.c.name == bindparam("prepaid"))
    .correlate(None)
    .scalar_subquery()
)
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
        transfer.c.to_account == _PREPAID,
    )
    .order_by(transfer.c.seq)
)


_PAID_OF = (
    select(
        transfer.c.device_id,
        transfer.c.from_account,
        transfer.c.days,
        transfer.c.free,
        transfer.c.payer_company_id,
        account.c.expires_day,
    )
    .join(account, account.c.id == transfer.c.from_account)
    .join(device, device.c.id == transfer.c.device_id)
    .where(
        transfer.c.device_id.in_(bindparam("devices", expanding=True)),
        transfer.c.seq > func.coalesce(device.c.period_seq, 0),
        transfer.c.to_account.in_(bindparam("accounts", expanding=True)),
    )
    .order_by(transfer.c.seq)
)


def paid(tx: Transaction, device_id: int, period_seq: int) -> list[Paid]:
    """What was paid for the running period, in the order of payment."""
    values = {"device": device_id, "seq": period_seq, "prepaid": prepaid_name(device_id)}
    return [Paid(*row) for row in tx.all(_PAID, values)]


def paid_of_many(
    tx: Transaction, devices: Collection[int], accounts: Collection[int]
) -> dict[int, list[Paid]]:
    """The same for many devices, whose prepaid accounts these are."""
    found: dict[int, list[Paid]] = {id_: [] for id_ in devices}
    for device_id, *lot in tx.all(
        _PAID_OF, {"devices": sorted(devices), "accounts": list(accounts)}
    ):
        found[device_id].append(Paid(*lot))
    return found


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
    booking: Booking, prepaid: int, lots: Sequence[Paid], *, used: int, forfeited: int
) -> None:
    """Empties the prepaid account: days keep being free or paid, and whose they were."""
    for days, free, payer in _runs(lots, used, 0):
        booking.post(Kind.SERVE, prepaid, CONSUMED, days, free=free, payer_id=payer)
    for days, free, payer in _runs(lots, forfeited, used):
        booking.post(Kind.FORFEIT, prepaid, FORFEITED, days, free=free, payer_id=payer)


def give_back(booking: Booking, prepaid: int, lots: Sequence[Paid]) -> int:
    """Everything goes back to the lots that paid; what has expired meanwhile does not."""
    tx = booking.tx
    payers = set()
    for lot in lots:
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
            payers.add(lot.payer_id)
    for payer_id in sorted(payers):
        queue_recheck(tx, payer_id)  # somebody else may be paid for now
    return sum(lot.days for lot in lots)
