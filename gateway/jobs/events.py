"""Gives events their positions, in the order in which they were committed."""

from gateway.operations.event_positions import last_position, set_last_position
from gateway.storage.transaction import Signal, Transaction

PLACED_AT_ONCE = 400  # heartbeats do not wait longer than some 20 ms for a job
_UNPLACED = "SELECT id FROM event WHERE position IS NULL ORDER BY id LIMIT ?"


def anything_unplaced(tx: Transaction) -> bool:
    """Whether `place` would find an event; asked twice a second, so it only reads."""
    return bool(tx.fetch(_UNPLACED, (1,)))


def place(tx: Transaction) -> int:
    """Gives the next events their positions; how many, and none while another gateway does so.

    Ids are given before the commit, so that a later one may be seen first. Whoever read on from
    the highest id would miss the other. A position is given to what is committed, by one gateway
    at a time: whoever sees one has seen all before it.
    """
    if not tx.alone("events"):
        return 0
    found = tx.fetch(_UNPLACED, (PLACED_AT_ONCE,))
    if not found:
        return 0
    last = last_position(tx)
    placed = [(last + number, row[0]) for number, row in enumerate(found, start=1)]
    tx.change_rows("event", ("position", "id"), placed)
    set_last_position(tx, last + len(placed))
    tx.signals.add(Signal.EVENTS)
    return len(placed)
