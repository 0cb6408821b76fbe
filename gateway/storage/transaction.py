"""What a use case is handed: one open transaction with its instant."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import Connection, Executable, Row, Select, bindparam, select

from gateway.domain.clock_trust import TRUSTED, Trust
from gateway.domain.instants import day_of
from gateway.storage.locks import Level, LockOrder, Tree
from gateway.storage.schema import relay

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
OneRow: TypeAlias = tuple[Sequence[str], Sequence[Any]]  # columns and values, its id the last
Plain: TypeAlias = tuple[Any, ...]

# The last: a transfer after all that are booked for devices whose locks are held by now.
ACCOUNT_COLUMNS = (
    "id, company_id, device_id, kind, expires_day, free, redeemed, balance,"
    " (SELECT max(seq) FROM transfer)"
)
_ONE_RELAY = select(relay.c.id).where(relay.c.id == bindparam("locked"))


class Signal(StrEnum):
    """What a committed transaction may have left for gateways' tasks; only a hint."""

    LOGINS = "logins"
    LOGIN_REMOVED = "login_removed"
    OUTBOX = "outbox"
    RECHECK = "recheck"
    RELAY = "relay"  # a lease has something new to say
    EVENTS = "events"  # there are more events for those who watch


class Transaction(ABC):
    """One transaction. A use case may be run twice, so it sends nothing and reads no clock."""

    __slots__ = (
        "at_end",
        "booked",
        "connection",
        "credited",
        "locked",
        "now_ms",
        "operation_id",
        "rechecks",
        "signals",
        "traceless",
        "trust",
        "writing",
    )

    FOR_UPDATE: ClassVar[str]

    def __init__(
        self,
        connection: Connection,
        now_ms: int,
        operation_id: str,
        *,
        tree: Tree = Tree.SHARED,
        writing: bool = True,
        trust: Trust = TRUSTED,
    ) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.operation_id = operation_id
        self.writing = writing
        self.trust = trust  # as the gateway knew it; `trust_of` looks closer
        self.locked = LockOrder(tree)
        self.signals: set[Signal] = set()  # given once this transaction is committed
        self.traceless = False
        self.booked: list[str] = []  # ids of the transfers of this transaction
        self.rechecks: set[int] = set()  # companies that it queued for another look
        self.at_end: dict[tuple[str, tuple[str, ...]], list[Sequence[Any]]] = {}
        self.credited: set[int] = set()  # companies whose balance it changed, as was told

    @property
    def today(self) -> int:
        """The UTC day of this transaction, by the database host's clock."""
        return day_of(self.now_ms)

    # For use cases: statements of SQLAlchemy, the same for both engines

    def all(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[AnyRow]:
        """Every row of the answer."""
        self.locked.check(statement)
        return self.connection.execute(statement, parameters).fetchall()

    def one(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> AnyRow | None:
        """The first row, if there is one."""
        self.locked.check(statement)
        return self.connection.execute(statement, parameters).first()

    def scalar(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Any:
        """The first value of the first row, or None."""
        self.locked.check(statement)
        return self.connection.execute(statement, parameters).scalar()

    def run(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Executes and returns how many rows it touched."""
        self.locked.check(statement)
        return int(self.connection.execute(statement, parameters).rowcount)

    def insert(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Executes an insert and returns the new row's id."""
        result = self.connection.execute(statement, parameters)
        key = result.inserted_primary_key
        assert key is not None
        return int(key[0])

    # Locks, in the order of `gateway.storage.locks`

    @abstractmethod
    def lock_devices(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        """Locks the devices whose ids are selected; what was read of them before is stale then."""

    @abstractmethod
    def fetch_locked(self, statement: str, values: Sequence[Any]) -> Sequence[Plain]:
        """The rows of a select from `device` joined with `device_live`, with the devices' locks.

        The first column is the device's id. Both tables are read as they are when the lock is held;
        other tables perhaps as they were before it was waited for.
        """

    @abstractmethod
    def claim_devices(
        self, which: Select[Any], parameters: Mapping[str, Any] | None = None
    ) -> Sequence[int]:
        """Locks those of the selected devices that nobody else holds now; their ids, ascending.

        For jobs, which come again for the others.
        """

    @abstractmethod
    def lock_person(self, person_id: int) -> None:
        """Locks a person, of whom things are counted."""

    @abstractmethod
    def lock_relays(self, which: Select[Any], parameters: Mapping[str, Any] | None = None) -> None:
        """Locks the relays whose ids are selected, and their sessions with them."""

    def lock_relay(self, relay_id: str) -> None:
        """Locks a relay, if there is such a one."""
        self.lock_relays(_ONE_RELAY, {"locked": relay_id})

    def lock_accounts(self, where: str, values: Sequence[Any]) -> Sequence[Plain]:
        """Locks all accounts that the transaction will change, at once; the rows as they are now.

        `where` is SQL of ours with `?`; a row has the columns `ACCOUNT_COLUMNS`.
        """
        self.locked.reach(Level.ACCOUNTS)
        chosen = f"WHERE {where} ORDER BY id{self.FOR_UPDATE}"
        statement = f"SELECT {ACCOUNT_COLUMNS} FROM account {chosen}"  # noqa: S608 - text of ours
        found = self.fetch(statement, values)
        self.locked.accounts.update([row[0] for row in found])
        return found

    @abstractmethod
    def claim(self, which: Select[Any]) -> Sequence[Any]:
        """Locks those of the selected rows that nobody else holds now; their one column.

        Without waiting, so it stands in no order; it is for jobs, which come again.
        """

    @abstractmethod
    def alone(self, name: str) -> bool:
        """Whether no other transaction does the work of this name now, on any gateway.

        Until the transaction ends others that ask are told no.
        """

    def leave_no_trace(self) -> None:
        """What this transaction deletes is to be gone from the disk, too, once it is committed.

        On SQLite what it overwrote leaves the log of changes; PostgreSQL's vacuum does its part.
        """
        self.traceless = True

    @abstractmethod
    def database_bytes(self) -> int:
        """What the database takes on disk."""

    # For the hot paths: SQL as text with `?`, as the driver takes it

    @abstractmethod
    def fetch(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Plain]:
        """The rows of a statement that answers with rows."""

    @abstractmethod
    def change(self, statement: str, values: Sequence[Any]) -> int:
        """Executes a statement without an answer; how many rows it touched."""

    @abstractmethod
    def change_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Executes a statement once for each row of values; how many rows all of them touched."""

    @abstractmethod
    def book(
        self,
        changes: Sequence[tuple[int, int]],
        columns: Sequence[str],
        transfers: Sequence[Sequence[Any]],
        device: "OneRow | None" = None,
    ) -> int:
        """Adds days to the balances of accounts, `(account, days)`, and adds transfers.

        Changes a device, too, if one is given, since that often goes along with them. How many
        accounts were changed: one that holds less than is taken from it is not.
        """

    @abstractmethod
    def fetch_devices(self, statement: str, serials: Sequence[str]) -> Sequence[Plain]:
        """Locks the present tenures of these serials, then reads them.

        The statement reads `device AS d` and `device_live AS l`; `{}` stands where it says which.
        """

    @abstractmethod
    def change_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Sets columns of many rows of a table; the last column is the key that finds each."""

    @abstractmethod
    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds many rows to a table in the fastest way (`COPY` on PostgreSQL)."""

    def add_at_end(self, table: str, columns: tuple[str, ...], row: Sequence[Any]) -> None:
        """Adds a row that nothing in this transaction reads, just before it is committed.

        So the records of what was done cost one exchange with the server, however many there are.
        """
        self.at_end.setdefault((table, columns), []).append(row)

    def write_at_end(self) -> None:
        """Writes those rows; for the store, and for who reads them in the same transaction."""
        for (table, columns), rows in self.at_end.items():
            self.add_rows(table, columns, rows)
        self.at_end.clear()
