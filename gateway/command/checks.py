"""The checks of `fleetgate verify`: a ledger against itself, on one view of its database."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, ForeignKeyConstraint, Select, Table, exists, not_, select

from gateway.command.triggers import append_only_findings
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
from gateway.storage.schema import metadata

_SCHEMA = "SELECT version_num FROM alembic_version"
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


@dataclass(slots=True)
class Check:
    """One rule: how many things were looked at, and what was found wrong."""

    name: str
    about: str
    checked: int
    findings: list[str]


class Verification:
    """All checks in one read transaction, so that they see one state of a working system."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._replay = Replay({})

    def run(self) -> list[Check]:
        """Every check, in the order in which a person would ask."""
        checks = [self._check("schema", "made by a version this one knows", self._schema)]
        if checks[0].findings:
            return checks  # nothing else can be read with confidence
        self._replay.account_kinds = dict(self._rows("SELECT id, kind FROM account"))
        for row in self._rows(_TRANSFERS):
            self._replay.take(Moved(*row))
        replay = self._replay
        checks += [
            self._check(
                "triggers",
                "the database refuses to change a transfer or the audit",
                partial(append_only_findings, self._connection),
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
        present: set[str | None] = {row[0] for row in self._rows(_SCHEMA)}
        known = known_revisions()
        head = known[0]
        for revision in present or {None}:
            if revision == head:
                yield None
            elif revision in known:
                yield f"schema {revision} is older than {head}: start the gateway once"
            else:
                yield f"schema {revision} is not known to this version"

    def _balances(self) -> Iterator[str | None]:
        sums = self._replay.sums
        known = set()
        for id_, name, balance in self._rows("SELECT id, name, balance FROM account"):
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
        for row in self._rows(_PERIODS):
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
        ) in self._rows(_PERIODS):
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
            for company_id, month, days in self._rows(
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
        parents = dict(self._rows("SELECT id, parent_id FROM company"))
        expected = set(closure(parents))
        stored = set(self._rows("SELECT ancestor_id, descendant_id, depth FROM company_path"))
        for company_id in parents:
            yield (
                None if (company_id, company_id, 0) in expected else f"company {company_id}: cycle"
            )
        for ancestor, descendant, depth in sorted(expected ^ stored):
            what = "missing" if (ancestor, descendant, depth) in expected else "too much"
            yield f"company_path {ancestor} over {descendant} at {depth}: {what}"

    def _days(self) -> Iterator[str | None]:
        paid = self._replay.paid_days
        for device_id, day, device, company, payer in self._rows(_DAYS):
            if not (device and company and payer):
                yield f"device {device_id}: a day of a device or company that does not exist"
                continue
            wrong = day_unpaid(day, paid.get(device_id, []))
            yield None if wrong is None else f"device {device_id}: {wrong}"

    def _links(self) -> Iterator[str | None]:
        """PostgreSQL keeps links by itself unless somebody told it not to; SQLite if asked."""
        yield None
        for table in metadata.sorted_tables:
            for link in table.foreign_key_constraints:
                for row in self._connection.execute(_broken(table, link)):
                    yield f"{table.name} {tuple(row)}: no such {link.referred_table.name}"

    def _rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        return map(tuple, self._connection.exec_driver_sql(statement))


def _broken(table: Table, link: ForeignKeyConstraint) -> Select[Any]:
    """The keys of rows whose link leads nowhere."""
    parent = link.referred_table.alias("parent")
    met = [element.parent == parent.c[element.column.name] for element in link.elements]
    given = [element.parent.is_not(None) for element in link.elements]
    found = exists().select_from(parent).where(*met).correlate(table)
    return select(*table.primary_key.columns).where(*given, not_(found))
