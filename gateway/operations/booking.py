"""Books transfers: the one place where balances change."""

import uuid
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.happenings import NOT_OF_A_BALANCE
from gateway.domain.ledger import (
    CLOCK_DECIDES,
    Draw,
    Kind,
    Sink,
    code_name,
    pool_name,
    prepaid_name,
    transfer_id,
)
from gateway.operations.clock_state import clock_refused, trust_of
from gateway.operations.happening import balance_changed
from gateway.storage.locks import LockOrderBroken
from gateway.storage.schema import account
from gateway.storage.transaction import OneRow, Transaction

# Made by the first migration, so that no transaction has to look for them.
SINK_IDS: dict[Sink, int] = {Sink.ISSUER: 1, Sink.CONSUMED: 2, Sink.FORFEITED: 3, Sink.EXPIRED: 4}
_SINK_ACCOUNTS = frozenset(SINK_IDS.values())
ISSUER, CONSUMED = SINK_IDS[Sink.ISSUER], SINK_IDS[Sink.CONSUMED]
FORFEITED, EXPIRED = SINK_IDS[Sink.FORFEITED], SINK_IDS[Sink.EXPIRED]


class LedgerBroken(Exception):
    """A balance is not what the same transaction read: a bug; nothing is booked."""


class Journal:
    """The transfers of a transaction that books for many devices, written together at its end.

    Nothing else of the transaction may read balances or transfers before that.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._transfers: list[tuple[object, ...]] = []
        self._changes: dict[int, int] = {}

    def add(self, transfer: tuple[object, ...], source: int, target: int, days: int) -> None:
        """Notes a transfer of days between two accounts."""
        self._transfers.append(transfer)
        for id_, change in ((source, -days), (target, days)):
            if id_ not in _SINK_ACCOUNTS:
                self._changes[id_] = self._changes.get(id_, 0) + change

    def write(self, device: OneRow | None = None) -> None:
        """Writes what was noted, and a device along with it. Raises `LedgerBroken`."""
        changes = [(id_, days) for id_, days in sorted(self._changes.items()) if days]
        if self._tx.book(changes, _TRANSFER, self._transfers, device) != len(changes):
            raise LedgerBroken("an account does not hold the days that are taken from it")
        self._transfers, self._changes = [], {}


@dataclass(slots=True)
class Booking:
    """One operation's transfers: whom they concern, who asked and why."""

    tx: Transaction
    actor: str
    cause: str
    company_id: int
    company_path: tuple[int, ...]  # from the company up, itself first
    device_id: int | None = None
    serial: str | None = None
    note: str = ""
    operation_id: str = ""
    journal: Journal | None = None  # without one each transfer is written at once
    _ordinal: int = field(default=0)

    def __post_init__(self) -> None:
        if not self.operation_id:
            self.operation_id = self.tx.operation_id
            if self.device_id is not None and self.cause != "operator":
                # One transaction may settle many devices; each is an operation of its own.
                self.operation_id = str(
                    uuid.uuid5(uuid.UUID(self.tx.operation_id), f"{self.cause} {self.device_id}")
                )

    def post(
        self,
        kind: Kind,
        source: int,
        target: int,
        days: int,
        *,
        free: bool,
        payer_id: int | None = None,
        payer_path: tuple[int, ...] = (),
        lot_id: int | None = None,
        reverses: str | None = None,
    ) -> str:
        """Moves days between two accounts; returns the transfer's id.

        `lot_id`: of days that are carried between devices, the lot that paid them; `reverses`: the
        transfer that is taken back.
        """
        assert days > 0
        assert source != target
        tx = self.tx
        if not tx.trust.sure and kind in CLOCK_DECIDES and (doubt := trust_of(tx).doubt):
            raise clock_refused(doubt)
        for end in (source, target):
            if end not in _SINK_ACCOUNTS and end not in tx.locked.accounts:
                raise LockOrderBroken(f"days are booked at account {end} without its lock")
        id_ = transfer_id(self.operation_id, self._ordinal)
        self._ordinal += 1
        row = (
            id_,
            self.operation_id,
            kind.value,
            source,
            target,
            days,
            free,
            self.company_id,
            "/".join(str(id_) for id_ in reversed(self.company_path)),
            self.device_id,
            self.serial,
            payer_id,
            "/".join(str(id_) for id_ in payer_path),
            self.actor,
            self.cause,
            self.note,
            tx.now_ms,
            lot_id,
            reverses,
        )
        tx.booked.append(id_)
        if kind not in NOT_OF_A_BALANCE:
            balance_changed(tx, (self.company_id, payer_id))
        journal = self.journal or Journal(tx)
        journal.add(row, source, target, days)
        if self.journal is None:
            journal.write()
        return id_

    def post_draws(
        self,
        kind: Kind,
        draws: tuple[Draw, ...],
        target: int,
        payer_id: int,
        payer_path: tuple[int, ...],
    ) -> None:
        """One transfer per lot that pays."""
        for draw in draws:
            self.post(
                kind,
                draw.account_id,
                target,
                draw.days,
                free=draw.free,
                payer_id=payer_id,
                payer_path=payer_path,
            )


