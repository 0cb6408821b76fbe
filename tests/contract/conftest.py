"""Fixtures of the contract tests: a fresh world each, on both engines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.transaction import Transaction
from tests.contract.backups import installed
from tests.contract.gateways import TwoGateways
from tests.contract.lived import S, live_through
from tests.contract.tunnel import Tunnel
from tests.contract.world import BEGIN_MS, World
from tests.databases import ENGINES, Databases, with_operator
from tests.postgres import PostgresCluster


@pytest.fixture(scope="session", params=ENGINES)
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    """Makes copies of a database that was migrated once."""
    cluster = None
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgres_cluster")
    return Databases(
        tmp_path_factory.mktemp("databases"),
        cluster,
        lambda address: with_operator(address, BEGIN_MS),
    )


@pytest.fixture
def world(databases: Databases) -> Iterator[World]:
    """One installation; at the end of each test the ledger must agree with itself."""
    address = databases.make()
    made = World(address)
    try:
        yield made
        made.check()
    finally:
        made.close()
        databases.drop(address)


@pytest.fixture(scope="session")
def postgres_databases(
    postgres_cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    """For what only several gateways can do."""
    return Databases(
        tmp_path_factory.mktemp("databases"),
        postgres_cluster,
        lambda address: with_operator(address, BEGIN_MS),
    )


@pytest.fixture
def two(postgres_databases: Databases) -> Iterator[TwoGateways]:
    """Two gateways at one database; at the end of each test the ledger must agree with itself."""
    address = postgres_databases.make()
    made = TwoGateways(address)
    try:
        yield made
        made.world.check()
        assert made.deadlocks() == 0
    finally:
        made.close()
        postgres_databases.drop(address)


@pytest.fixture
def tunnel(world: World) -> Tunnel:
    """A device that is served and connected, and a relay."""
    return Tunnel(world)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> str:
    """Where to restore: nothing for a file of SQLite, else the address of an empty database."""
    if request.param == "sqlite":
        return ""
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def data(world: World, tmp_path: Path) -> Path:
    """The directory of an installation that has lived."""
    live_through(world)
    world.join(S)
    return installed(world.address, tmp_path / "data")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a transaction sends."""
    sent: list[str] = []

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def count(tx: Transaction, statement: Any, *more: Any, **named: Any) -> Any:
            sent.append(str(statement))
            return method(tx, statement, *more, **named)

        return count

    for kind in (Transaction, *Transaction.__subclasses__()):
        for name in ("all", "one", "scalar", "run", "fetch"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, counted(vars(kind)[name]))
    return sent
