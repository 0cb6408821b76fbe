"""Brings a database's schema to this version."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from gateway.storage.address import Address, shown

_ALONE = text("SELECT pg_advisory_xact_lock(hashtext('fleetgate schema'))")
_SCRIPTS = Path(__file__).parent / "migrations"


class SchemaTooNew(Exception):
    """The database was made by a later version of Fleetgate."""


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration without a file."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


@cache
def known_revisions() -> tuple[str, ...]:
    """The schemas that this version can bring up to date or has made, newest first."""
    scripts = ScriptDirectory.from_config(configuration())
    return tuple(revision.revision for revision in scripts.walk_revisions())


def migrate(address: Address) -> None:
    """Makes the database or brings it up to date, in one transaction.

    Several gateways may start at once: the others wait for the first. Raises `SchemaTooNew` when
    a later version of Fleetgate has changed it.
    """
    known = known_revisions()
    engine = _engine(address)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_ALONE)
            present = MigrationContext.configure(connection).get_current_revision()
            if present == known[0]:
                return
            if present is not None and present not in known:
                raise SchemaTooNew(
                    f"{shown(address)} has schema {present}, which this version does not know: "
                    "use the version of Fleetgate that wrote it, or a later one"
                )
            command.upgrade(configuration(connection), "head")
    finally:
        engine.dispose()


def _engine(address: Address) -> Engine:
    if isinstance(address, Path):
        from gateway.storage.sqlite import sqlite_engine

        address.parent.mkdir(parents=True, exist_ok=True)
        address.touch(mode=0o600, exist_ok=True)
        return sqlite_engine(address, writing=True)
    from gateway.storage.postgres_session import engine_of

    return engine_of(address).execution_options(isolation_level="READ COMMITTED")
