"""What was paid for a device's running period: used up in the order of payment, or given back."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, cast, func, select

from gateway.domain.ledger import Kind, pool_name, prepaid_name
from gateway.operations.booking import CONSUMED, EXPIRED, FORFEITED, Booking
from gateway.operations.clock_state import trust_of
from gateway.operations.queueing import queue_recheck
from gateway.storage.schema import account, company, device, transfer
from gateway.storage.transaction import AnyRow, Transaction


class Paid(NamedTuple):
    """Days of one lot that went into the running period."""

    account_id: int
    days: int
    free: bool
    payer_id: int
    expires_day: int | None
    holder_id: int  # whose lot it is: the payer, or whoever inherited its lots
    ownerless: bool = False  # of a root company that was closed: there is nobody to give back to


_PREPAID = (
    select(account.c.id.label("id"))
    .where(account.c.name == bindparam("prepaid"))
    .correlate(None)
    .scalar_subquery()
)
# Days that another device handed over name the lot that paid them.
_LOT = func.coalesce(transfer.c.lot_account, transfer.c.from_account)
_BACK = transfer.alias("back")
_TAKEN_BACK = (
    select(func.sum(_BACK.c.days)).where(_BACK.c.reverses == transfer.c.id).scalar_subquery()
)
# PostgreSQL adds up to a decimal number, and days are whole ones.
_KEPT = cast(transfer.c.days - func.coalesce(_TAKEN_BACK, 0), BigInteger).label("kept")
_CLOSED = company.c.closed_at.is_not(None)
_PAID = (
    select(
        _LOT,
        _KEPT,
        transfer.c.free,
        transfer.c.payer_company_id,
        account.c.expires_day,
        account.c.company_id,
        _CLOSED,
    )
    .join(account, account.c.id == _LOT)
    .join(company, company.c.id == account.c.company_id)
    .where(
        transfer.c.device_id == bindparam("device"),
        transfer.c.seq > bindparam("seq"),
        transfer.c.to_account == _PREPAID,
    )
    .order_by(transfer.c.seq)
)
_PAYMENTS = _PAID.with_only_columns(transfer.c.id, _KEPT)
_PAID_OF = (
    select(
        transfer.c.device_id,
        _LOT,
        _KEPT,
        transfer.c.free,
        transfer.c.payer_company_id,
        account.c.expires_day,
        account.c.company_id,
        _CLOSED,
    )
    .join(account, account.c.id == _LOT)
    .join(company, company.c.id == account.c.company_id)
    .join(device, device.c.id == transfer.c.device_id)
    .where(
        transfer.c.device_id.in_(bindparam("devices", expanding=True)),
        transfer.c.seq > func.coalesce(device.c.period_seq, 0),
        transfer.c.to_account.in_(bindparam("accounts", expanding=True)),
    )
    .order_by(transfer.c.seq)
)


def paid(tx: Transaction, device_id: int, period_seq: int) -> list[Paid]:
    """What was paid for the running period and not taken back, in the order of payment."""
    values = {"device": device_id, "seq": period_seq, "prepaid": prepaid_name(device_id)}
    return [_paid(tx, *row) for row in tx.all(_PAID, values) if row.kept]


def paid_of_many(
    tx: Transaction, devices: Collection[int], accounts: Collection[int]
) -> dict[int, list[Paid]]:
    """The same for many devices, whose prepaid accounts these are."""
    found: dict[int, list[Paid]] = {id_: [] for id_ in devices}
    for device_id, *lot in tx.all(
        _PAID_OF, {"devices": sorted(devices), "accounts": list(accounts)}
    ):
        if lot[1]:
            found[device_id].append(_paid(tx, *lot))
    return found


def _paid(tx: Transaction, account_id: int, *lot: Any) -> Paid:
    """What is given back to a company that was closed goes where its credits went."""
    days, free, payer_id, expires_day, holder_id, closed = lot
    if closed:
        heir = _heir(tx, account_id)
        if heir is None:
            return Paid(account_id, days, free, payer_id, expires_day, holder_id, ownerless=True)
        account_id, holder_id = heir.id, heir.company_id
    return Paid(account_id, days, free, payer_id, expires_day, holder_id)


def _heir(tx: Transaction, account_id: int) -> AnyRow | None:
    """The same lot of the nearest company above that is open: closing made one there."""
    lot = tx.one(select(account).where(account.c.id == account_id))
    assert lot is not None
    above: int | None = lot.company_id
    while above is not None:
        row = tx.one(select(company.c.parent_id, _CLOSED).where(company.c.id == above))
        assert row is not None
        if not row[1]:
            break
        above = row.parent_id
    if above is None:
        return None
    name = pool_name(above, lot.expires_day, free=lot.free, redeemed=lot.redeemed)
    return tx.one(select(account).where(account.c.name == name))


def still_ahead(
    tx: Transaction, device_id: int, period_seq: int, transfer_id: str, used: int
) -> int:
    """Days of one payment for the running period that are not used, when so many of it are."""
    values = {"device": device_id, "seq": period_seq, "prepaid": prepaid_name(device_id)}
    for id_, days in tx.all(_PAYMENTS, values):
        left = max(0, int(days) - used)
        if id_ == transfer_id:
            return left
        used = max(0, used - int(days))
    return 0


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


def refund(booking: Booking, prepaid: int, lots: Sequence[Paid], used: int) -> int:
    """What is left after the first `used` days goes back to whoever paid; how many days."""
    left = []
    for lot in lots:
        skipped = min(used, lot.days)
        used -= skipped
        if lot.days > skipped:
            left.append(lot._replace(days=lot.days - skipped))
    return give_back(booking, prepaid, left, Kind.REFUND)


def give_back(
    booking: Booking, prepaid: int, lots: Sequence[Paid], kind: Kind = Kind.UNUSED
) -> int:
    """Everything goes back to the lots that paid; what has expired meanwhile does not.

    While the clock may be wrong it does go back: nobody can spend it, and its expiry waits.
    """
    tx = booking.tx
    payers = set()
    sure = trust_of(tx).wary_after is None
    for lot in lots:
        expired = sure and lot.expires_day is not None and lot.expires_day < tx.today
        ends, target = kind, EXPIRED if expired else lot.account_id
        if lot.ownerless:
            ends, target = Kind.FORFEIT, FORFEITED
        booking.post(ends, prepaid, target, lot.days, free=lot.free, payer_id=lot.payer_id)
        if not expired:
            payers.add(lot.holder_id)
    for payer_id in sorted(payers):
        queue_recheck(tx, payer_id)  # somebody else may be paid for now
    return sum(lot.days for lot in lots if not lot.ownerless)
