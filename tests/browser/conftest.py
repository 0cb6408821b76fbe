"""Databases for pages: SQLite, since no engine decides what a page looks like."""

from pathlib import Path

import pytest

from gateway.storage.address import Address
from gateway.storage.migrate import migrate


@pytest.fixture
def database(tmp_path: Path) -> Address:
    """A database that was migrated, and is empty."""
    path = tmp_path / "fleet.db"
    migrate(path)
    return path
