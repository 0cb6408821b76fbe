"""Service and charges under the plan `daily`: a day is taken only where a sample is stored."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gateway.domain import service
from gateway.domain.daily import (
    DailyStanding,
    days_due,
    grace_of_days,
    is_wanted,
    owed_of,
    owed_text,
)
from gateway.domain.ledger import Draw, Kind
from gateway.domain.refusals import Code
from gateway.domain.service import Reason, Service
from gateway.operations.booking import CONSUMED, Booking
from gateway.operations.held import Held
from gateway.operations.treasury import Treasury
from gateway.storage.transaction import Transaction

CAUSE = "heard"
DAILY = "daily"
_COUNTED = "SELECT 1 FROM monitored_day WHERE device_id = ? AND day = ?"
_UNDER_PERIOD = f"{_COUNTED} AND transfer_id IS NULL"


def is_daily(treasury: Treasury, company_id: int) -> bool:
    """Whether devices of the company are charged by the day."""
    return treasury.chain(company_id)[0].plan == DAILY


def standing_of(held: Held) -> DailyStanding:
    """What decides about a device under this plan."""
    had_period = held.last_end is not None
    return DailyStanding(
        held.start,
        held.auto_extend,
        had_period,
        held.last_heard_at is not None,
        had_period or held.last_day > 0,
        owed_of(held.owed_days),
        held.grace,
    )


def served_by_day(
    tx: Transaction, treasury: Treasury, held: Held, grace_days: int, *, contact: bool
) -> Service | None:
    """The service of a device without a period; None when nobody wants any. Nothing is booked."""
    standing = standing_of(held)
    if not is_wanted(standing):
        return None
    if not contact and not (standing.heard or standing.had_period):
        return service.NOT_ACTIVATED  # its first heartbeat begins service
    if held.last_day == tx.today or (contact and is_counted(tx, held.id, tx.today)):
        return service.PAID
    if not contact and (held.state, held.reason) == service.PAID:
        return service.PAID  # only a heartbeat costs something
    payment = treasury.find_payer(held.company_id, len(days_due(standing.owed, tx.today)))
    if not isinstance(payment, Code):
        # The next heartbeat pays what is owed; should nobody be able to by then, grace goes on.
        held.grace_from = held.grace_until = None
        return service.PAID
    begins = contact or bool(standing.owed)
    grace = grace_of_days(standing, tx.today, grace_days) if begins else standing.grace
    if grace is not None:
        held.grace_from, held.grace_until = grace.from_ms, grace.until_ms
        if tx.now_ms < grace.until_ms:
            return service.GRACE
    return service.unpaid(payment)


def is_counted(tx: Transaction, device_id: int, day: int) -> bool:
    """Whether the day stands among the monitored ones.

    A clock that was set back meets days that do, and so does a device that was registered again.
    """
    return bool(tx.fetch(_COUNTED, (device_id, day)))


def paid_by_day(tx: Transaction, treasury: Treasury, held: Held) -> bool:
    """Whether today was taken by itself, of a device that is charged in blocks by now.

    The plan was changed: what is paid is served first, so that nobody pays twice for it.
    """
    if (held.state, held.reason) != service.PAID or held.last_day != tx.today:
        return False
    if is_daily(treasury, held.company_id) or treasury.suspended(held.company_id):
        return False
    # A day that was counted under the period that ended in it is paid no further than that.
    return not tx.fetch(_UNDER_PERIOD, (held.id, tx.today))


class CountedDay(NamedTuple):
    """A row of `monitored_day` that was charged."""

    device_id: int
    day: int
    company_id: int
    payer_id: int
    transfer_id: str


class _Payers(NamedTuple):
    """For which company's devices somebody pays, and who was asked."""

    company_id: int
    payer_id: int
    path: tuple[int, ...]


@dataclass(slots=True)
class DayCharges:
    """Days of a batch: one transfer for each lot and company of devices, written at its end."""

    tx: Transaction
    treasury: Treasury
    counted: list[CountedDay] = field(default_factory=list)
    _days: dict[_Payers, list[tuple[int, int]]] = field(default_factory=dict)
    _draws: dict[int, list[Draw]] = field(default_factory=dict)  # of each payer, as they are spent
    _taken: dict[int, int] = field(default_factory=dict)
    _written: int = 0

    def take(self, held: Held) -> bool:
        """Takes today of a device that is heard, with what it owes; or notes that it owes today.

        Whether today is settled: one that was counted before is not charged again.
        """
        today = self.tx.today
        due = days_due(owed_of(held.owed_days), today)
        if held.reason == Reason.GRACE:
            held.owed_days = owed_text(due)
            return False
        if not is_counted(self.tx, held.id, today):
            self._charge(held, [day for day in due if not is_counted(self.tx, held.id, day)])
            held.owed_days = ""
            held.grace_from = held.grace_until = held.attempted_at = None
        return True

    def write(self) -> None:
        """Books what was taken so far, in the order in which payers were found.

        Before others spend from the same lots in this transaction, so that the ledger tells in
        which order lots were spent.
        """
        for payers, days in self._days.items():
            self._book(payers, days)
        for company_id, days_taken in sorted(self._taken.items()):
            self.treasury.store_taken(company_id, days_taken)
        self._days, self._draws, self._taken = {}, {}, {}

    def _book(self, payers: _Payers, days: Sequence[tuple[int, int]]) -> None:
        name = f"{CAUSE} {payers.company_id} {payers.payer_id} {self._written}"
        self._written += 1
        booking = Booking(
            self.tx,
            "gateway",
            CAUSE,
            payers.company_id,
            self.treasury.path(payers.company_id),
            operation_id=str(uuid.uuid5(uuid.UUID(self.tx.operation_id), name)),
            journal=self.treasury.journal,
        )
        left = list(days)
        for draw in self._next_draws(payers.payer_id, len(days)):
            id_ = booking.post(
                Kind.DAY,
                draw.account_id,
                CONSUMED,
                draw.days,
                free=draw.free,
                payer_id=payers.payer_id,
                payer_path=payers.path,
            )
            paid, left = left[: draw.days], left[draw.days :]
            self.counted += [
                CountedDay(device_id, day, payers.company_id, payers.payer_id, id_)
                for device_id, day in paid
            ]

    def _next_draws(self, payer_id: int, days: int) -> list[Draw]:
        """The payer's next draws of so many days, each lot once."""
        draws = self._draws[payer_id]
        found: list[Draw] = []
        while days:
            first = draws[0]
            part = min(first.days, days)
            days -= part
            draws[:1] = [replace(first, days=first.days - part)] if first.days > part else []
            if found and found[-1].account_id == first.account_id:
                found[-1] = replace(found[-1], days=found[-1].days + part)
            else:
                found.append(replace(first, days=part))
        return found

    def _charge(self, held: Held, days: Sequence[int]) -> None:
        payment = self.treasury.find_payer(held.company_id, len(days))
        assert not isinstance(payment, Code), "it was found payable in this transaction"
        self.treasury.take(payment, len(days))
        for company_id in payment.limits_used:
            self._taken[company_id] = self._taken.get(company_id, 0) + len(days)
        payers = _Payers(held.company_id, payment.payer_id, payment.path)
        self._days.setdefault(payers, []).extend((held.id, day) for day in days)
        self._draws.setdefault(payment.payer_id, []).extend(payment.draws)
        held.payer_id = payment.payer_id
