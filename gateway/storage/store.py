"""The store: a transaction is a synchronous function, run by a thread of the store.

StoreError
├── StoreClosed       the gateway is stopping, or the writer ended
└── StoreBusy         it cannot be done now; try again in a moment
    └── StoreUnable   the disk is full or fails, or the database server is away; nothing was kept
        └── StoreUnsure   nobody knows whether it was kept: ask again with the same ids
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from gateway.storage.locks import Tree
from gateway.storage.transaction import Signal, Transaction

T = TypeVar("T")

READERS = 4
QUEUE_MAX = 2_000
STUCK_S_MAX = 30.0  # a transaction that takes longer is no transaction any more


class StoreError(Exception):
    """Anything the store raises on purpose."""


class StoreClosed(StoreError):
    """The store is closed or closing."""


class StoreBusy(StoreError):
    """Too many transactions wait already."""


class StoreUnable(StoreBusy):
    """The database does not work; the text says why."""


class StoreUnsure(StoreUnable):
    """The database went away in the middle of a commit, and does not come back to say."""


class Lane(IntEnum):
    """The order in which transactions are served."""

    PEOPLE = 0
    INGEST = 1
    JOBS = 2


@dataclass(slots=True)
class Work:
    """A transaction that waits for its turn."""

    function: Callable[[Transaction], Any]
    operation_id: str
    tree: Tree
    done: Future[Any]


def new_operation_id() -> str:
    """For an operation that nobody will ask for again."""
    return str(uuid.uuid4())


class Store(ABC):
    """What both engines promise."""

    commits: int  # of this process

    @abstractmethod
    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        lane: Lane = Lane.PEOPLE,
        operation_id: str | None = None,
        tree: Tree = Tree.SHARED,
    ) -> T:
        """Runs the function in a writing transaction; returns when it is committed.

        `operation_id` names the ledger operation: given by whoever may ask again, else random.
        The function may be run more than once, each time on what is committed then.
        Raises what the function raises (nothing is kept then), `StoreBusy`, `StoreUnable`,
        `StoreUnsure`, `StoreClosed`.
        """

    @abstractmethod
    async def read(self, function: Callable[[Transaction], T]) -> T:
        """Runs the function on one consistent view of the database. Raises `StoreUnable` too."""

    @abstractmethod
    def listen(self, signal: Signal, listener: Callable[[], None]) -> None:
        """Calls the listener, on a thread of the store, after commits that carry the signal.

        With PostgreSQL also after those of other gateways. A call may be lost, and may be one too
        many.
        """

    @abstractmethod
    def close(self) -> None:
        """Finishes what is queued, then closes."""

    @abstractmethod
    def waiting(self) -> int:
        """Transactions that wait for their turn."""

    @abstractmethod
    def trouble(self) -> str:
        """Why nothing can be stored at present; empty while all is well."""

    @abstractmethod
    def version(self) -> str:
        """The engine and its version, such as `sqlite 3.45.1`."""
