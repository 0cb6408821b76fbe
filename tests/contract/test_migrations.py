"""Revisions of the schema: they lead to the tables that the program knows, with what was there."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from gateway.storage.migrate import configuration, known_revisions, migrate
from gateway.storage.schema import metadata
from gateway.storage.sqlite import sqlite_engine


def indexes(path: Path) -> dict[str, str]:
    """Every index of our own as the database has it; comparing leaves out their conditions."""
    engine = sqlite_engine(path, writing=False)
    with engine.begin() as connection:
        rows = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        ).fetchall()
    engine.dispose()
    return {row.name: " ".join(row.sql.split()) for row in rows}


def differences(connection: Connection) -> list[Any]:
    """From what the program knows; SQLite lists the parts of its index of texts as tables."""
    options = {"include_name": lambda name, kind, _: not f"{name}".startswith("device_text")}
    found: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )
    return found


def test_the_revisions_make_the_tables_that_the_program_knows(tmp_path: Path) -> None:
    path, other = tmp_path / "migrated.db", tmp_path / "made.db"
    migrate(path)
    engine = sqlite_engine(path, writing=True)
    with engine.begin() as connection:
        assert differences(connection) == []
    engine.dispose()
    other.touch()
    engine = sqlite_engine(other, writing=True)
    metadata.create_all(engine)
    engine.dispose()
    assert indexes(path) == indexes(other)


@pytest.mark.parametrize("start", sorted(known_revisions())[:-1])
def test_a_database_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, start: str) -> None:
    path = tmp_path / "old.db"
    path.touch()
    engine = sqlite_engine(path, writing=True)
    with engine.begin() as connection:
        command.upgrade(configuration(connection), start)
        connection.execute(text("INSERT INTO installation VALUES ('kept', 'yes')"))
    engine.dispose()
    migrate(path)
    migrate(path)
    engine = sqlite_engine(path, writing=True)
    with engine.begin() as connection:
        assert differences(connection) == []
        kept = connection.execute(text("SELECT value FROM installation")).scalar()
        assert kept == "yes"
    engine.dispose()
