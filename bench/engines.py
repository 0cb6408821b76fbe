"""A fresh database of each engine, as durable as in service, for measurements that need both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from gateway.storage.address import Address
from gateway.storage.migrate import migrate
from tests.databases import ENGINES
from tests.postgres import PostgresCluster
from tests.postgres_watcher import children_of

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database, and the cluster it lives in if it has one."""

    engine: str
    address: Address
    cluster: PostgresCluster | None

    @property
    def name(self) -> str:
        return NAMES[self.engine]

    def settle(self) -> None:
        """After rows were added in bulk: what the server does by itself within minutes."""
        if isinstance(self.address, str):
            with psycopg.connect(self.address, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")

    def server_cpu_s(self) -> float:
        """CPU that the server's processes have spent so far; SQLite has no server."""
        if self.cluster is None:
            return 0.0
        pids = [self.cluster.pid, *children_of(self.cluster.pid)]
        return sum(_cpu_s(pid) for pid in pids)


def _cpu_s(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0  # it ended meanwhile
    # Of its children that ended, too: a session's work counts when the session is over.
    own = stat.rpartition(")")[2].split()[11:15]
    return sum(int(ticks) for ticks in own) / _TICKS_PER_S


@contextmanager
def new_database(engine: str, folder: Path) -> Iterator[Database]:
    """One that is gone afterwards; PostgreSQL with fsync on, in a cluster of its own."""
    folder.mkdir(exist_ok=True)
    if engine == "sqlite":
        path = folder / f"{engine}.db"
        migrate(path)
        yield Database(engine, path, None)
        return
    cluster = PostgresCluster(durable=True)
    try:
        cluster.start()
        cluster.create("bench")
        url = cluster.url("bench")
        migrate(url)
        yield Database(engine, url, cluster)
    finally:
        cluster.close()


__all__ = ["ENGINES", "NAMES", "Database", "new_database"]
