"""Where the database is: a file of SQLite, or the URL of a PostgreSQL database."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from gateway.clock_guard import ClockGuard
    from gateway.storage.store import Store

Address: TypeAlias = Path | str

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


def is_postgres(address: Address) -> bool:
    """Whether several gateways can share it."""
    return isinstance(address, str)


def shown(address: Address) -> str:
    """For logs and messages: without a password."""
    if isinstance(address, Path):
        return str(address)
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{name}@{host}" if name else host, query=""))


def open_store(
    address: Address,
    *,
    wall_ms: Callable[[], int],
    moved_ms: Callable[[], int],
    guard: "ClockGuard | None" = None,
) -> "Store":
    """The store there; `wall_ms` is this machine's clock, `moved_ms` by how much a test moved it.
    `guard` says whether clocks may decide about credits.

    The engine's driver is loaded here: whoever uses the one need not load the other.
    """
    if isinstance(address, Path):
        from gateway.storage.sqlite import SqliteStore

        return SqliteStore(address, wall_ms, guard)
    from gateway.storage.postgres import PostgresStore

    return PostgresStore(address, lambda host_ms: host_ms + moved_ms(), guard)
