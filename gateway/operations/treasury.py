"""Loads who could pay for a company's devices, once per transaction, and books their payments."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.instants import month_of
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, Lot
from gateway.domain.payers import Payment, Purse, find_payer
from gateway.domain.refusals import Code
from gateway.operations.booking import Booking
from gateway.storage.schema import account, company, company_path, taken_from_above
from gateway.storage.transaction import Transaction


class Link(NamedTuple):
    """One company on the way from a company up to its root."""

    company_id: int
    use_parent_credits: bool
    parent_limit: int | None
    suspended: bool
    suspended_reason: str | None
    grace_days: int
    extend_unheard: bool


_CHAIN = (
    select(
        company.c.id,
        company.c.use_parent_credits,
        company.c.parent_limit,
        company.c.suspended_at.is_not(None),
        company.c.suspended_reason,
        company.c.grace_days,
        company.c.extend_unheard,
    )
    .join(company_path, company_path.c.ancestor_id == company.c.id)
    .where(company_path.c.descendant_id == bindparam("company"))
    .order_by(company_path.c.depth)
)
_LOTS = select(
    account.c.id, account.c.expires_day, account.c.free, account.c.redeemed, account.c.balance
).where(
    account.c.company_id == bindparam("company"), account.c.kind == "pool", account.c.balance > 0
)
_TAKEN = select(taken_from_above.c.days).where(
    taken_from_above.c.company_id == bindparam("company"),
    taken_from_above.c.month == bindparam("month"),
)


@dataclass(slots=True)
class Treasury:
    """What one transaction knows of companies and pools; kept true as it spends."""

    tx: Transaction
    _chains: dict[int, tuple[Link, ...]]
    _lots: dict[int, list[Lot]]
    _taken: dict[int, int]

    @classmethod
    def of(cls, tx: Transaction) -> "Treasury":
        return cls(tx, {}, {}, {})

    def chain(self, company_id: int) -> tuple[Link, ...]:
        """The company and all above it, itself first."""
        chain = self._chains.get(company_id)
        if chain is None:
            chain = tuple(Link(*row) for row in self.tx.all(_CHAIN, {"company": company_id}))
            self._chains[company_id] = chain
        return chain

    def path(self, company_id: int) -> tuple[int, ...]:
        """The ids of `chain`."""
        return tuple(link.company_id for link in self.chain(company_id))

    def suspended(self, company_id: int) -> bool:
        """Whether the company or one above it is suspended."""
        return any(link.suspended for link in self.chain(company_id))

    def lots(self, company_id: int) -> list[Lot]:
        """The company's own lots that hold days."""
        lots = self._lots.get(company_id)
        if lots is None:
            lots = [Lot(*row) for row in self.tx.all(_LOTS, {"company": company_id})]
            self._lots[company_id] = lots
        return lots

    def taken_days(self, company_id: int) -> int:
        """Days that the company and all below took from above this UTC month."""
        taken = self._taken.get(company_id)
        if taken is None:
            month = month_of(self.tx.now_ms)
            taken = int(self.tx.scalar(_TAKEN, {"company": company_id, "month": month}) or 0)
            self._taken[company_id] = taken
        return taken

    def find_payer(self, company_id: int, days: int) -> Payment | Code:
        """Who would pay for a device of the company."""
        purses: list[Purse] = []
        for link in self.chain(company_id):
            limit = link.parent_limit
            purses.append(
                Purse(
                    link.company_id,
                    self.lots(link.company_id),
                    link.use_parent_credits,
                    self.suspended(link.company_id),
                    None
                    if limit is None
                    else limit * DAYS_PER_CREDIT - self.taken_days(link.company_id),
                )
            )
            if not link.use_parent_credits:
                break  # nobody further up is asked, so nothing of theirs is read
        return find_payer(purses, days, self.tx.today)

    def pay(self, booking: Booking, kind: Kind, target: int, days: int) -> Payment | Code:
        """Charges the device of the booking, or says why nobody pays."""
        payment = self.find_payer(booking.company_id, days)
        if isinstance(payment, Code):
            return payment
        booking.post_draws(kind, payment.draws, target, payment.payer_id, payment.path)
        spent = {draw.account_id: draw.days for draw in payment.draws}
        self._lots[payment.payer_id] = [
            Lot(
                lot.account_id,
                lot.expires_day,
                lot.free,
                lot.redeemed,
                lot.days - spent.get(lot.account_id, 0),
            )
            for lot in self.lots(payment.payer_id)
        ]
        for company_id in payment.limits_used:
            self._count_taken(company_id, days)
        return payment

    def _count_taken(self, company_id: int, days: int) -> None:
        self._taken[company_id] = self.taken_days(company_id) + days
        dialect = sqlite if self.tx.connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(taken_from_above)
        self.tx.run(
            statement.on_conflict_do_update(
                index_elements=["company_id", "month"],
                set_={"days": taken_from_above.c.days + statement.excluded.days},
            ),
            {"company_id": company_id, "month": month_of(self.tx.now_ms), "days": days},
        )
