"""Installations that have lived for a while, and their databases as anybody else finds them."""

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

from gateway.domain.instants import DAY_MS
from gateway.storage.address import Address
from tests.contract.world import World

S = "1100000001"


def live_through(world: World) -> None:
    """Two companies; a device in its second period, paid from above."""
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    world.grant(top, 5)
    world.register(S, low)
    world.heartbeat(S)
    world.live(30 * DAY_MS)
    world.heartbeat(S)
    world.seal()


def rows(address: Address, statement: str) -> list[tuple[Any, ...]]:
    if isinstance(address, Path):
        connection = sqlite3.connect(address)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    with psycopg.connect(address) as postgres:
        return postgres.execute(statement.encode()).fetchall()


def change(address: Address, statement: str) -> None:
    """As anybody may, whose links and triggers hold."""
    if isinstance(address, Path):
        connection = sqlite3.connect(address, isolation_level=None)
        try:
            connection.execute(statement)
        finally:
            connection.close()
        return
    with psycopg.connect(address) as postgres:
        postgres.execute(statement.encode())


def folder_of(address: Address, folder: Path) -> str:
    """A data directory whose database this is."""
    folder.mkdir()
    if isinstance(address, Path):
        (folder / "fleetgate.db").symlink_to(address)
    else:
        (folder / "gateway.toml").write_text(f'[database]\nurl = "{address}"\n')
    return str(folder)
