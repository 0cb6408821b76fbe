"""Loads who could pay for a company's devices, once per transaction, and books their payments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.instants import month_of
from gateway.domain.ledger import DAYS_PER_CREDIT, Draw, Kind, Lot, prepaid_name, spend, spendable
from gateway.domain.payers import Payment, Purse, find_payer
from gateway.domain.refusals import Code
from gateway.operations.announcing import tell_limit
from gateway.operations.booking import Booking, Journal, prepaid_account
from gateway.operations.clock_state import trust_of
from gateway.operations.prepaid import Paid, paid, paid_of_many
from gateway.storage.schema import account, taken_from_above
from gateway.storage.transaction import OneRow, Plain, Transaction


class Link(NamedTuple):
    """One company on the way from a company up to its root."""

    company_id: int
    use_parent_credits: bool
    parent_limit: int | None
    suspended: bool
    suspended_reason: str | None
    grace_days: int
    extend_unheard: bool
    plan: str
    refunds: bool  # days left at an unregistration go back instead of being forfeited
    closed: bool


_LINK = """
c.id, c.use_parent_credits, c.parent_limit, c.suspended_at IS NOT NULL, c.suspended_reason,
       c.grace_days, c.extend_unheard, c.plan, c.refunds, c.closed_at IS NOT NULL
