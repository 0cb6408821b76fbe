"""The checks of `fleetgate verify`: a ledger against itself, on one view of its database."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, ForeignKeyConstraint, Table

from gateway.command.audit_check import chain_findings, personal_findings
from gateway.command.triggers import append_only_findings
from gateway.domain.audit_chain import Head
from gateway.domain.ledger import Kind
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
       payer_company_id, payer_path, company_path, at, lot_account
FROM transfer ORDER BY seq
"""
# Without a period a device is `paid` by the day: where the plan says so, or while its newest day
# was taken by itself, in this tenure or in the one that it followed.
_PERIODS = """
SELECT d.id, d.serial, d.registered, d.state, d.reason, d.period_start, d.period_end,
       d.grace_until, coalesce(a.balance, 0),
       c.plan = 'daily' OR EXISTS (SELECT 1 FROM recheck)
       OR l.last_day > 0 AND NOT EXISTS (
           SELECT 1 FROM monitored_day AS m
           WHERE m.device_id = d.id AND m.day = l.last_day AND m.transfer_id IS NULL)
FROM device AS d JOIN company AS c ON c.id = d.company_id
     JOIN device_live AS l ON l.device_id = d.id
     LEFT JOIN account AS a ON a.device_id = d.id AND a.kind = 'prepaid'
"""
_CLOSED = """
SELECT c.id,
       (SELECT sum(a.balance) FROM account AS a WHERE a.company_id = c.id AND a.kind = 'pool'),
       (SELECT count(*) FROM device AS d WHERE d.company_id = c.id AND d.registered),
       (SELECT count(*) FROM company AS b WHERE b.parent_id = c.id AND b.closed_at IS NULL)
FROM company AS c WHERE c.closed_at IS NOT NULL
UNION ALL SELECT c.id, 0, 0, 0 FROM company AS c WHERE c.closed_at IS NULL
"""
_REVERSALS = """
SELECT r.id, r.kind, r.reverses, t.days,
       CASE WHEN t.id IS NULL OR r.from_account <> t.to_account OR r.to_account <> t.from_account
                 OR r.free <> t.free OR t.kind NOT IN ('grant', 'move', 'courtesy')
            THEN 0 ELSE 1 END,
       (SELECT sum(s.days) FROM transfer AS s WHERE s.reverses = r.reverses)
FROM transfer AS r LEFT JOIN transfer AS t ON t.id = r.reverses
WHERE r.reverses IS NOT NULL
UNION ALL
SELECT r.id, r.kind, NULL, 0, 0, 0 FROM transfer AS r
WHERE r.kind = 'reverse' AND r.reverses IS NULL
"""
_DAYS = """
SELECT m.device_id, m.day, d.id IS NOT NULL, c.id IS NOT NULL, p.id IS NOT NULL, a.id,
       m.transfer_id,
       EXISTS (SELECT 1 FROM transfer AS t WHERE t.id = m.transfer_id AND t.kind = 'day'
               AND t.company_id = m.company_id AND t.payer_company_id = m.payer_id)
FROM monitored_day AS m LEFT JOIN device AS d ON d.id = m.device_id
     LEFT JOIN account AS a ON a.device_id = m.device_id AND a.kind = 'prepaid'
     LEFT JOIN company AS c ON c.id = m.company_id LEFT JOIN company AS p ON p.id = m.payer_id
ORDER BY m.device_id, m.day
"""
_CHARGED = """
SELECT t.id, t.days, count(m.day) FROM transfer AS t LEFT JOIN monitored_day AS m
       ON m.transfer_id = t.id WHERE t.kind = 'day' GROUP BY t.id, t.days
"""


@dataclass(slots=True)
class Check:
    """One rule: how many things were looked at, and what was found wrong."""

    name: str
    about: str
    checked: int
    findings: list[str]


