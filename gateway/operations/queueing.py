"""Marks a company's subtree for another look: a payment may have become possible."""

from sqlalchemy import ColumnElement, case
from sqlalchemy.dialects import postgresql, sqlite

from gateway.storage.schema import recheck
from gateway.storage.transaction import Signal, Transaction


def _later(now: ColumnElement[int]) -> ColumnElement[int]:
    """Another instant than before: what is being looked at now is looked at once more."""
    return case((recheck.c.queued_at < now, now), else_=recheck.c.queued_at + 1)


def queue_recheck(tx: Transaction, company_id: int) -> None:
    """Within a minute the devices of the company and all below are brought up to date."""
    if company_id in tx.rechecks:
        return  # it is known once this transaction is committed
    tx.rechecks.add(company_id)
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(recheck)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["company_id"], set_={"queued_at": _later(statement.excluded.queued_at)}
        ),
        {"company_id": company_id, "queued_at": tx.now_ms},
    )
    tx.signals.add(Signal.RECHECK)
