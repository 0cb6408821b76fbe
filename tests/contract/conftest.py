"""Fixtures of the contract tests: a fresh world each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.tunnel import Tunnel
from tests.contract.world import World, template


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; each world begins with a copy."""
    return template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def world(tmp_path: Path, fresh_database: Path) -> Iterator[World]:
    """One installation; at the end of each test the ledger must agree with itself."""
    made = World(tmp_path, fresh_database)
    try:
        yield made
        made.check()
    finally:
        made.close()


@pytest.fixture
def tunnel(world: World) -> Tunnel:
    """A device that is served and connected, and a relay."""
    return Tunnel(world)
