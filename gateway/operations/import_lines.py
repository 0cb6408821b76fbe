"""Checks the lines of a file of devices against what there is: companies, serials, credits."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import select

from gateway.domain.importing import BadLine, Line
from gateway.domain.ledger import DAYS_PER_CREDIT, credits_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.registering import Known, Outcome, registering
from gateway.domain.rights import Right
from gateway.operations.daily import is_daily
from gateway.operations.devices import alias_taken, described
from gateway.operations.registering import (
    near,
    refused_payment,
    serial_unavailable,
)
from gateway.operations.registry import Call, company_number, not_found
from gateway.storage.schema import device
from gateway.storage.transaction import Transaction

T = TypeVar("T")

AT_ONCE = 500
# Refusals of which the first line tells how much there was before it.
_HOW_FAR = frozenset({Code.CREDITS_INSUFFICIENT, Code.PARENT_LIMIT_REACHED})


class Tenure(NamedTuple):
    """The newest tenure of a serial."""

    id: int
    known: Known


_TENURES = """
SELECT d.serial, d.id,
       d.registered, d.joined_at IS NOT NULL, d.company_id, d.registered_at, d.dormant_at
FROM device AS d JOIN device_live AS l ON l.device_id = d.id WHERE {}
"""


class Candidate(NamedTuple):
    """A line whose text fits: the company it names, and what of it is kept."""

    line: Line
    company_id: int
    start: str
    values: Mapping[str, Any]


class Judged(NamedTuple):
    """What registering the serials would do, and which cannot be."""

    outcomes: dict[str, Outcome]
    tenures: dict[str, Tenure]
    bad: list[BadLine]


def parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """The things by as many as one statement takes."""
    for start in range(0, len(things), AT_ONCE):
        yield things[start : start + AT_ONCE]


def bad_line(line: Line, refused: Refused) -> BadLine:
    """A line that a rule refuses."""
    return BadLine(line.number, line.serial, refused.code, refused.detail, refused.field)


def find_candidates(
    call: Call, number: int, lines: Sequence[Line], start: str
) -> tuple[list[Candidate], list[BadLine]]:
    """The lines with their companies; `number` and `start` hold where a line says nothing."""
    found: list[Candidate] = []
    bad: list[BadLine] = []
    companies: dict[str, int | Refused] = {"": number}
    for line in lines:
        if line.company not in companies:
            companies[line.company] = _company(call, number, line.company)
        named = companies[line.company]
        try:
            if isinstance(named, Refused):
                raise named
            values = described(
                {
                    "alias": line.alias,
                    "name": line.name,
                    "mac": line.mac,
                    "tags": line.tags,
                    "notes": line.notes,
                    "reference": line.reference,
                    "auto_extend": line.auto_extend,
                }
            )
        except Refused as refused:
            bad.append(bad_line(line, refused))
        else:
            found.append(Candidate(line, named, line.start or start, values))
    return found, bad


def _company(call: Call, number: int, text: str) -> int | Refused:
    """The company that a line names, which is the import's own or below it."""
    try:
        named = company_number(text)
    except Refused as refused:
        return Refused(refused.code, f"company: {refused.detail}", field="company")
    return refused_company(call, number, named) or named


def refused_company(call: Call, number: int, named: int) -> Refused | None:
    """Why the caller may not import into a company of the import's subtree, if so."""
    path = call.treasury.path(named)
    missing = Refused(Code.NOT_FOUND, f"company: {not_found('company').detail}", field="company")
    if not path or not call.allows(Right.SEE_DEVICES, named):
        return missing
    if number not in path:
        return Refused(
            Code.VALIDATION,
            "company: neither the company of this import nor below it",
            field="company",
        )
    try:
        call.require(Right.UNREGISTER, named, see=Right.SEE_DEVICES, what="company")
    except Refused as refused:
        return Refused(refused.code, f"company: {refused.detail}", field="company")
    return None


def find_alias_twins(candidates: Sequence[Candidate]) -> list[BadLine]:
    """Lines whose alias an earlier line of the same company has."""
    first: dict[tuple[int, str], int] = {}
    bad = []
    for one in candidates:
        key = one.values["alias_key"]
        if key is None:
            continue
        before = first.setdefault((one.company_id, key), one.line.number)
        if before != one.line.number:
            detail = f"alias: line {before} has it already"
            bad.append(BadLine(one.line.number, one.line.serial, Code.NAME_TAKEN, detail, "alias"))
    return bad


def judge(call: Call, candidates: Sequence[Candidate]) -> Judged:
    """Whether each serial can be had; who writes holds the locks from here on."""
    tenures = _tenures(call.tx, sorted(one.line.serial for one in candidates))
    nearby: dict[int, frozenset[int]] = {}
    outcomes: dict[str, Outcome] = {}
    bad = []
    for one in candidates:
        tenure = tenures.get(one.line.serial)
        if one.company_id not in nearby:
            nearby[one.company_id] = near(call, one.company_id)
        known = None if tenure is None else tenure.known
        outcome = registering(known, one.company_id, nearby[one.company_id], call.tx.now_ms)
        outcomes[one.line.serial] = outcome
        if outcome is Outcome.UNAVAILABLE:
            bad.append(bad_line(one.line, serial_unavailable()))
    return Judged(outcomes, tenures, bad)


