"""Periods that end, grace that ends, and unpaid devices that may be paid for now."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    true,
)

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import Kind
from gateway.domain.service import State
from gateway.operations.booking import EXPIRED, Booking
from gateway.operations.clock_state import trust_of
from gateway.operations.held import HELD_COLUMNS, Held, held_of, save_all
from gateway.operations.standing import bring_up_to_date, may_be_charged
from gateway.operations.treasury import Treasury
from gateway.storage.schema import account, company_path, device, device_live, recheck
from gateway.storage.transaction import Transaction

DEVICES_AT_ONCE = 200  # a job's transaction lasts about 20 ms, so that heartbeats do not wait
LOOKED_AHEAD = 10_000
POOLS_AT_ONCE = 100


def _in_order(now_ms: int) -> tuple[ColumnElement[Any], ...]:
    """When credits do not reach for all: those that are there first, then the earliest end.

    One that never had a period comes after those that lost theirs.
    """
    lately = device_live.c.last_heard_at >= now_ms - DAY_MS
    ended = case((device.c.period_end.is_not(None), device.c.period_end), else_=device.c.last_end)
    return case((lately, 0), else_=1), ended.is_(None), ended, device.c.serial


def _held() -> Select[Any]:
    return select(*HELD_COLUMNS).join_from(
        device, device_live, device_live.c.device_id == device.c.id
    )


def _due(tx: Transaction) -> ColumnElement[bool]:
    """Over: the period, or the grace of a device that is still served in it."""
    trust = trust_of(tx)
    ended = device.c.period_end <= tx.now_ms
    if trust.wary_after is not None:
        # Charged once since a start at which the clock may have been wrong: not again so far.
        ended = and_(ended, func.coalesce(device.c.period_seq, 0) < trust.wary_after)
    return and_(
        device.c.registered,
        or_(
            ended,
            and_(device.c.grace_until <= tx.now_ms, device.c.state == State.ACTIVE.value),
        ),
        false() if trust.doubt else true(),
    )


def due_in_order(tx: Transaction) -> list[int]:
    """Devices for `settle_due`, those first that are paid for first.

    Asked each second, so it only reads; and it puts all that are due in order, so it looks far
    ahead: one that is due meanwhile waits for the next look.
    """
    rows = tx.all(
        select(device.c.id)
        .join_from(device, device_live, device_live.c.device_id == device.c.id)
        .where(_due(tx))
        .order_by(*_in_order(tx.now_ms))
        .limit(LOOKED_AHEAD)
    )
    return [row.id for row in rows]


def settle_due(tx: Transaction, ids: list[int]) -> int | None:
    """Ends and extends periods that are over, and ends grace; how many devices were settled.

    Devices that somebody else changes now are left for the next time. None, and nothing was done,
    while another gateway looks at some.
    """
    if not tx.alone("periods"):
        return None
    claimed = tx.claim_devices(select(device.c.id).where(device.c.id.in_(ids)))
    held_by_id = _held_by_id(tx, claimed, _due(tx))
    _settle(tx, [held_by_id[id_] for id_ in ids if id_ in held_by_id], forced=False)
    return len(held_by_id)


def _held_by_id(
    tx: Transaction, ids: Sequence[int], condition: ColumnElement[bool]
) -> dict[int, Held]:
    rows = tx.all(_held().where(device.c.id.in_(ids), condition)) if ids else ()
    return {row.id: held_of(row) for row in rows}


def _settle(tx: Transaction, some: list[Held], *, forced: bool) -> int:
    """Brings devices that are locked up to date, in this order; how many changed."""
    treasury = Treasury.of_many(tx)
    treasury.prepare_many([held for held in some if may_be_charged(tx, held, forced=forced)])
    changed = 0
    for held in some:
        changed += bring_up_to_date(tx, treasury, held, contact=False, forced=forced)
    treasury.write()
    save_all(tx, some)
    return changed


def next_recheck(tx: Transaction) -> tuple[int, int] | None:
    """The company whose subtree is looked at next, and when it was queued."""
    if trust_of(tx).doubt:
        return None  # nobody can be charged now; the queue is kept
    row = tx.one(select(recheck).order_by(recheck.c.queued_at, recheck.c.company_id).limit(1))
    return None if row is None else (row.company_id, row.queued_at)


def unpaid_below(tx: Transaction, company_id: int) -> list[int]:
    """Devices of the subtree without a running period, in the order in which they are paid for."""
    rows = tx.all(
        select(device.c.id)
        .join_from(device, device_live, device_live.c.device_id == device.c.id)
        .where(
            device.c.registered,
            device.c.ended_at.is_(None),
            device.c.period_end.is_(None),
            exists().where(
                company_path.c.ancestor_id == company_id,
                company_path.c.descendant_id == device.c.company_id,
            ),
        )
        .order_by(*_in_order(tx.now_ms))
    )
    return [row.id for row in rows]


def settle_some(tx: Transaction, ids: list[int]) -> int | None:
    """Brings these devices up to date, in this order; how many changed.

    None, and nothing was done, while another gateway looks at some.
    """
    if trust_of(tx).doubt or not tx.alone("recheck"):
        return None
    # Nobody comes back for those that others hold now, so they are waited for.
    tx.lock_devices(select(device.c.id).where(device.c.id.in_(ids)))
    held_by_id = _held_by_id(tx, ids, device.c.registered)
    return _settle(tx, [held_by_id[id_] for id_ in ids if id_ in held_by_id], forced=True)


def recheck_done(tx: Transaction, company_id: int, queued_at: int) -> None:
    """Takes the company from the queue, unless it was queued again meanwhile."""
    tx.run(
        delete(recheck).where(recheck.c.company_id == company_id, recheck.c.queued_at == queued_at)
    )


def expire_pools(tx: Transaction) -> int:
    """Books the expiry of lots whose last day is over; how many were booked.

    What expires does not come back, so nothing does while the clock may be wrong.
    """
    if not trust_of(tx).sure or not tx.alone("expiry"):
        return 0
    ids = tx.all(
        select(account.c.id)
        .where(
            account.c.kind.in_(("pool", "code")),
            account.c.balance > 0,
            account.c.expires_day < tx.today,
        )
        .order_by(account.c.id)
        .limit(POOLS_AT_ONCE)
    )
    if not ids:
        return 0
    treasury = Treasury.of(tx)
    treasury.prepare((), accounts=[row.id for row in ids])
    rows = tx.all(
        select(account).where(account.c.id.in_([row.id for row in ids]), account.c.balance > 0)
    )
    for row in rows:
        booking = Booking(
            tx,
            "gateway",
            "expired",
            row.company_id,
            treasury.path(row.company_id),
            operation_id=f"{tx.operation_id}:{row.id}",
        )
        booking.post(Kind.EXPIRE, row.id, EXPIRED, row.balance, free=row.free)
    return len(rows)
