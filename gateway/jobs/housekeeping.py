"""Marks that the server is alive, records outages, and deletes what has served its time."""

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.domain.registering import HASH_KEPT_MS
from gateway.storage.schema import (
    api_token,
    device,
    enrolment,
    idempotency,
    installation,
    join_code,
    mqtt_login,
    outage,
    outbox,
    quarantine,
    sign_in,
)
from gateway.storage.transaction import Transaction

OUTAGE_MS_MIN = MINUTE_MS
QUARANTINE_ROWS_MAX = 1_000
IDEMPOTENCY_KEPT_MS = 30 * DAY_MS
OUTBOX_KEPT_MS = 30 * DAY_MS
_ALIVE = "alive_at"


def put(tx: Transaction, key: str, value: str) -> None:
    """Keeps a fact about the installation."""
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(installation)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["key"], set_={"value": statement.excluded.value}
        ),
        {"key": key, "value": value},
    )


def get(tx: Transaction, key: str) -> str | None:
    """A fact about the installation."""
    found = tx.scalar(select(installation.c.value).where(installation.c.key == key))
    return None if found is None else str(found)


def mark_alive(tx: Transaction, lived_ms: int = 0) -> None:
    """Says that the server worked at this instant; a longer gap than usual was an outage.

    `lived_ms`: by how much a test moved the clock of the running server. That time counts as
    lived through; a clock that was moved while the server was down is an outage as any other.
    """
    before = get(tx, _ALIVE)
    if before is not None and tx.now_ms - int(before) - lived_ms > OUTAGE_MS_MIN:
        tx.run(insert(outage), {"started_at": int(before), "ended_at": tx.now_ms})
    put(tx, _ALIVE, str(tx.now_ms))


def end_old_commands(tx: Transaction) -> int:
    """Commands that were never answered: their outcome stays unknown."""
    return tx.run(
        update(outbox)
        .where(outbox.c.answered_at.is_(None), outbox.c.expires_at <= tx.now_ms)
        .values(
            answered_at=tx.now_ms,
            sent_at=func.coalesce(outbox.c.sent_at, tx.now_ms),
            outcome="unknown",
            answer='{"error":"no_answer"}',
        )
    )


def clean(tx: Transaction) -> None:
    """Deletes what nobody needs any more; each kind has its own time."""
    now_ms = tx.now_ms
    newest = tx.scalar(select(func.max(quarantine.c.id))) or 0
    tx.run(delete(quarantine).where(quarantine.c.id <= newest - QUARANTINE_ROWS_MAX))
    tx.run(delete(idempotency).where(idempotency.c.at < now_ms - IDEMPOTENCY_KEPT_MS))
    tx.run(delete(outbox).where(outbox.c.answered_at < now_ms - OUTBOX_KEPT_MS))
    tx.run(delete(sign_in).where(sign_in.c.expires_at < now_ms))
    tx.run(delete(api_token).where(api_token.c.expires_at < now_ms))
    tx.run(
        delete(join_code).where(or_(join_code.c.expires_at < now_ms, join_code.c.uses_left == 0))
    )
    tx.run(delete(mqtt_login).where(mqtt_login.c.hash.is_(None), _not_newest()))
    _forget_dormant(tx)


def _not_newest() -> ColumnElement[bool]:
    """The newest row carries the version that nodes have to reach."""
    return mqtt_login.c.version < select(func.max(mqtt_login.c.version)).scalar_subquery()


def _forget_dormant(tx: Transaction) -> None:
    old = tx.all(
        select(device.c.id, device.c.serial)
        .join(enrolment, enrolment.c.device_id == device.c.id)
        .where(and_(device.c.registered.is_(False), device.c.dormant_at < tx.now_ms - HASH_KEPT_MS))
        .limit(100)
    )
    for row in old:
        tx.run(delete(enrolment).where(enrolment.c.device_id == row.id))
