"""In which order a transaction locks, as code: who breaks it is told at once, on both engines.

Every transaction locks in this order, so none can wait for another that waits for it:

1. the tree of companies: shared by all who write, alone by who changes companies;
2. devices by id: a device's lock is its row of `device_live`, which each device has exactly once;
3. one person;
4. relays by id: a relay's lock is its row, and that of its sessions too;
5. accounts by id, all of them at once;
6. the version of the MQTT logins, which all have in common: whoever sees one has seen all before.

SQLite has one writer and needs none of these locks; the order is checked there all the same.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any

from sqlalchemy import Delete, Executable, Table, Update


class Tree(Enum):
    """How a transaction holds the tree of companies, from its begin to its end."""

    SHARED = "shared"  # nobody moves, stops or changes companies meanwhile
    ALONE = "alone"  # nobody else writes anything that looks at companies
    UNTOUCHED = "untouched"  # for work that looks at no company


class Level(IntEnum):
    """How far a transaction has come; it never goes back."""

    BEGUN = 0
    DEVICES = 1
    PERSON = 2
    RELAYS = 3
    ACCOUNTS = 4
    LOGINS = 5


class LockOrderBroken(Exception):
    """A transaction locks or changes rows out of order: a bug, which could stop others for good."""


class Raced(Exception):
    """Another transaction was quicker, so what this one read is over: the store runs it again."""


# What must be held before existing rows of a table are changed. New rows are nobody else's yet.
_LEVELS: Mapping[str, Level] = {
    "device": Level.DEVICES,
    "device_live": Level.DEVICES,
    "device_latest": Level.DEVICES,
    "device_search": Level.DEVICES,
    "enrolment": Level.DEVICES,
    "relay": Level.RELAYS,
    "session": Level.RELAYS,
    "account": Level.ACCOUNTS,
}
_OF_THE_TREE = frozenset({"company", "company_path"})


class LockOrder:
    """What one transaction has locked so far."""

    __slots__ = ("accounts", "devices", "level", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.level = Level.BEGUN
        self.devices: set[int] = set()  # on PostgreSQL
        self.accounts: set[int] = set()

    def reach(self, level: Level) -> None:
        """To be called before rows of this level are locked. Raises `LockOrderBroken`."""
        if level < self.level or level is Level.ACCOUNTS is self.level:
            raise LockOrderBroken(f"{level.name} locked after {self.level.name}")
        self.level = level

    def check(self, statement: Executable) -> None:
        """Whether a statement may run now. Raises `LockOrderBroken`."""
        if not isinstance(statement, (Update, Delete)):
            return
        table: Any = statement.table
        name = table.name if isinstance(table, Table) else ""
        if name in _OF_THE_TREE:
            if self.tree is not Tree.ALONE:
                raise LockOrderBroken(f"{name} is changed without the tree alone")
        elif self.level < _LEVELS.get(name, Level.BEGUN):
            raise LockOrderBroken(f"{name} is changed without its lock")
