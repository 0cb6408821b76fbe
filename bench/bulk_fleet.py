"""Fleets made by bulk statements, as the operations would have left them: `verify` is green."""

import uuid
from dataclasses import dataclass

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, pool_name, prepaid_name, transfer_id
from gateway.ingest.batch import RECEIPT_EVERY
from gateway.operations.booking import ISSUER
from gateway.storage.latest_values import NOTHING
from gateway.storage.search_rows import add_names
from gateway.storage.transaction import Transaction

Values = dict[str, object]

COMPANY_ID = 1
NODE = "node-1"
_SPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True, slots=True)
class BulkFleet:
    """Active devices of one company, in an empty installation: ids count from 1 there."""

    devices: int
    registered_at_ms: int
    period_end_ms: int
    heard_at_ms: int
    credits_left: int = 0  # in the company's pool

    @property
    def period_start_ms(self) -> int:
        return self.period_end_ms - DAYS_PER_CREDIT * DAY_MS

    def add(self, tx: Transaction) -> None:
        """Adds all of it. The database numbers the rows itself, in the order they are given."""
        self._company(tx)
        self._devices(tx)
        self._ledger(tx)

    def _company(self, tx: Transaction) -> None:
        _add(
            tx,
            "company",
            [
                {
                    "name": "Bench",
                    "name_key": "bench",
                    "plan": "block",
                    "use_parent_credits": False,
                    "grace_days": 3,
                    "extend_unheard": False,
                    "reference": "",
                    "created_at": self.registered_at_ms,
                }
            ],
        )
        path: Values = {"ancestor_id": COMPANY_ID, "descendant_id": COMPANY_ID, "depth": 0}
        _add(tx, "company_path", [path])

    def _devices(self, tx: Transaction) -> None:
        ids = range(1, self.devices + 1)
        _add(tx, "device", [self._device(id_) for id_ in ids])
        _add(tx, "run", [self._run(id_) for id_ in ids])
        _add(tx, "device_live", [self._live(id_) for id_ in ids])
        _add(tx, "device_latest", [{"device_id": id_, "latest": NOTHING} for id_ in ids])
        add_names(tx, ids)

    def _device(self, id_: int) -> Values:
        return {
            "serial": serial(id_),
            "company_id": COMPANY_ID,
            "registered": True,
            "name": f"router {id_}",
            "tags": "[]",
            "notes": "",
            "reference": "",
            "registered_at": self.registered_at_ms,
            "first_heard_at": self.registered_at_ms,
            "start": "on_contact",
            "auto_extend": True,
            "state": "active",
            "reason": "paid",
            "period_start": self.period_start_ms,
            "period_end": self.period_end_ms,
            "period_seq": 1,
            "payer_id": COMPANY_ID,
        }

    def _run(self, id_: int) -> Values:
        return {"device_id": id_, "run": run_of(id_), "upto": 0, "state_seq": 0}

    def _live(self, id_: int) -> Values:
        return {
            "device_id": id_,
            "node": NODE,
            "last_heard_at": self.heard_at_ms,
            "last_day": self.heard_at_ms // DAY_MS,
            "interval_s": 60,
            "presence": "online",
            "late_at": 0,
            "offline_at": 0,
            "run_id": id_,
            "run": run_of(id_),
            "upto": reported(id_),
            "state_seq": reported(id_),
            "need_full": False,
            "last_at": self.heard_at_ms,
            "connection": 1,
            "nonce": "bench",
            "command_n": 0,
            "recent": NOTHING,
            "supersessions": 0,
            "supersessions_since": 0,
            "commanded_at": 0,
            "repeats": 0,
            "lost": 0,
            "dropped": 0,
            "ignored_fields": 0,
            "malformed": 0,
        }

    def _ledger(self, tx: Transaction) -> None:
        """A grant, and out of it a credit for each device."""
        days_left = self.credits_left * DAYS_PER_CREDIT
        name = pool_name(COMPANY_ID, None, free=False, redeemed=False)
        pool_row = {
            "name": name,
            "kind": "pool",
            "company_id": COMPANY_ID,
            "free": False,
            "redeemed": False,
            "balance": days_left,
        }
        _add(tx, "account", [pool_row])
        ((pool,),) = tx.fetch("SELECT id FROM account WHERE name = ?", (name,))
        ids = range(1, self.devices + 1)
        prepaid = [
            {
                "name": prepaid_name(id_),
                "kind": "prepaid",
                "device_id": id_,
                "free": False,
                "redeemed": False,
                "balance": DAYS_PER_CREDIT,
            }
            for id_ in ids
        ]
        _add(tx, "account", prepaid)
        granted = days_left + self.devices * DAYS_PER_CREDIT
        _add(tx, "transfer", [self._transfer(1, Kind.GRANT, ISSUER, pool, granted)])
        paid = [
            {
                **self._transfer(1 + id_, Kind.ACTIVATE, pool, pool + id_, DAYS_PER_CREDIT),
                "device_id": id_,
                "serial": serial(id_),
                "payer_company_id": COMPANY_ID,
                "payer_path": str(COMPANY_ID),
            }
            for id_ in ids
        ]
        _add(tx, "transfer", paid)

    def _transfer(self, seq: int, kind: Kind, source: int, target: int, days: int) -> Values:
        operation_id = str(uuid.uuid5(_SPACE, str(seq)))
        return {
            "id": transfer_id(operation_id, 0),
            "operation_id": operation_id,
            "kind": kind.value,
            "from_account": source,
            "to_account": target,
            "days": days,
            "free": False,
            "company_id": COMPANY_ID,
            "company_path": str(COMPANY_ID),
            "payer_path": "",
            "actor": "gateway",
            "cause": "bench",
            "note": "",
            "at": self.period_start_ms,
        }


def serial(id_: int) -> str:
    """Ten digits, as Teltonika's."""
    return f"{1_100_000_000 + id_}"


def run_of(id_: int) -> str:
    """The run in which a device has lived so far."""
    return f"{id_:011d}"


def reported(id_: int) -> int:
    """How many samples of it are stored: not equally many, so each batch has its receipts."""
    return RECEIPT_EVERY + id_ % RECEIPT_EVERY


def _add(tx: Transaction, table: str, rows: list[Values]) -> None:
    columns = list(rows[0])
    tx.add_rows(table, columns, [list(row.values()) for row in rows])
