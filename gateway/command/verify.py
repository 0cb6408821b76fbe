"""`fleetgate verify`: checks a data directory's ledger against itself, reading only."""

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.domain.service import PAIRS, Reason
from gateway.domain.verification import (
    FINDINGS_MAX,
    Moved,
    Replay,
    closure,
    day_unpaid,
    wrong_period,
)
from gateway.storage.migrate import known_revisions

DATABASE_NAME = "fleetgate.db"
SHOWN_MAX = 10  # findings of one check that people are shown; --json has more
BUSY_S_MAX = 30.0
APPEND_ONLY = ("transfer", "audit")

_TRANSFERS = """
SELECT id, operation_id, kind, from_account, to_account, days, company_id, device_id,
       payer_company_id, payer_path, company_path, at
FROM transfer ORDER BY seq
"""
_PERIODS = """
SELECT d.id, d.serial, d.registered, d.state, d.reason, d.period_start, d.period_end,
       d.grace_until, coalesce(a.balance, 0)
FROM device AS d LEFT JOIN account AS a ON a.device_id = d.id AND a.kind = 'prepaid'
"""
_DAYS = """
SELECT m.device_id, m.day, d.id IS NOT NULL, c.id IS NOT NULL, p.id IS NOT NULL
FROM monitored_day AS m LEFT JOIN device AS d ON d.id = m.device_id
     LEFT JOIN company AS c ON c.id = m.company_id LEFT JOIN company AS p ON p.id = m.payer_id
ORDER BY m.device_id, m.day
"""


class VerifyError(Exception):
    """The data directory cannot be checked at all."""


@dataclass(slots=True)
class Check:
    """One rule: how many things were looked at, and what was found wrong."""

    name: str
    about: str
    checked: int
    findings: list[str]


