"""`fleetgate verify`: checks an installation's ledger and its audit, reading only."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.command.checks import Check, Verification
from gateway.command.configuration import ConfigurationError
from gateway.command.database import database_of
from gateway.command.ledger_digest import LedgerDigest, ledger_digest
from gateway.domain.audit_chain import Head, head_of
from gateway.jobs.sealing import HEAD_FILE
from gateway.storage.address import Address, shown
from gateway.storage.one_view import UnreadableDatabase, one_view

SHOWN_MAX = 10  # findings of one check that people are shown; --json has more


def verify(address: Address, heads: Mapping[str, Head] | None = None) -> list[Check]:
    """Checks the database, and the audit against the heads. Raises `UnreadableDatabase`."""
    with one_view(address) as connection:
        return Verification(connection, heads).run()


def verify_with_digest(
    address: Address, heads: Mapping[str, Head]
) -> tuple[list[Check], LedgerDigest | None]:
    """The same and, of the same view, what the ledger amounts to, if it can be read."""
    with one_view(address) as connection:
        checks = Verification(connection, heads).run()
        return checks, None if checks[0].findings else ledger_digest(connection)


def noted_heads(data: Path, given: str) -> dict[str, Head]:
    """The heads of the audit to compare with: the gateway's own, and the one that is named.

    Raises `ConfigurationError`.
    """
    heads = {}
    own = data / HEAD_FILE
    for where, text in (("--head", given), (str(own), own.read_text() if own.exists() else "")):
        if text:
            try:
                heads[where] = head_of(text)
            except ValueError as error:
                raise ConfigurationError(f"{where}: {error}") from error
    return heads


def report(
    address: Address, checks: Sequence[Check], ledger: LedgerDigest | None
) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "ok": not any(check.findings for check in checks),
        "database": shown(address),
        "transfers": None if ledger is None else ledger.transfers,
        "ledger_digest": None if ledger is None else ledger.digest,
        "checks": [asdict(check) for check in checks],
    }


def _show(checks: Sequence[Check], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "what it proves", "looked at", "wrong"):
        table.add_column(heading, justify="right" if heading in ("looked at", "wrong") else "left")
    for check in checks:
        wrong = str(len(check.findings)) if check.findings else "-"
        table.add_row(check.name, check.about, f"{check.checked:,}", wrong)
    console.print(table)
    for check in checks:
        for finding in check.findings[:SHOWN_MAX]:
            console.print(f"{check.name}: {finding}", markup=False, highlight=False, soft_wrap=True)
        more = len(check.findings) - SHOWN_MAX
        if more > 0:
            console.print(f"{check.name}: and {more} more; see --json")


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand: 0 when everything agrees, 1 when something does not or cannot be read."""
    parser = argparse.ArgumentParser(prog="fleetgate verify", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR")
    parser.add_argument(
        "--head",
        default="",
        metavar="POSITION:HASH",
        help="a head of the audit, as the log had it: the chain must still have it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    where = str(options.data)
    try:
        address = database_of(options.data)
        where = shown(address)
        heads = noted_heads(options.data, options.head)
        # The digest costs a second look at every transfer: the gateway's own check needs none.
        if options.json:
            checks, ledger = verify_with_digest(address, heads)
        else:
            checks, ledger = verify(address, heads), None
    except (UnreadableDatabase, ConfigurationError) as error:
        if options.json:
            print(json.dumps({"ok": False, "database": where, "error": str(error)}))
        else:
            Console(stderr=True).print(
                f"fleetgate verify: {error}; --data names the data directory of an installation",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        return 1
    summary = report(address, checks, ledger)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        _show(checks, Console())
        print("The ledger agrees with itself." if summary["ok"] else "Something does not agree.")
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
