"""Until when credits last: every coming charge is paid in thought, lot by lot."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.domain.instants import DAY_MS, month_of
from gateway.domain.ledger import DAYS_PER_CREDIT, Draw, Lot, spend

HORIZON_DAYS = 5 * 366
MONTHS_SHOWN = 12
LOOKED_BACK_DAYS = 30
# Days before it happens on which people are told.
DRY_WARNINGS = (1, 3, 7, 30)
EXPIRY_WARNINGS = (1, 7, 30)
STEPS_DAYS = (30, 60, 90)
SHOWN_DAYS = 90


class Burning(NamedTuple):
    """Devices that take days: from which UTC day on, and how fast."""

    from_day: int
    devices: int
    heard_days: int = LOOKED_BACK_DAYS  # of the last 30, of all of them; for the plan `daily`
    daily: bool = False


class Wasted(NamedTuple):
    """Days of a lot that will expire without having been spent."""

    expires_day: int
    free: bool
    days: int


class DayAhead(NamedTuple):
    """What is to be paid on a day, and what can be spent when it is over."""

    day: int
    needed: int
    left: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What will become of a company's credits if all goes on as it does."""

    dry_day: int | None  # the first day with a charge that cannot be paid
    horizon_day: int
    months: tuple[tuple[int, int], ...]  # (month, days that its devices take)
    wasted: tuple[Wasted, ...]
    days: tuple[DayAhead, ...] = ()  # the next ones, today first

    @property
    def lasts_until_day(self) -> int | None:
        """The last day on which every charge is paid; None when no end is in sight."""
        return None if self.dry_day is None else self.dry_day - 1

    def within(self, days: int) -> tuple[int, int]:
        """Of the next days: what is to be paid, and how much of it cannot be."""
        some = self.days[:days]
        short = [one.needed for one in some if self.dry_day is not None and one.day >= self.dry_day]
        return sum(one.needed for one in some), sum(short)


def rate_of(burning: Iterable[Burning]) -> int:
    """Days that these devices take in thirty days, if all goes on as it does."""
    return sum(one.heard_days if one.daily else one.devices * DAYS_PER_CREDIT for one in burning)


def look_ahead(lots: Iterable[Lot], burning: Sequence[Burning], today: int) -> Outlook:
    """Pays every charge from today on, in the order in which lots are spent."""
    held = [lot for lot in lots if lot.days]
    demand = _Demand(burning, today)
    months: dict[int, int] = {}
    wasted: list[Wasted] = []
    days: list[DayAhead] = []
    dry_day: int | None = None
    horizon_day = today + HORIZON_DAYS
    for day in range(today, horizon_day):
        needed = demand.on(day)
        month = month_of(day * DAY_MS)
        if month in months or len(months) < MONTHS_SHOWN:
            months[month] = months.get(month, 0) + needed
        elif dry_day is not None:
            break
        wasted += _expired(held, day)
        held = [lot for lot in held if lot.expires_day is None or lot.expires_day >= day]
        if dry_day is None and needed:
            draws = spend(held, needed, day)
            if draws is None:
                dry_day = day  # what is left is not enough for all, so it stays
            else:
                held = _without(held, draws)
        if len(days) < SHOWN_DAYS:
            days.append(DayAhead(day, needed, sum(lot.days for lot in held)))
    return Outlook(dry_day, horizon_day, tuple(months.items()), tuple(wasted), tuple(days))


def _without(held: Iterable[Lot], draws: Iterable[Draw]) -> list[Lot]:
    taken = {draw.account_id: draw.days for draw in draws}
    return [replace(lot, days=lot.days - taken.get(lot.account_id, 0)) for lot in held]


def _expired(held: Iterable[Lot], day: int) -> list[Wasted]:
    """Those whose last valid day was yesterday, or earlier."""
    return [
        Wasted(lot.expires_day, lot.free, lot.days)
        for lot in held
        if lot.days and lot.expires_day is not None and lot.expires_day < day
    ]


class _Demand:
    """The days that are taken on each day, asked day after day."""

    def __init__(self, burning: Iterable[Burning], today: int) -> None:
        self._blocks: dict[int, int] = {}  # day: devices whose next credit is due
        self._begins: dict[int, int] = {}  # day: heard days of the devices that count from then on
        self._heard = self._rest = 0
        for one in burning:
            day = max(one.from_day, today)
            if one.daily:
                self._begins[day] = self._begins.get(day, 0) + one.heard_days
            else:
                self._blocks[day] = self._blocks.get(day, 0) + one.devices

    def on(self, day: int) -> int:
        """What is taken on this day."""
        devices = self._blocks.pop(day, 0)
        if devices:
            next_day = day + DAYS_PER_CREDIT
            self._blocks[next_day] = self._blocks.get(next_day, 0) + devices
        self._heard += self._begins.pop(day, 0)
        whole, self._rest = divmod(self._rest + self._heard, LOOKED_BACK_DAYS)
        return devices * DAYS_PER_CREDIT + whole


def warned_at(days_left: int, steps: Sequence[int]) -> int | None:
    """The nearest of the steps that has been reached, if one was."""
    return next((step for step in sorted(steps) if days_left <= step), None)
