"""Books transfers: the one place where balances change."""

import uuid
from dataclasses import dataclass, field

from sqlalchemy import bindparam, insert, select, update

from gateway.domain.ledger import Draw, Kind, Sink, pool_name, prepaid_name, transfer_id
from gateway.storage.schema import account, transfer
from gateway.storage.transaction import Transaction

# Made by the first migration, so that no transaction has to look for them.
SINK_IDS: dict[Sink, int] = {Sink.ISSUER: 1, Sink.CONSUMED: 2, Sink.FORFEITED: 3, Sink.EXPIRED: 4}
_SINK_ACCOUNTS = frozenset(SINK_IDS.values())
ISSUER, CONSUMED = SINK_IDS[Sink.ISSUER], SINK_IDS[Sink.CONSUMED]
FORFEITED, EXPIRED = SINK_IDS[Sink.FORFEITED], SINK_IDS[Sink.EXPIRED]


class LedgerBroken(Exception):
    """A balance is not what the same transaction read: a bug; nothing is booked."""


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
    ) -> str:
        """Moves days between two accounts; returns the transfer's id."""
        assert days > 0
        assert source != target
        tx = self.tx
        if source not in _SINK_ACCOUNTS:
            taken = tx.run(_TAKE, {"account": source, "days": days})
            if taken != 1:
                raise LedgerBroken(f"account {source} does not hold {days} days")
        if target not in _SINK_ACCOUNTS:
            tx.run(_GIVE, {"account": target, "days": days})
        id_ = transfer_id(self.operation_id, self._ordinal)
        self._ordinal += 1
        tx.run(
            _TRANSFER,
            {
                "id": id_,
                "operation_id": self.operation_id,
                "kind": kind.value,
                "from_account": source,
                "to_account": target,
                "days": days,
                "free": free,
                "company_id": self.company_id,
                "company_path": "/".join(str(id_) for id_ in reversed(self.company_path)),
                "device_id": self.device_id,
                "serial": self.serial,
                "payer_company_id": payer_id,
                "payer_path": "/".join(str(id_) for id_ in payer_path),
                "actor": self.actor,
                "cause": self.cause,
                "note": self.note,
                "at": tx.now_ms,
            },
        )
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


_TAKE = (
    update(account)
    .where(account.c.id == bindparam("account"), account.c.balance >= bindparam("days"))
    .values(balance=account.c.balance - bindparam("days"))
)
_GIVE = (
    update(account)
    .where(account.c.id == bindparam("account"))
    .values(balance=account.c.balance + bindparam("days"))
)
_TRANSFER = insert(transfer)
_BY_NAME = select(account.c.id).where(account.c.name == bindparam("name"))


def pool_account(
    tx: Transaction, company_id: int, expires_day: int | None, *, free: bool, redeemed: bool = False
) -> int:
    """The pool of a company with this expiry; made when it is the first."""
    name = pool_name(company_id, expires_day, free=free, redeemed=redeemed)
    found = tx.scalar(_BY_NAME, {"name": name})
    if found is not None:
        return int(found)
    return tx.insert(
        insert(account),
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


def prepaid_account(tx: Transaction, device_id: int) -> int:
    """The account of a device's prepaid days; made when it is the first."""
    name = prepaid_name(device_id)
    found = tx.scalar(_BY_NAME, {"name": name})
    if found is not None:
        return int(found)
    return tx.insert(
        insert(account),
        {
            "name": name,
            "kind": "prepaid",
            "device_id": device_id,
            "free": False,
            "redeemed": False,
            "balance": 0,
        },
    )
