"""What of a device decides about its service, as one transaction holds it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

from gateway.domain.periods import Grace, Period
from gateway.domain.service import State
from gateway.operations.booking import Booking
from gateway.operations.treasury import Treasury
from gateway.storage.schema import device, device_live
from gateway.storage.transaction import AnyRow, Transaction


@dataclass(slots=True)
class Held:
    """What of a device decides about its service; changed here and saved by `save`."""

    id: int
    serial: str
    company_id: int
    start: str
    auto_extend: bool
    state: str
    reason: str
    period_start: int | None
    period_end: int | None
    period_seq: int | None
    payer_id: int | None
    last_start: int | None
    last_end: int | None
    grace_from: int | None
    grace_until: int | None
    attempted_at: int | None
    sending_s: int | None
    switched_off: bool
    owed_days: str  # under the plan `daily`
    first_heard_at: int | None  # in this registration
    last_day: int  # the newest day that was counted; 0 if none was
    last_heard_at: int | None
    interval_s: int
    node: str

    @property
    def period(self) -> Period | None:
        if self.period_start is None or self.period_end is None:
            return None
        return Period(self.period_start, self.period_end)

    @property
    def grace(self) -> Grace | None:
        if self.grace_from is None or self.grace_until is None:
            return None
        return Grace(self.grace_from, self.grace_until)

    @property
    def active(self) -> bool:
        return self.state == State.ACTIVE


_LIVE = frozenset({"last_day", "last_heard_at", "interval_s", "node"})
HELD_COLUMNS = tuple(
    (device_live if field.name in _LIVE else device).c[field.name] for field in fields(Held)
)
_SAVED = (
    "start auto_extend state reason period_start period_end period_seq payer_id last_start "
    "last_end grace_from grace_until attempted_at sending_s switched_off owed_days id"
).split()
_saved = attrgetter(*_SAVED)


def held_of(row: AnyRow) -> Held:
    """The device of a row selected with `HELD_COLUMNS`."""
    return Held(*row)


_BY_NAME = attrgetter(*(field.name for field in fields(Held)))


def held_among(row: AnyRow) -> Held:
    """The device of a wider row, which carries these columns under their names."""
    return Held(*_BY_NAME(row))


def save(tx: Transaction, held: Held) -> None:
    """Writes what `Held` may change."""
    save_all(tx, [held])


def save_booked(treasury: Treasury, held: Held) -> None:
    """The same with what `gather` had noted, in one exchange with the database."""
    treasury.write((_SAVED, _saved(held)))


def save_all(tx: Transaction, some: Iterable[Held]) -> None:
    """The same for many; to be called with their locks, in any order."""
    tx.change_rows("device", _SAVED, [_saved(held) for held in some])


def book(
    tx: Transaction, treasury: Treasury, held: Held, *, actor: str, cause: str, note: str = ""
) -> Booking:
    """A booking about this device."""
    return Booking(
        tx,
        actor,
        cause,
        held.company_id,
        treasury.path(held.company_id),
        held.id,
        held.serial,
        note,
        journal=treasury.journal,
    )