class Verification:
    """All checks in one read transaction, so that they see one state of a working system.

    `heads` are those of the audit that were noted elsewhere, by where that was.
    """

    def __init__(self, connection: Connection, heads: Mapping[str, Head] | None = None) -> None:
        self._connection = connection
        self._heads = dict(heads or {})
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
            self._check("reversals", "never more is taken back than was given", self._reversals),
            self._check("balances", "each balance is the sum of its transfers", self._balances),
            self._check("prepaid", "prepaid days are exactly the running period", self._prepaid),
            self._check("service", "state, reason and period agree", self._service),
            self._check("limits", "taken from above is the sum of its charges", self._limits),
            self._check("tree", "company_path is the closure of parent_id", self._tree),
            self._check("closed", "closed companies hold nothing", self._closed),
            self._check("days", "each monitored day is paid by its period or charge", self._days),
            self._check("charges", "each charge of days pays the days it took", self._charged),
            self._check("links", "no row names what does not exist", self._links),
            self._check("audit", "each entry of the audit is as its chain says", self._audit),
        ]
        return checks

    def _check(self, name: str, about: str, rule: Callable[[], Iterator[str | None]]) -> Check:
        check = Check(name, about, 0, [])
        for finding in rule():
            check.checked += 1
            if finding is not None and len(check.findings) < FINDINGS_MAX:
                check.findings.append(finding)
        return check

    def _audit(self) -> Iterator[str | None]:
        yield from chain_findings(self._connection, self._heads)
        yield from personal_findings(self._connection)

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
            by_day,
        ) in self._rows(_PERIODS):
            wrong = None
            if (state, reason) not in PAIRS:
                wrong = f"{state} and {reason} do not go together"
            elif start is not None and reason not in (Reason.PAID, Reason.SWITCHED_OFF):
                wrong = f"{state}, {reason}, but a period"
            elif start is None and reason == Reason.PAID and not by_day:
                wrong = f"{state}, {reason}, but no period"
            elif reason == Reason.GRACE and grace_until is None:
                wrong = "in grace, but its grace has no end"
            elif not registered and start is not None:
                wrong = "not registered, but a period runs"
            yield None if wrong is None else f"device {serial}: {wrong}"

    def _reversals(self) -> Iterator[str | None]:
        yield None
        for id_, kind, first, days, fits, back in self._rows(_REVERSALS):
            if kind != Kind.REVERSE or not fits:
                yield f"transfer {id_}: it does not take back {first}"
            else:
                yield f"transfer {first}: {back} of {days} taken back" if back > days else None

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

    def _closed(self) -> Iterator[str | None]:
        for id_, pools, devices, below in self._rows(_CLOSED):
            held = [
                f"{count} {what}"
                for count, what in ((pools, "days"), (devices, "devices"), (below, "companies"))
                if count
            ]
            yield f"closed company {id_} holds {', '.join(held)}" if held else None

    def _days(self) -> Iterator[str | None]:
        paid = self._replay.paid_days
        for device_id, day, device, company, payer, prepaid, charge, sound in self._rows(_DAYS):
            if not (device and company and payer):
                yield f"device {device_id}: a day of a device or company that does not exist"
                continue
            if charge is not None:
                yield None if sound else f"device {device_id}: a day that {charge} did not pay"
                continue
            wrong = day_unpaid(day, paid.get(prepaid, []) + self._replay.lived_twice)
            yield None if wrong is None else f"device {device_id}: {wrong}"

    def _charged(self) -> Iterator[str | None]:
        yield None
        for id_, days, counted in self._rows(_CHARGED):
            wrong = f"transfer {id_}: {days} days taken, {counted} were counted"
            yield None if days == counted else wrong

    def _links(self) -> Iterator[str | None]:
        """PostgreSQL keeps links by itself unless somebody told it not to; SQLite if asked."""
        yield None
        for table, key, referred in self._rows(_broken_links()):
            yield f"{table} {key}: no such {referred}"

    def _rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        return map(tuple, self._connection.exec_driver_sql(statement))


@cache
def _broken_links() -> str:
    """Finds all rows whose link leads nowhere: table, key, and where it leads.

    One statement for all links of all tables, made once: to make and to send each of them takes
    longer than to run it.
    """
    return " UNION ALL ".join(
        _broken(table, link)
        for table in metadata.sorted_tables
        for link in table.foreign_key_constraints
    )


def _broken(table: Table, link: ForeignKeyConstraint) -> str:
    parent = link.referred_table.name
    keys = " || ',' || ".join(f'CAST(t."{key.name}" AS TEXT)' for key in table.primary_key.columns)
    given = " AND ".join(f't."{one.parent.name}" IS NOT NULL' for one in link.elements)
    met = " AND ".join(f'p."{one.column.name}" = t."{one.parent.name}"' for one in link.elements)
    return (
        f"SELECT '{table.name}', {keys}, '{parent}'"  # noqa: S608 - names of the schema
        f' FROM "{table.name}" AS t'
        f' WHERE {given} AND NOT EXISTS (SELECT 1 FROM "{parent}" AS p WHERE {met})'
    )
