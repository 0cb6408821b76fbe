"""What is asked of a database before a gateway starts on it."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.command.configuration import ConfigurationError
from gateway.join.ca import KeyFileError, KeyFiles, ca_digest, read_master_key
from gateway.storage.address import Address, shown
from gateway.storage.schema import installation
from gateway.storage.transaction import Transaction

if TYPE_CHECKING:
    import psycopg

VERSION_MIN = 15
LOOK_S_FIRST = 0.5
LOOK_S_MAX = 5.0
SAID_EVERY_S = 30.0
CONNECT_S_MAX = 5
KEYS_KEY = "keys_fingerprint"


class Found(NamedTuple):
    """A PostgreSQL database that answers."""

    version: int
    keys: str | None  # the fingerprint of the installation in it; None while it is empty


class Absent(Exception):
    """Nobody answers there, or nobody lets us in; it may be there in a moment."""


def fingerprint(keys: KeyFiles) -> str:
    """Says whether two machines hold the same keys, and nothing about them."""
    text = b"fleetgate keys\x00" + read_master_key(keys) + ca_digest(keys)
    return hashlib.sha256(text).hexdigest()


def other_keys(address: Address, keys: KeyFiles) -> KeyFileError:
    """The one line for a machine that does not hold the keys of the installation it joins."""
    return KeyFileError(
        f"{shown(address)} holds an installation with other keys than {keys.folder}: copy the"
        " folder keys/ from its first machine and start with  --keys DIR"
    )


def claim_database(tx: Transaction, address: Address, keys: KeyFiles) -> None:
    """Marks an empty database as of these keys. Raises `KeyFileError` when it is of others."""
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    mine = fingerprint(keys)
    tx.run(dialect.insert(installation).on_conflict_do_nothing(), {"key": KEYS_KEY, "value": mine})
    if tx.scalar(select(installation.c.value).where(installation.c.key == KEYS_KEY)) != mine:
        raise other_keys(address, keys)


async def until_there(address: Address, say: Callable[[str], None]) -> Found | None:
    """Returns once the database answers, however long that takes; None for a file of SQLite.

    A server may start after us, so its absence ends nothing; `say` hears of it from time to time.
    Raises `ConfigurationError` for a server that will not do.
    """
    if not isinstance(address, str):
        return None
    wait_s, said_s = LOOK_S_FIRST, -SAID_EVERY_S
    while True:
        try:
            found = await asyncio.to_thread(_look, address)
        except Absent as error:
            if time.monotonic() - said_s >= SAID_EVERY_S:
                say(f"Waiting for the database {shown(address)} (database.url): {error}")
                said_s = time.monotonic()
        else:
            if found.version < VERSION_MIN:
                raise ConfigurationError(
                    f"database.url: {shown(address)} is PostgreSQL {found.version}; version"
                    f" {VERSION_MIN} or later is needed"
                )
            return found
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LOOK_S_MAX)


def _look(url: str) -> Found:
    # Loaded here: whoever keeps to SQLite does not need it.
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=CONNECT_S_MAX, autocommit=True) as connection:
            return Found(connection.info.server_version // 10_000, _keys(connection))
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"database.url: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise Absent(" ".join(str(error).split())) from error


def _keys(connection: "psycopg.Connection[tuple[str, ...]]") -> str | None:
    present = connection.execute("SELECT to_regclass('installation')").fetchone()
    if present is None or present[0] is None:
        return None
    row = connection.execute(
        "SELECT value FROM installation WHERE key = %s", (KEYS_KEY,)
    ).fetchone()
    return None if row is None else row[0]
