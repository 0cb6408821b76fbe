"""Grace: service after a period's end, while nobody could pay."""

from sqlalchemy import bindparam, select

from gateway.domain import service
from gateway.domain.periods import Grace, grace_after
from gateway.domain.service import Reason, Service, State
from gateway.operations.held import Held
from gateway.storage.schema import outage
from gateway.storage.transaction import Transaction

_OUTAGES = select(outage.c.started_at, outage.c.ended_at).where(
    outage.c.ended_at > bindparam("since")
)


def begin_grace(tx: Transaction, held: Held, grace_days: int) -> None:
    """At a period's end, or at the first contact after it; or again after a suspension in it."""
    now = held.grace
    served = held.state == State.ACTIVE or held.reason == Reason.UNHEARD
    if now is None and held.last_end is not None and served:
        now = grace_after(held.last_end, tx.now_ms, grace_days)
    elif held.reason == Reason.SUSPENDED:
        resume_grace(tx, held, grace_days)
        return
    if now is not None:
        held.grace_from, held.grace_until = now.from_ms, now.until_ms


def resume_grace(tx: Transaction, held: Held, grace_days: int) -> None:
    """What is left of a grace in which service was stopped goes on."""
    stopped = held.grace
    if stopped is not None:
        now = stopped.resumed(tx.now_ms, grace_days, outages_since(tx, stopped)) or stopped
        held.grace_from, held.grace_until = now.from_ms, now.until_ms


def stop_grace(tx: Transaction, held: Held) -> None:
    """Service ends before grace does: what was served stays owed, what was not never is."""
    if held.grace is not None:
        stopped = held.grace.stopped(tx.now_ms)
        held.grace_from, held.grace_until = stopped.from_ms, stopped.until_ms


def outages_since(tx: Transaction, grace: Grace) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in tx.all(_OUTAGES, {"since": grace.from_ms})]


def in_grace_or(tx: Transaction, held: Held, otherwise: Service) -> Service:
    grace = held.grace
    return service.GRACE if grace is not None and tx.now_ms < grace.until_ms else otherwise
