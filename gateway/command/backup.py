"""`fleetgate backup`: one file with database, keys and configuration, while all goes on."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from sqlalchemy import Connection

from gateway.command.archive import ArchiveWriter, new_private_file
from gateway.command.belongings import belongings, configuration_of
from gateway.command.checks import Verification
from gateway.command.configuration import ConfigurationError
from gateway.command.database import address_of
from gateway.command.ledger_digest import ledger_digest
from gateway.domain.instants import day_of
from gateway.storage.migrate import known_revisions
from gateway.storage.one_view import UnreadableDatabase, one_view
from gateway.storage.whole_tables import Whole, all_tables, read_table

FORMAT = 1
RAW_HISTORY = "heartbeat"
SECRETS = (
    "This file holds secrets: the installation's keys and everybody's password hashes. "
    "Keep it where only you can read it."
)

Tell = Callable[[str], None]


class BackupError(Exception):
    """No backup was made; the text says why and what to do."""


def back_up(data: Path, out: Path, *, history: bool, tell: Tell) -> dict[str, Any]:
    """Writes the file; returns its manifest. Raises `BackupError`."""
    if out.exists():
        raise BackupError(f"{out} exists already: choose another name")
    try:
        configuration = configuration_of(data)
        files = list(belongings(data, configuration))
        address = address_of(configuration)
        with one_view(address) as connection, new_private_file(out) as file:
            writer = ArchiveWriter(file, int(time.time()))
            tell("checking the ledger")
            manifest = _about(connection)
            manifest["tables"] = dict(_write_tables(writer, connection, history, tell))
            for place, path in files:
                with writer.member(place) as member:
                    member.write(path.read_bytes())
            writer.finish(manifest)
    except (ConfigurationError, UnreadableDatabase, OSError) as error:
        raise BackupError(f"{error}; --data names the data directory of an installation") from error
    return manifest


def _about(connection: Connection) -> dict[str, Any]:
    """What the backup is of. Raises `BackupError` for a schema that this version did not make."""
    checks = Verification(connection).run()
    if checks[0].findings:
        raise BackupError(checks[0].findings[0])
    ledger = ledger_digest(connection)
    return {
        "format": FORMAT,
        "fleetgate": _version(),
        "schema": known_revisions()[0],
        "engine": connection.dialect.name,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "transfers": ledger.transfers,
        "ledger_digest": ledger.digest,
        "wrong": [check.name for check in checks if check.findings],
    }


def _version() -> str:
    try:
        return version("fleetgate")
    except PackageNotFoundError:
        return "unknown"


def _write_tables(
    writer: ArchiveWriter, connection: Connection, history: bool, tell: Tell
) -> Iterator[tuple[str, dict[str, Any]]]:
    encoder = msgspec.json.Encoder()
    for table in all_tables():
        left_out = table.name == RAW_HISTORY and not history
        rows, days = 0, set[int]()
        with writer.member(f"tables/{table.name}.jsonl.gz") as member:
            for part in () if left_out else read_table(connection, table):
                member.write(encoder.encode_lines(part))
                rows += len(part)
                if table.name == RAW_HISTORY:
                    days |= _days(table, part)
                tell(f"{table.name}: {rows:,} rows")
        facts: dict[str, Any] = {"columns": table.columns, "rows": rows}
        if table.name == RAW_HISTORY:
            facts |= {"left_out": left_out, "days": sorted(days)}
        yield table.name, facts


def _days(table: Whole, part: Sequence[tuple[Any, ...]]) -> set[int]:
    """The UTC days of samples, by which a PostgreSQL database divides them."""
    at = [name for name, _ in table.columns].index("at")
    return {day_of(row[at]) for row in part}


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand: 0 when the file is whole, 1 when none was made."""
    parser = argparse.ArgumentParser(prog="fleetgate backup", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--without-history", action="store_true")
    options = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    began_s = time.monotonic()
    try:
        with console.status("backup") as status:
            manifest = back_up(
                options.data.absolute(),
                options.out,
                history=not options.without_history,
                tell=status.update,
            )
    except BackupError as error:
        console.print(f"fleetgate backup: {error}", markup=False)
        return 1
    rows = sum(table["rows"] for table in manifest["tables"].values())
    print(
        f"{options.out}: {rows:,} rows, {options.out.stat().st_size:,} bytes, "
        f"{manifest['transfers']:,} transfers with the digest {manifest['ledger_digest']}, "
        f"in {time.monotonic() - began_s:.1f} s"
    )
    for name in manifest["wrong"]:
        console.print(f"The ledger disagrees with itself ({name}): run  fleetgate verify")
    console.print(SECRETS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
