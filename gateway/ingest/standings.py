"""What decides about the service of a batch's devices, loaded and locked for all at once."""

from collections.abc import Collection

from sqlalchemy import bindparam, select

from gateway.domain.service import State
from gateway.ingest.rows import Live
from gateway.operations.clock_state import trust_of
from gateway.operations.daily import DAILY, CountedDay, DayCharges
from gateway.operations.held import HELD_COLUMNS, Held, held_of, save_all
from gateway.operations.standing import bring_up_to_date, may_be_charged
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
    if not tx.trust.sure and trust_of(tx).doubt:
        return True  # served as before, until it is known what time it is
    if live.period_end is None:
        return _served_without_period(tx, live)
    return bool(tx.now_ms < live.period_end and live.last_day == tx.today)


def _served_without_period(tx: Transaction, live: Live) -> bool:
    if live.grace_until is None:
        return bool(live.last_day == tx.today)  # charged by the day, and today is paid
    if tx.now_ms >= live.grace_until:
        return False
    return live.plan != DAILY or owes_today(tx, live)


def owes_today(tx: Transaction, live: Live) -> bool:
    """Whether today is noted as a day of grace by the day."""
    return str(live.owed_days).endswith(str(tx.today))


class Standings:
    """Of one transaction's devices, which are locked; what was changed is written by `write`."""

    def __init__(self, tx: Transaction, node: str) -> None:
        self.treasury = Treasury.of_many(tx)
        self.charges = DayCharges(tx, self.treasury)
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

    def heard(self, live: Live) -> Held:
        """The device brought up to date, as a heartbeat of it is handled."""
        held = self.of(live)
        if live.plan != DAILY:
            self.charges.write()  # a credit may be taken next
        bring_up_to_date(self._tx, self.treasury, held, contact=True)
        self.save(held)
        return held

    def take_day(self, live: Live) -> None:
        """A sample of a device that is charged by the day was stored, of a day not yet paid."""
        if live.grace_until is not None and owes_today(self._tx, live):
            return
        held = self.of(live)
        if self.charges.take(held):
            held.last_day = live.last_day = self._tx.today
        # With what was owed it may have been in grace until now.
        live.payer_id, live.grace_until = held.payer_id, held.grace_until
        live.owed_days = held.owed_days
        self.save(held)

    def save(self, held: Held) -> None:
        """Notes that the device is changed: `write` writes all such."""
        self._changed[held.id] = held

    def write(self) -> list[CountedDay]:
        """Writes what was booked and changed; the days that were charged."""
        self.charges.write()
        self.treasury.write()
        save_all(self._tx, self._changed.values())
        return self.charges.counted

    def _load(self, devices: Collection[int]) -> None:
        for row in self._tx.all(_HELD, {"devices": sorted(devices)}):
            self._held[row.id] = held_of(row)
