"""What decides about the service of a batch's devices, loaded and locked for all at once."""

from collections.abc import Collection

from sqlalchemy import bindparam, select

from gateway.domain.service import State
from gateway.ingest.rows import Live
from gateway.operations.standing import HELD_COLUMNS, Held, held_of, may_be_charged, save_all
from gateway.operations.treasury import Treasury
from gateway.storage.schema import device, device_live
from gateway.storage.transaction import Transaction

_HELD = (
    select(*HELD_COLUMNS)
    .join(device_live, device_live.c.device_id == device.c.id)
    .where(device.c.id.in_(bindparam("devices", expanding=True)))
)


def served_at_once(tx: Transaction, live: Live) -> bool:
    """Whether a device is served and nothing falls due today."""
    # The first heartbeat of a registration always goes the long way, which notes it.
    if live.state != State.ACTIVE or live.first_heard_at is None:
        return False
    if live.period_end is None:
        return bool(tx.now_ms < (live.grace_until or 0))
    return bool(tx.now_ms < live.period_end and live.last_day == tx.today)


class Standings:
    """Of one transaction's devices, which are locked; what was changed is written by `write`."""

    def __init__(self, tx: Transaction, node: str) -> None:
        self.treasury = Treasury.of_many(tx)
        self._tx = tx
        self._node = node
        self._held: dict[int, Held] = {}
        self._changed: dict[int, Held] = {}

    def prepare(self, devices: Collection[int]) -> None:
        """For all that go the long way: what they may be charged is locked now."""
        if not devices:
            return
        self._load(devices)
        charged = [held for held in self._held.values() if may_be_charged(self._tx, held)]
        self.treasury.prepare_many(charged)

    def of(self, live: Live) -> Held:
        """The device as it stands, with what this batch heard of it."""
        if live.id not in self._held:
            self._load((live.id,))
        held = self._held[live.id]
        held.last_heard_at, held.interval_s, held.node = (
            live.last_heard_at,
            live.interval_s,
            self._node,
        )
        return held

    def save(self, held: Held) -> None:
        """Notes that the device is changed: `write` writes all such."""
        self._changed[held.id] = held

    def write(self) -> None:
        """Writes what was booked and changed."""
        self.treasury.write()
        save_all(self._tx, self._changed.values())

    def _load(self, devices: Collection[int]) -> None:
        for row in self._tx.all(_HELD, {"devices": sorted(devices)}):
            self._held[row.id] = held_of(row)