def _tenures(tx: Transaction, serials: Sequence[str]) -> dict[str, Tenure]:
    if tx.writing:
        rows = tx.fetch_devices(_TENURES, serials)
    else:
        rows = []
        for part in parts(serials):
            marks = ",".join("?" * len(part))
            which = f"d.ended_at IS NULL AND d.serial IN ({marks})"
            rows = [*rows, *tx.fetch(_TENURES.format(which), part)]
    return {serial: Tenure(id_, Known(*known)) for serial, id_, *known in rows}


def find_taken_aliases(call: Call, candidates: Sequence[Candidate]) -> list[BadLine]:
    """Lines whose alias another device of the company has; to be asked once for all lines."""
    by_company: dict[int, list[str]] = {}
    for one in candidates:
        if one.values["alias_key"] is not None:
            by_company.setdefault(one.company_id, []).append(one.values["alias_key"])
    taken = {
        (company_id, key)
        for company_id, keys in by_company.items()
        for key in _aliases(call.tx, company_id, keys)
    }
    return [
        bad_line(one.line, alias_taken())
        for one in candidates
        if (one.company_id, one.values["alias_key"]) in taken
    ]


def _aliases(tx: Transaction, company_id: int, keys: Sequence[str]) -> set[str]:
    """Those of the keys that are in use; perhaps others as well."""
    statement = select(device.c.alias_key).where(
        device.c.company_id == company_id, device.c.registered, device.c.alias_key.is_not(None)
    )
    # Of many, PostgreSQL would compare each device with each of them while it does not know yet
    # that there are so many devices.
    if len(keys) <= AT_ONCE:
        statement = statement.where(device.c.alias_key.in_(keys))
    return {row.alias_key for row in tx.all(statement)}


def is_charged(call: Call, one: Candidate) -> bool:
    """Whether its first period begins at once; by the day nobody pays before it is heard."""
    return one.start == "now" and not is_daily(call.treasury, one.company_id)


def find_unpaid(call: Call, candidates: Sequence[Candidate]) -> list[BadLine]:
    """Lines with `activate: true` that nobody would pay for after those before them."""
    unpaid: list[tuple[Candidate, Code]] = []
    paid: list[tuple[Candidate, int]] = []
    for one in candidates:
        if not is_charged(call, one):
            continue
        payment = call.treasury.find_payer(one.company_id, DAYS_PER_CREDIT)
        if call.treasury.suspended(one.company_id):
            unpaid.append((one, Code.COMPANY_SUSPENDED))
        elif isinstance(payment, Code):
            unpaid.append((one, payment))
        else:
            call.treasury.take(payment, DAYS_PER_CREDIT)
            paid.append((one, payment.payer_id))
    return refused_payments(call, unpaid, paid)


def refused_payments(
    call: Call,
    unpaid: Sequence[tuple[Candidate, Code]],
    paid: Sequence[tuple[Candidate, int]],
) -> list[BadLine]:
    """Lines that nobody pays for, each saying how much its company is short of.

    How far the credits or limits of a company reach that the caller does not see is its own
    affair: where such a company is asked, all lines that it is asked for are refused alike.
    """
    asked_above = {
        company_id: any(
            not call.allows(Right.SEE_CREDITS, asked) for asked in call.treasury.asked(company_id)
        )
        for company_id in {one.company_id for one, _ in unpaid}
    }
    told: list[tuple[Candidate, Code]] = []
    secret: list[tuple[Candidate, Code]] = []
    for one, code in unpaid:
        hidden = code in _HOW_FAR and asked_above[one.company_id]
        (secret if hidden else told).append((one, code))
    short = Counter(one.company_id for one, code in told if code is Code.CREDITS_INSUFFICIENT)
    bad = []
    for one, code in told:
        detail = refused_payment(code).detail
        if code is Code.CREDITS_INSUFFICIENT:
            missing = credits_text(short[one.company_id] * DAYS_PER_CREDIT)
            detail += f" For the lines of company {one.company_id} {missing} are missing."
        bad.append(_unpaid_line(one, code, detail))
    if secret:
        code = secret[0][1]
        lines = [one for one, _ in secret]
        lines += [one for one, payer in paid if not call.allows(Right.SEE_CREDITS, payer)]
        detail = "Companies above do not pay for all of these lines; ask them, or import fewer."
        bad += [_unpaid_line(one, code, detail) for one in lines]
    return bad


def _unpaid_line(one: Candidate, code: Code, detail: str) -> BadLine:
    return BadLine(one.line.number, one.line.serial, code, f"activate: {detail}", "activate")