FROM company AS c JOIN company_path AS p ON p.ancestor_id = c.id
""".strip()
_CHAIN = f"SELECT {_LINK} WHERE p.descendant_id = ? ORDER BY p.depth"
_CHAINS = f"SELECT p.descendant_id, {_LINK} WHERE p.descendant_id IN ({{marks}}) ORDER BY p.depth"
_LOT = account.c.id, account.c.expires_day, account.c.free, account.c.redeemed, account.c.balance
_HELD = account.c.kind == "pool", account.c.balance > 0
_LOTS = select(*_LOT).where(account.c.company_id == bindparam("company"), *_HELD)
_LOTS_OF_MANY = select(account.c.company_id, *_LOT).where(
    account.c.company_id.in_(bindparam("companies", expanding=True)), *_HELD
)
_LAST_SEQ = "SELECT max(seq) FROM transfer"
_TAKEN = select(taken_from_above.c.days).where(
    taken_from_above.c.company_id == bindparam("company"),
    taken_from_above.c.month == bindparam("month"),
)


def _link(row: Plain) -> Link:
    # SQLite has no truth values.
    id_, flag, limit, suspended, reason, grace_days, unheard, plan, refunds, closed = row
    return Link(
        id_,
        bool(flag),
        limit,
        bool(suspended),
        reason,
        grace_days,
        bool(unheard),
        plan,
        bool(refunds),
        bool(closed),
    )


class Payable(Protocol):
    """A device that may be charged."""

    id: int
    company_id: int
    period_end: int | None


@dataclass(slots=True)
class Treasury:
    """What one transaction knows of companies and pools; kept true as it spends."""

    tx: Transaction
    _chains: dict[int, tuple[Link, ...]]
    _lots: dict[int, list[Lot]]
    _taken: dict[int, int]
    _prepaid: dict[int, int]
    _prepared: bool = False
    journal: Journal | None = None
    _paid: dict[int, list[Paid]] = field(default_factory=dict)
    _last_seq: int | None = None

    @classmethod
    def of(cls, tx: Transaction) -> "Treasury":
        """For one device, or a few: every change is written at once."""
        return cls(tx, {}, {}, {}, {})

    @classmethod
    def of_many(cls, tx: Transaction) -> "Treasury":
        """For many devices: what is paid is read for all, and written by `write`."""
        return cls(tx, {}, {}, {}, {}, journal=Journal(tx))

    def gather(self) -> None:
        """From now on bookings are noted, and written by `write`: nobody looks at them before."""
        if self.journal is None:
            self.journal = Journal(self.tx)

    def write(self, device: OneRow | None = None) -> None:
        """Writes what was noted, and a device along with it."""
        if self.journal is not None:
            self.journal.write(device)

    def prepare(
        self,
        companies: Iterable[int],
        devices: Iterable[int] = (),
        accounts: Iterable[int] = (),
        *,
        pools: Iterable[int] = (),
    ) -> None:
        """Locks all accounts that this transaction will change, at once, and reads them.

        Those of whoever could pay for the companies' devices, the devices' own, these, and the
        lots of the companies `pools`. To be called once, for all; single operations do it by
        themselves at the first need.
        """
        if self._prepared:
            return  # what is missing is told when days are booked there
        self._prepared = True
        payers = {link.company_id for id_ in companies for link in self._may_pay(id_)}
        payers.update(pools)
        holders = sorted(payers)
        names = [prepaid_name(id_) for id_ in sorted(devices)]
        ids = sorted(accounts)
        parts = [
            f"{condition} IN ({','.join('?' * len(values))})"
            for condition, values in (
                ("kind = 'pool' AND balance > 0 AND company_id", holders),
                ("name", names),
                ("id", ids),
            )
            if values
        ]
        if not parts:
            return
        for company_id in payers:
            self._lots[company_id] = []
        found = self.tx.lock_accounts(" OR ".join(parts), [*holders, *names, *ids])
        for id_, company_id, device_id, kind, expires_day, free, redeemed, days, seq in found:
            self._last_seq = seq or 0
            if kind == "prepaid":
                self._prepaid[device_id] = id_
            elif kind == "pool" and company_id in payers:
                lot = Lot(id_, expires_day, bool(free), bool(redeemed), days)
                self._lots[company_id].append(lot)

    def asked(self, company_id: int) -> tuple[int, ...]:
        """The companies that are asked to pay for a device of this one, itself first."""
        return tuple(link.company_id for link in self._may_pay(company_id))

    def _may_pay(self, company_id: int) -> Iterator[Link]:
        """The companies that are asked to pay for a device of this one."""
        for link in self.chain(company_id):
            yield link
            if not link.use_parent_credits:
                return  # nobody further up is asked, so nothing of theirs is read

    def prepare_many(self, devices: Sequence[Payable]) -> None:
        """The same for all devices that may be charged; and what was paid for their periods."""
        self.prepare({one.company_id for one in devices}, [one.id for one in devices])
        running = [one.id for one in devices if one.period_end is not None]
        if running:
            accounts = [self._prepaid[id_] for id_ in running]
            self._paid = paid_of_many(self.tx, running, accounts)

    def paid(self, device_id: int, period_seq: int) -> list[Paid]:
        """What was paid for the device's running period, in the order of payment."""
        found = self._paid.get(device_id)
        return paid(self.tx, device_id, period_seq) if found is None else found

    def last_seq(self) -> int:
        """A transfer after all that were booked for the devices before this transaction."""
        if self._last_seq is None:
            ((last,),) = self.tx.fetch(_LAST_SEQ)
            self._last_seq = last or 0
        return self._last_seq

    def prepaid(self, device_id: int) -> int:
        """The account of a device's prepaid days, locked."""
        return self._prepaid[device_id]

    def open_prepaid(self, device_id: int) -> None:
        """Makes the account of a new device."""
        self._prepaid[device_id] = prepaid_account(self.tx, device_id)

    def chain(self, company_id: int) -> tuple[Link, ...]:
        """The company and all above it, itself first."""
        chain = self._chains.get(company_id)
        if chain is None:
            chain = tuple(map(_link, self.tx.fetch(_CHAIN, (company_id,))))
            self._chains[company_id] = chain
        return chain

    def read_chains(self, company_ids: Iterable[int]) -> None:
        """Reads the chains of companies, and so of all above them, at once, for who only looks."""
        missing = sorted(set(company_ids) - self._chains.keys())
        if not missing:
            return
        chains: dict[int, list[Link]] = {}
        marks = ",".join("?" * len(missing))
        for of, *row in self.tx.fetch(_CHAINS.format(marks=marks), missing):
            chains.setdefault(of, []).append(_link(tuple(row)))
        for chain in map(tuple, chains.values()):
            # Those of the companies above end as this one does.
            for place, link in enumerate(chain):
                self._chains.setdefault(link.company_id, chain[place:])

    def read_many(self, company_ids: Sequence[int]) -> None:
        """Reads the chains of companies and the lots of all in them at once, for who only looks."""
        if not company_ids:
            return
        self.read_chains(company_ids)
        holders = {link.company_id for number in company_ids for link in self.chain(number)}
        missing = sorted(holders - self._lots.keys())
        self._lots |= {number: [] for number in missing}
        held = self.tx.all(_LOTS_OF_MANY, {"companies": missing}) if missing else ()
        for of, *lot in held:
            self._lots[of].append(Lot(*lot))

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

    def draw(self, company_id: int, days: int) -> tuple[Draw, ...] | None:
        """Takes days out of the company's own lots, as far as this transaction knows of them.

        None, and nothing is taken, when they do not hold as many. The caller books the draws.
        """
        draws = spend(self.lots(company_id), days, self.tx.today)
        if draws is not None:
            self._spent(company_id, draws)
        return draws

    def spendable(self, company_id: int) -> int:
        """Days that the company's own lots hold today."""
        return spendable(self.lots(company_id), self.tx.today)

    def _spent(self, company_id: int, draws: Sequence[Draw]) -> None:
        spent = {draw.account_id: draw.days for draw in draws}
        self._lots[company_id] = [
            replace(lot, days=lot.days - spent.get(lot.account_id, 0))
            for lot in self.lots(company_id)
        ]

    def find_payer(self, company_id: int, days: int) -> Payment | Code:
        """Who would pay for a device of the company."""
        if trust_of(self.tx).doubt:
            return Code.CLOCK_IN_DOUBT
        purses: list[Purse] = []
        for link in self._may_pay(company_id):
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
        return find_payer(purses, days, self.tx.today)

    def pay(self, booking: Booking, kind: Kind, days: int) -> Payment | Code:
        """Charges the device of the booking, or says why nobody pays."""
        assert booking.device_id is not None
        self.prepare((booking.company_id,), (booking.device_id,))
        payment = self.find_payer(booking.company_id, days)
        if isinstance(payment, Code):
            return payment
        target = self.prepaid(booking.device_id)
        booking.post_draws(kind, payment.draws, target, payment.payer_id, payment.path)
        self.take(payment, days)
        for company_id in payment.limits_used:
            self.store_taken(company_id, days)
        return payment

    def take(self, payment: Payment, days: int) -> None:
        """From now on the lots and limits of this transaction are what is left after a payment."""
        self._spent(payment.payer_id, payment.draws)
        for place, company_id in enumerate(payment.limits_used, 1):
            before = self.taken_days(company_id)
            after = self._taken[company_id] = before + days
            limit = self.chain(company_id)[0].parent_limit
            if limit is not None:
                tell_limit(self.tx, company_id, limit, (before, after), payment.path[place:])

    def store_taken(self, company_id: int, days: int) -> None:
        """Adds to what is stored of this month's days that the company took from above."""
        dialect = sqlite if self.tx.connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(taken_from_above)
        self.tx.run(
            statement.on_conflict_do_update(
                index_elements=["company_id", "month"],
                set_={"days": taken_from_above.c.days + statement.excluded.days},
            ),
            {"company_id": company_id, "month": month_of(self.tx.now_ms), "days": days},
        )