_TRANSFER = (
    "id operation_id kind from_account to_account days free company_id company_path device_id"
    " serial payer_company_id payer_path actor cause note at lot_account reverses"
).split()
_BY_NAME = select(account.c.id).where(account.c.name == bindparam("name"))


def pool_account(
    tx: Transaction, company_id: int, expires_day: int | None, *, free: bool, redeemed: bool = False
) -> int:
    """The pool of a company with this expiry, not locked; made when it is the first."""
    name = pool_name(company_id, expires_day, free=free, redeemed=redeemed)
    found = tx.scalar(_BY_NAME, {"name": name})
    if found is not None:
        return int(found)
    return _made(
        tx,
        {
            "name": name,
            "kind": "pool",
            "company_id": company_id,
            "expires_day": expires_day,
            "free": free,
            "redeemed": redeemed,
            "balance": 0,
        },
    )


def code_account(
    tx: Transaction,
    code_id: int,
    company_id: int,
    expires_day: int | None,
    *,
    free: bool,
    redeemed: bool,
) -> int:
    """The account of a new credit code's days with this expiry."""
    name = code_name(code_id, expires_day, free=free, redeemed=redeemed)
    found = tx.scalar(_BY_NAME, {"name": name})
    if found is not None:
        return int(found)
    return _made(
        tx,
        {
            "name": name,
            "kind": "code",
            "company_id": company_id,
            "code_id": code_id,
            "expires_day": expires_day,
            "free": free,
            "redeemed": redeemed,
            "balance": 0,
        },
    )


def trial_account(tx: Transaction, name: str, company_id: int, expires_day: int) -> int:
    """A pool of its own for a device's trial days, which leave it in the same transaction."""
    return _made(
        tx,
        {
            "name": name,
            "kind": "pool",
            "company_id": company_id,
            "expires_day": expires_day,
            "free": True,
            "redeemed": False,
            "balance": 0,
        },
    )


def prepaid_account(tx: Transaction, device_id: int) -> int:
    """The account of a new device's prepaid days."""
    return _made(
        tx,
        {
            "name": prepaid_name(device_id),
            "kind": "prepaid",
            "device_id": device_id,
            "free": False,
            "redeemed": False,
            "balance": 0,
        },
    )


def _made(tx: Transaction, values: dict[str, object]) -> int:
    """A new account, which nobody else can change yet; or the one that another gateway just made.

    That one has to be locked as any other.
    """
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(account).on_conflict_do_nothing().returning(account.c.id)
    made = tx.scalar(statement, values)
    if made is None:
        return int(tx.scalar(_BY_NAME, {"name": values["name"]}))
    tx.locked.accounts.add(made)
    return int(made)