class Verification:
    """All checks in one read transaction, so that they see one state of a working system."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._replay = Replay({})

    def run(self) -> list[Check]:
        """Every check, in the order in which a person would ask."""
        checks = [self._check("schema", "made by a version this one knows", self._schema)]
        if checks[0].findings:
            return checks  # nothing else can be read with confidence
        kinds = self._connection.execute("SELECT id, kind FROM account").fetchall()
        self._replay.account_kinds = dict(kinds)
        for row in self._connection.execute(_TRANSFERS):
            self._replay.take(Moved(*row))
        replay = self._replay
        checks += [
            self._check(
                "triggers",
                "the database refuses to change a transfer or the audit",
                self._triggers,
            ),
            Check("ids", "each transfer is the n-th of its operation", replay.rows, replay.ids),
            Check("ways", "each kind moves days between its accounts", replay.rows, replay.ways),
            Check("paths", "company and payer agree with their paths", replay.rows, replay.paths),
            Check(
                "overdrawn", "no account ever gave days it lacked", replay.rows, replay.overdrawn
            ),
            self._check("balances", "each balance is the sum of its transfers", self._balances),
            self._check("prepaid", "prepaid days are exactly the running period", self._prepaid),
            self._check("service", "state, reason and period agree", self._service),
            self._check("limits", "taken from above is the sum of its charges", self._limits),
            self._check("tree", "company_path is the closure of parent_id", self._tree),
            self._check("days", "each monitored day lies in a paid period", self._days),
            self._check("links", "no row names what does not exist", self._links),
        ]
        return checks

    def _check(self, name: str, about: str, rule: Callable[[], Iterator[str | None]]) -> Check:
        check = Check(name, about, 0, [])
        for finding in rule():
            check.checked += 1
            if finding is not None and len(check.findings) < FINDINGS_MAX:
                check.findings.append(finding)
        return check

    def _schema(self) -> Iterator[str | None]:
        rows = self._connection.execute("SELECT version_num FROM alembic_version").fetchall()
        present: set[str | None] = {row[0] for row in rows}
        known = known_revisions()
        head = known[0]
        for revision in present or {None}:
            if revision == head:
                yield None
            elif revision in known:
                yield f"schema {revision} is older than {head}: start the gateway once"
            else:
                yield f"schema {revision} is not known to this version"

    def _triggers(self) -> Iterator[str | None]:
        found = dict(
            self._connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        )
        for table in APPEND_ONLY:
            for event in ("update", "delete"):
                sql = found.get(f"{table}_no_{event}", "")
                whole = f"BEFORE {event.upper()} ON {table} " in sql and "RAISE(ABORT" in sql
                yield None if whole and "WHEN" not in sql else f"{table}_no_{event} is missing"

    def _balances(self) -> Iterator[str | None]:
        sums = self._replay.sums
        known = set()
        for id_, name, balance in self._connection.execute("SELECT id, name, balance FROM account"):
            known.add(id_)
            total = sums.get(id_, 0)
            if balance is None:
                yield None
            elif balance < 0 or balance != total:
                yield f"{name}: balance {balance}, sum of its transfers {total}"
            else:
                yield None
        for id_ in sums.keys() - known:
            yield f"account {id_} has transfers but no row"
        if sum(sums.values()) != 0:
            yield f"the sum over all accounts is {sum(sums.values())}, not 0"

    def _prepaid(self) -> Iterator[str | None]:
        for row in self._connection.execute(_PERIODS):
            wrong = wrong_period(row[5], row[6], row[8])
            yield None if wrong is None else f"device {row[1]}: {wrong}"

    def _service(self) -> Iterator[str | None]:
        for (
            _,
            serial,
            registered,
            state,
            reason,
            start,
            _,
            grace_until,
            _,
        ) in self._connection.execute(_PERIODS):
            wrong = None
            if (state, reason) not in PAIRS:
                wrong = f"{state} and {reason} do not go together"
            elif (start is not None) != (reason == Reason.PAID):
                wrong = f"{state}, {reason}, but " + ("no period" if start is None else "a period")
            elif reason == Reason.GRACE and grace_until is None:
                wrong = "in grace, but its grace has no end"
            elif not registered and start is not None:
                wrong = "not registered, but a period runs"
            yield None if wrong is None else f"device {serial}: {wrong}"

    def _limits(self) -> Iterator[str | None]:
        stored = {
            (company_id, month): days
            for company_id, month, days in self._connection.execute(
                "SELECT company_id, month, days FROM taken_from_above"
            )
        }
        expected = self._replay.taken
        for key in sorted(stored.keys() | expected.keys()):
            noted, charged = stored.get(key, 0), expected.get(key, 0)
            yield (
                None
                if noted == charged
                else f"company {key[0]}, month {key[1]}: {noted} days noted, {charged} charged"
            )

    def _tree(self) -> Iterator[str | None]:
        parents = dict(self._connection.execute("SELECT id, parent_id FROM company").fetchall())
        expected = set(closure(parents))
        stored = set(
            self._connection.execute("SELECT ancestor_id, descendant_id, depth FROM company_path")
        )
        for company_id in parents:
            yield (
                None if (company_id, company_id, 0) in expected else f"company {company_id}: cycle"
            )
        for ancestor, descendant, depth in sorted(expected ^ stored):
            what = "missing" if (ancestor, descendant, depth) in expected else "too much"
            yield f"company_path {ancestor} over {descendant} at {depth}: {what}"

    def _days(self) -> Iterator[str | None]:
        paid = self._replay.paid_days
        for device_id, day, device, company, payer in self._connection.execute(_DAYS):
            if not (device and company and payer):
                yield f"device {device_id}: a day of a device or company that does not exist"
                continue
            wrong = day_unpaid(day, paid.get(device_id, []))
            yield None if wrong is None else f"device {device_id}: {wrong}"

    def _links(self) -> Iterator[str | None]:
        yield None
        for table, row, parent, _ in self._connection.execute("PRAGMA foreign_key_check"):
            yield f"{table} row {row}: no such {parent}"


def verify(path: Path) -> list[Check]:
    """Checks the database file. Raises `VerifyError` when it cannot be read."""
    if not path.is_file():
        raise VerifyError(f"{path}: there is no such file; name a data directory with --data")
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=BUSY_S_MAX,
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            return Verification(connection).run()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise VerifyError(f"{path}: {error}") from error


def report(path: Path, checks: Sequence[Check]) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "ok": not any(check.findings for check in checks),
        "database": str(path),
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    path = options.data / DATABASE_NAME
    try:
        checks = verify(path)
    except VerifyError as error:
        if options.json:
            print(json.dumps({"ok": False, "database": str(path), "error": str(error)}))
        else:
            Console(stderr=True).print(
                f"fleetgate verify: {error}", markup=False, highlight=False, soft_wrap=True
            )
        return 1
    summary = report(path, checks)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        _show(checks, Console())
        print("The ledger agrees with itself." if summary["ok"] else "Something does not agree.")
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
