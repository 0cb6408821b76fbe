"""Fixtures of the integration tests."""

from collections.abc import Iterator

import pytest

from gateway.storage.address import Address
from gateway.storage.migrate import migrate
from tests.databases import ENGINES, Databases


@pytest.fixture(scope="session", params=ENGINES)
def migrated_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    """Makes databases with a schema and nothing in it."""
    cluster = None
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgres_cluster")
    return Databases(tmp_path_factory.mktemp("migrated"), cluster, migrate)


@pytest.fixture
def database(migrated_databases: Databases) -> Iterator[Address]:
    """A database for one test, which runs once on each engine."""
    address = migrated_databases.make()
    yield address
    migrated_databases.drop(address)
