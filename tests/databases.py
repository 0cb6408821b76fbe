"""Fresh databases of both engines for tests: copies of a template that was migrated once."""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gateway.clock_guard import ClockGuard
from gateway.people.accounts import make_operator
from gateway.storage.address import Address
from gateway.storage.migrate import migrate
from gateway.storage.postgres import PostgresStore
from gateway.storage.sqlite import SqliteStore
from gateway.storage.store import Store
from tests.postgres import PostgresCluster

ENGINES = ("sqlite", "postgresql")
_numbers = itertools.count(1)


def store_of(address: Address, now_ms: Callable[[], int], guard: ClockGuard | None = None) -> Store:
    """A store whose transactions take place at the test's instant."""
    if isinstance(address, Path):
        return SqliteStore(address, now_ms, guard)
    return PostgresStore(address, lambda _: now_ms(), guard)


def with_operator(address: Address, now_ms: int) -> None:
    """Migrated, with one operator, whose id is 1."""
    migrate(address)
    store = store_of(address, lambda: now_ms)
    try:
        asyncio.run(store.write(lambda tx: make_operator(tx, "olga@example.org", "Olga", "-")))
    finally:
        store.close()


class Databases:
    """Makes databases of one engine, SQLite where there is no cluster; `drop` removes one."""

    def __init__(
        self, folder: Path, cluster: PostgresCluster | None, prepare: Callable[[Address], None]
    ) -> None:
        self._folder = folder
        self._cluster = cluster
        if cluster is None:
            self._template: Address = folder / "template.db"
        else:
            self._template_name = f"template_{os.getpid()}_{next(_numbers)}"
            cluster.create(self._template_name)
            self._template = cluster.url(self._template_name)
        prepare(self._template)

    @property
    def engine(self) -> str:
        return "sqlite" if self._cluster is None else "postgresql"

    def make(self) -> Address:
        """A copy of the template."""
        number = next(_numbers)
        if self._cluster is None:
            path = self._folder / f"{number}.db"
            shutil.copy(self._folder / "template.db", path)
            return path
        name = f"test_{os.getpid()}_{number}"
        self._cluster.create(name, template=self._template_name)
        return self._cluster.url(name)

    def drop(self, address: Address) -> None:
        """Nobody may use it any more."""
        if isinstance(address, Path):
            for path in address.parent.glob(f"{address.name}*"):
                path.unlink()
        elif self._cluster is not None:
            self._cluster.drop(address.rpartition("/")[2])
