"""What the tests read of the database past the operations: devices, charges, sums."""

from collections.abc import Sequence

from sqlalchemy import select, text

from gateway.storage.schema import device, device_live, transfer
from gateway.storage.transaction import AnyRow, Transaction


def newest_tenures(tx: Transaction) -> Sequence[AnyRow]:
    return tx.all(
        select(device, device_live.c.last_heard_at)
        .join(device_live, device_live.c.device_id == device.c.id)
        .where(device.c.ended_at.is_(None))
    )


def charges_after(tx: Transaction, seq: int) -> Sequence[AnyRow]:
    return tx.all(
        select(transfer)
        .where(transfer.c.seq > seq, transfer.c.kind.in_(["activate", "extend"]))
        .order_by(transfer.c.seq)
    )


_SUMS = """
SELECT (SELECT coalesce(sum(balance), 0) FROM account) AS stored,
       (SELECT coalesce(sum(days), 0) FROM transfer WHERE to_account IN (2, 3, 4)) AS sinks,
       (SELECT coalesce(sum(days * CASE WHEN to_account = 1 THEN -1 ELSE 1 END), 0)
        FROM transfer WHERE from_account = 1 OR to_account = 1) AS issued,
       (SELECT count(*) FROM account WHERE balance < 0) AS negative,
       (SELECT count(*) FROM device AS d LEFT JOIN account AS a ON a.device_id = d.id
        WHERE coalesce(a.balance, 0) * 86400000
              <> coalesce(d.period_end - d.period_start, 0)) AS prepaid_wrong,
       (SELECT count(*) FROM (SELECT 1 FROM heartbeat GROUP BY device_id, run_id, number
                              HAVING count(*) > 1) AS repeated) AS twice
"""


def figures(tx: Transaction) -> dict[str, int]:
    row = tx.one(text(_SUMS))
    assert row is not None
    return dict(row._mapping)
