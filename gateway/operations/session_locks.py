"""Locks of sessions: a session's row is changed only by who holds the lock of its relay."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select

from gateway.storage.schema import session
from gateway.storage.transaction import AnyRow, Transaction


def lock_sessions_of(tx: Transaction, device_ids: Sequence[int]) -> None:
    """Locks the wanted sessions of these devices, which are locked themselves."""
    tx.lock_relays(
        select(session.c.relay_id).where(
            session.c.device_id.in_(device_ids), session.c.ended_at.is_(None)
        )
    )


def locked(tx: Transaction, sessions: Select[Any]) -> Sequence[AnyRow]:
    """The selected sessions, whose first column is their id, read once they are locked."""
    ids = [row[0] for row in tx.all(sessions)]
    if not ids:
        return ()
    tx.lock_relays(select(session.c.relay_id).where(session.c.id.in_(ids)))
    return tx.all(sessions.where(session.c.id.in_(ids)))
