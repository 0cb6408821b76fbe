"""The position of the newest event; it goes on when old events are deleted."""

from gateway.storage.installation_facts import get, put
from gateway.storage.transaction import Transaction

_LAST = "event_position"
# More than there ever are between a backup and its restoring.
_GAP = 1_000_000_000


def last_position(tx: Transaction) -> int:
    """The position that was given last; 0 before the first."""
    return int(get(tx, _LAST) or 0)


def set_last_position(tx: Transaction, position: int) -> None:
    """Notes the position that was given last."""
    put(tx, _LAST, str(position))


def leave_gap(tx: Transaction) -> None:
    """After a backup was restored: positions that were given since are never given again.

    So whoever heard one of them is told to load everything anew, and does not miss what happens
    from now on.
    """
    set_last_position(tx, last_position(tx) + _GAP)
