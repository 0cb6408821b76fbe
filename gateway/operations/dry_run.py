"""Tries an operation out: it runs as it would for real, says what it did, and nothing is kept."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import select

from gateway.domain.ledger import DAYS_PER_CREDIT, spendable
from gateway.domain.rights import Principal, Right
from gateway.operations.credits import Shown, Transfer, ledger_rows
from gateway.operations.registry import Call, Operation, Site, execute
from gateway.operations.seeing import ABOVE
from gateway.storage.schema import account, transfer
from gateway.storage.transaction import Transaction

TRANSFERS_SHOWN_MAX = 500
_IDS_AT_ONCE = 500


class Left(msgspec.Struct):
    """What a company could still spend; of a company that the caller does not see, nothing."""

    company_id: str
    days: int | None
    credits: int | None


class DryRun(msgspec.Struct):
    """What an operation would do: its answer, its transfers, and what would be left in the pools.

    Nothing of it is kept. The ids in it are not those of the real thing. Of very many transfers
    the first are shown, and `transfer_count` counts all that the caller may see.
    """

    dry_run: Literal[True]
    would: Any
    transfers: list[Transfer]
    transfer_count: int
    left: list[Left]


class TriedOut(Exception):
    """Ends a transaction so that nothing of it is kept; carries what it would have done."""

    def __init__(self, report: DryRun) -> None:
        super().__init__("tried out")
        self.report = report


def try_out(tx: Transaction, op: Operation, principal: Principal, site: Site, given: Any) -> None:
    """Runs the operation, and ends its transaction with `TriedOut`. Raises `Refused` as it does."""
    assert op.moves_credits, op.name
    result = execute(tx, op, principal, site, given)
    # What it read on its way may be over by now.
    call = Call(tx, principal, site)
    transfers, count = _transfers(call)
    raise TriedOut(DryRun(True, result, transfers, count, _left(call)))


def _transfers(call: Call) -> tuple[list[Transfer], int]:
    """Those that `GET /ledger` would show the caller, in the order in which they were booked."""
    seen = call.visible(Right.SEE_CREDITS).has(transfer.c.company_id)
    shown = Shown(call)
    transfers: list[Transfer] = []
    count = 0
    for ids in _parts(call.tx.booked):
        rows = call.tx.all(
            ledger_rows().where(transfer.c.id.in_(ids), seen).order_by(transfer.c.seq)
        )
        count += len(rows)
        transfers += [shown.transfer(row) for row in rows[: TRANSFERS_SHOWN_MAX - len(transfers)]]
    return transfers, count


def _left(call: Call) -> list[Left]:
    """Of each company whose pools changed; those that the caller does not see are one entry."""
    companies: set[int] = set()
    for ids in _parts(call.tx.booked):
        for end in (transfer.c.from_account, transfer.c.to_account):
            statement = (
                select(account.c.company_id)
                .join(transfer, end == account.c.id)
                .where(transfer.c.id.in_(ids), account.c.kind == "pool")
                .distinct()
            )
            companies.update(row.company_id for row in call.tx.all(statement))
    seen = [id_ for id_ in sorted(companies) if call.allows(Right.SEE_CREDITS, id_)]
    left = [_left_of(call, id_) for id_ in seen]
    return left if len(seen) == len(companies) else [*left, Left(ABOVE, None, None)]


def _left_of(call: Call, company_id: int) -> Left:
    days = spendable(call.treasury.lots(company_id), call.tx.today)
    return Left(str(company_id), days, days // DAYS_PER_CREDIT)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]
