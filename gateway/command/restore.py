"""`fleetgate restore`: makes an installation of a backup, in an empty place."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from gateway.atomic_file import sync_directory
from gateway.clock import Clock, test_clock_file
from gateway.command.archive import Archive, ArchiveError, opened
from gateway.command.backup import FORMAT, RAW_HISTORY
from gateway.command.belongings import FOLDER, KEYS, point_at, put_back
from gateway.command.checks import Verification
from gateway.command.configuration import FILE_NAME, ConfigurationError
from gateway.command.database import DATABASE_NAME
from gateway.command.ledger_digest import LedgerDigest, ledger_digest
from gateway.jobs.sealing import seal_all
from gateway.join.ca import KeyFiles
from gateway.join.ticket_keys import prepare_ticket_keys
from gateway.operations.restored import void
from gateway.storage import partitions
from gateway.storage.address import Address, shown
from gateway.storage.migrate import known_revisions
from gateway.storage.transaction import Transaction
from gateway.storage.whole_tables import (
    NotEmpty,
    Whole,
    add_table,
    empty,
    filling,
    number_on,
    upgrade_to_newest,
)

UNFINISHED = "restore-unfinished"
PARTITIONED_DAYS_MAX = 400

Tell = Callable[[str], None]


class RestoreError(Exception):
    """Nothing was restored; the text says why and what to do."""


class Restored(NamedTuple):
    """What was made, and what is void in it."""

    rows: int
    ledger: LedgerDigest
    void: dict[str, int]
    wrong: tuple[str, ...]  # checks that failed when the backup was made, and fail still


def restore(source: Path, data: Path, url: str, *, tell: Tell) -> Restored:
    """Fills an empty directory and a new database. Raises `RestoreError`."""
    try:
        with opened(source) as archive:
            _refuse_unknown(archive)
            _refuse_not_empty(data)
            for name in archive.check():
                tell(f"checking {name}")
            return _restore(archive, data, url, tell)
    except (
        ArchiveError,
        ConfigurationError,
        NotEmpty,
        OSError,
        DBAPIError,
        msgspec.DecodeError,
    ) as error:
        raise RestoreError(str(getattr(error, "orig", None) or error).strip()) from error


def _refuse_unknown(archive: Archive) -> None:
    manifest = archive.manifest
    if manifest.get("format") != FORMAT or manifest.get("schema") not in known_revisions():
        raise RestoreError(
            f"the backup is of Fleetgate {manifest.get('fleetgate')}, schema "
            f"{manifest.get('schema')}, which this version does not know: restore it with that "
            "version or a later one"
        )


def _refuse_not_empty(data: Path) -> None:
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise RestoreError(
            f"{data} is not empty: name a new directory (what an interrupted restore left can be"
            " removed)"
        )


def _restore(archive: Archive, data: Path, url: str, tell: Tell) -> Restored:
    # Nothing has its own name before everything is there and right.
    beside = data / UNFINISHED
    beside.mkdir(mode=0o700, parents=True)
    try:
        data.chmod(0o700)
        address: Address = url or beside / DATABASE_NAME
        for place in archive.names(FOLDER):
            if not put_back(beside, place, archive.content(place)):
                raise RestoreError(f"{place} is no place of a file in a backup")
        (beside / KEYS).mkdir(mode=0o700, exist_ok=True)
        prepare_ticket_keys(KeyFiles(beside / KEYS).tickets, datetime.now(UTC))
        point_at(beside, address)
        restored = _fill(archive, address, tell)
    except BaseException:
        shutil.rmtree(beside)
        raise
    # What says that this is an installation comes last.
    for path in sorted(beside.iterdir(), key=lambda path: path.name == FILE_NAME):
        os.rename(path, data / path.name)
    beside.rmdir()
    sync_directory(data)
    return restored


def _fill(archive: Archive, address: Address, tell: Tell) -> Restored:
    manifest, clock = archive.manifest, Clock(test_clock_file())
    with filling(
        address, manifest["schema"], wall_ms=clock.wall_ms(), moved_ms=clock.offset_ms()
    ) as tx:
        tables = [_table(name, facts) for name, facts in manifest["tables"].items()]
        empty(tx, [table.name for table in tables])
        _make_partitions(tx, manifest["tables"].get(RAW_HISTORY, {}))
        rows = sum(_load(tx, archive, table, tell) for table in tables)
        number_on(tx)
        upgrade_to_newest(tx)
        ended = void(tx, manifest["made_at"])
        tx.write_at_end()
        seal_all(tx)
        tell("checking the ledger")
        # Kept only if it is what was backed up.
        connection = tx.connection.execution_options(stream_results=True)
        wrong = [check.name for check in Verification(connection).run() if check.findings]
        ledger = ledger_digest(connection)
        if set(wrong) - set(manifest["wrong"]):
            raise RestoreError(f"the ledger disagrees with itself once restored: {wrong}")
        if ledger != LedgerDigest(manifest["transfers"], manifest["ledger_digest"]):
            raise RestoreError(f"the ledger's digest is {ledger.digest}, not the backup's")
    return Restored(rows, ledger, ended, tuple(wrong))


def _table(name: str, facts: dict[str, Any]) -> Whole:
    table = Whole(name, tuple((column, kind) for column, kind in facts["columns"]))
    if not all(word.isidentifier() for word in (name, *(column for column, _ in table.columns))):
        raise RestoreError(f"{name!r} is no table of Fleetgate")
    return table


def _make_partitions(tx: Transaction, history: dict[str, Any]) -> None:
    """One for each day that may have samples; those of the far past and future share one."""
    if partitions.partitioned(tx):
        known = range(tx.today - PARTITIONED_DAYS_MAX, tx.today + partitions.AHEAD_DAYS + 1)
        there = partitions.present(tx)
        for day in history.get("days", ()):
            if day in known and day not in there:
                partitions.make(tx, day)


def _load(tx: Transaction, archive: Archive, table: Whole, tell: Tell) -> int:
    decoder, rows = msgspec.json.Decoder(list[Any]), 0
    for lines in archive.lines(f"tables/{table.name}.jsonl.gz"):
        part = decoder.decode_lines(lines)
        add_table(tx, table, part)
        rows += len(part)
        tell(f"{table.name}: {rows:,} rows")
    expected = archive.manifest["tables"][table.name]["rows"]
    if rows != expected:
        raise RestoreError(f"{table.name} has {rows} rows, not {expected} as the manifest says")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand: 0 when all is restored and verified, 1 when nothing was."""
    parser = argparse.ArgumentParser(prog="fleetgate restore", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="FILE")
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR")
    parser.add_argument("--database", default="", metavar="URL")
    options = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    began_s = time.monotonic()
    try:
        with console.status("restore") as status:
            done = restore(
                options.source, options.data.absolute(), options.database, tell=status.update
            )
    except RestoreError as error:
        console.print(f"fleetgate restore: {error}", markup=False)
        return 1
    where = shown(options.database or options.data / DATABASE_NAME)
    print(
        f"{where}: {done.rows:,} rows in {time.monotonic() - began_s:.1f} s; the ledger has "
        f"{done.ledger.transfers:,} transfers with the digest {done.ledger.digest}, as backed up"
    )
    ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done.void.items())
    print(
        f"Void from now on: {ended}, and every ticket."
        " Passwords, API tokens and recovery codes stay."
    )
    for name in done.wrong:
        console.print(f"The ledger disagreed with itself already ({name}): run  fleetgate verify")
    print(f"Next:  fleetgate up --data {options.data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
