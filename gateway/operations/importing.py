"""Importing devices from a file: all of it or nothing, with a report that names every line."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from gateway.domain.importing import (
    TEXT_CHARS_MAX,
    BadLine,
    Line,
    LinesRefused,
    read_sheet,
)
from gateway.domain.instants import MINUTE_MS, instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.registering import Outcome
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.companies import company_row
from gateway.operations.import_lines import (
    Candidate,
    Judged,
    find_alias_twins,
    find_candidates,
    find_taken_aliases,
    find_unpaid,
    judge,
    refused_company,
    refused_payments,
)
from gateway.operations.import_writing import write_devices
from gateway.operations.newest_first import newest, of_companies
from gateway.operations.registering import STARTS
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    not_found,
    operation,
    row_number,
)
from gateway.storage.schema import device_import
from gateway.storage.transaction import AnyRow, Transaction

# Whoever checks a file says so all the time; a gateway that was stopped does not.
SILENT_MS = MINUTE_MS
BODY_BYTES_MAX = 8 * 1024 * 1024  # as JSON the text is longer than its file
FILE_NAME_CHARS_MAX = 200


class ImportDevices(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The text of the file, and what holds for lines that do not say it themselves.

    Columns: serial (always), name, alias, mac, company, tags (`a|b`), notes, reference,
    auto_extend, activate; in any order, named by the first line.
    """

    company_id: str
    csv: Annotated[str, msgspec.Meta(max_length=TEXT_CHARS_MAX)]
    activate: bool | str = "on_contact"
    file_name: Annotated[str, msgspec.Meta(max_length=FILE_NAME_CHARS_MAX)] = ""


class CheckedImport(ImportDevices, kw_only=True):
    """The same after its lines were looked at, so that the transaction need not do it."""

    import_id: int
    candidates: list[Candidate]
    bad: list[BadLine]
    count: int


class ImportedLine(msgspec.Struct):
    """What became of a line's serial: `new`, `woken` from its sleep, or `taken_over`."""

    line: int
    serial: str
    company_id: str
    outcome: Literal["new", "woken", "taken_over"]


class Import(msgspec.Struct):
    """A file of devices: `checking`, then `done` or `refused`; `failed` when its gateway stopped.

    `undone` when the devices that were never heard were taken out again. Only of `done` anything
    was kept.
    """

    id: str
    company_id: str
    file_name: str
    actor: str
    state: str
    lines: int
    checked: int
    bad: int
    at: str
    done_at: str | None
    undone_at: str | None


class Imported(Import):
    """An import that was done, line by line."""

    new: int
    woken: int
    taken_over: int
    days_paid: int
    report: list[ImportedLine]


class Imports(msgspec.Struct):
    """A page of imports, newest first."""

    items: list[Import]
    next_cursor: str | None


class ListImports(Page, kw_only=True):
    """Which imports: of a company and those below."""

    company: str = ""


class OneImport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names an import."""

    import_id: str


_OUTCOMES: dict[Outcome, Literal["new", "woken", "taken_over"]] = {
    Outcome.NEW: "new",
    Outcome.WAKE: "woken",
    Outcome.TAKE_OVER: "taken_over",
}


@operation(
    "devices.import",
    "POST",
    "/devices/import",
    right=Right.UNREGISTER,
    result=Imported,
    status=201,
    errors=(
        Code.NOT_FOUND,
        Code.SERIAL_UNAVAILABLE,
        Code.NAME_TAKEN,
        Code.CREDITS_INSUFFICIENT,
        Code.PARENT_LIMIT_REACHED,
        Code.COMPANY_SUSPENDED,
    ),
    moves_credits=True,
    body_bytes_max=BODY_BYTES_MAX,
)
def import_devices(call: Call, given: ImportDevices) -> Imported:
    """Registers the devices of a CSV file; one line that does not fit refuses all of it."""
    number, start = admitted(call, given)
    if isinstance(given, CheckedImport):
        checked = given
        if checked.bad:
            raise LinesRefused(checked.bad, checked.count)
        bad = _refused_meanwhile(call, number, checked.candidates)
    else:
        checked = check_text(call, given, number, start)
        bad = checked.bad
    judged = judge(call, checked.candidates)
    refusals = [*judged.bad, *find_taken_aliases(call, checked.candidates)]
    bad = [*bad, *refusals]
    if bad:
        refused = {one.line for one in refusals}
        good = [one for one in checked.candidates if one.line.number not in refused]
        raise LinesRefused([*bad, *find_unpaid(call, good)], checked.count)
    import_id = checked.import_id or begin_import(call.tx, number, given, call.principal.name)
    written = write_devices(call, import_id, checked.candidates, judged)
    if written.unpaid:
        unpaid = refused_payments(call, written.unpaid, written.paid)
        raise LinesRefused(unpaid, checked.count)
    call.tx.run(
        update(device_import)
        .where(device_import.c.id == import_id)
        .values(
            state="done", lines=checked.count, checked=checked.count, bad=0, done_at=call.tx.now_ms
        )
    )
    return _report(call, import_id, checked.candidates, judged, written.days_paid)


def admitted(call: Call, given: ImportDevices) -> tuple[int, str]:
    """The company, and the start of lines that name none, if the caller may. Raises `Refused`."""
    number = company_number(given.company_id)
    call.require(Right.UNREGISTER, number, see=Right.SEE_DEVICES, what="company")
    company_row(call, number)
    start = STARTS.get(given.activate)
    if start is None:
        raise Refused(Code.VALIDATION, 'activate: true, "on_contact" or "later"', field="activate")
    return number, start


def check_text(call: Call, given: ImportDevices, number: int, start: str) -> CheckedImport:
    """Everything that the text alone and the caller's rights decide. Raises `Refused`."""
    sheet = read_sheet(given.csv)
    candidates, bad = find_candidates(call, number, sheet.lines, start)
    return as_checked(given, candidates, [*sheet.bad, *bad], sheet.count)


def as_checked(
    given: ImportDevices,
    candidates: list[Candidate],
    bad: list[BadLine],
    count: int,
    import_id: int = 0,
) -> CheckedImport:
    """What was found, with the aliases that stand twice."""
    twins = find_alias_twins(candidates)
    twice = {one.line for one in twins}
    return CheckedImport(
        company_id=given.company_id,
        csv="",
        activate=given.activate,
        file_name=given.file_name,
        import_id=import_id,
        candidates=[one for one in candidates if one.line.number not in twice],
        bad=[*bad, *twins],
        count=count,
    )


def _refused_meanwhile(call: Call, number: int, candidates: list[Candidate]) -> list[BadLine]:
    """Lines of companies into which the caller may not import any more."""
    bad = []
    for company_id in sorted({one.company_id for one in candidates} - {number}):
        refused = refused_company(call, number, company_id)
        if refused is not None:
            bad += [
                BadLine(one.line.number, one.line.serial, refused.code, refused.detail, "company")
                for one in candidates
                if one.company_id == company_id
            ]
    return bad


def begin_import(tx: Transaction, number: int, given: ImportDevices, actor: str) -> int:
    """Notes that a file is being looked at; nothing of it is registered yet."""
    name = "".join(c for c in given.file_name if c.isprintable())
    return tx.insert(
        insert(device_import),
        {
            "company_id": number,
            "file_name": name,
            "actor": actor,
            "state": "checking",
            "lines": 0,
            "checked": 0,
            "bad": 0,
            "at": tx.now_ms,
            "seen_at": tx.now_ms,
        },
    )


def note_progress(tx: Transaction, import_id: int, lines: int, checked: int, bad: int) -> None:
    """How far it is; whoever waits for it looks here."""
    tx.run(
        update(device_import)
        .where(device_import.c.id == import_id, device_import.c.state == "checking")
        .values(lines=lines, checked=checked, bad=bad, seen_at=tx.now_ms)
    )


def note_refused(tx: Transaction, import_id: int, bad: int) -> None:
    """It is over, and nothing of it was kept."""
    tx.run(
        update(device_import)
        .where(device_import.c.id == import_id, device_import.c.state == "checking")
        .values(state="refused", bad=bad, done_at=tx.now_ms)
    )


def drop_import(tx: Transaction, import_id: int) -> None:
    """It never was: the same was asked before."""
    tx.run(
        delete(device_import).where(
            device_import.c.id == import_id, device_import.c.state == "checking"
        )
    )


def check_part(
    call: Call, number: int, start: str, lines: Sequence[Line]
) -> tuple[list[Candidate], list[BadLine]]:
    """Some lines before the transaction that writes: what fits by now, and what does not."""
    candidates, bad = find_candidates(call, number, lines, start)
    judged = judge(call, candidates)
    refused = {one.line for one in judged.bad}
    return [one for one in candidates if one.line.number not in refused], [*bad, *judged.bad]


def _report(
    call: Call, import_id: int, candidates: list[Candidate], judged: Judged, days_paid: int
) -> Imported:
    row = import_row(call, import_id)
    counts: dict[str, int] = dict.fromkeys(_OUTCOMES.values(), 0)
    report = []
    for one in candidates:
        outcome = _OUTCOMES[judged.outcomes[one.line.serial]]
        counts[outcome] += 1
        line = ImportedLine(one.line.number, one.line.serial, str(one.company_id), outcome)
        report.append(line)
    record(
        call.tx,
        "devices.imported",
        actor=call.principal.name,
        owner_id=None,
        company_id=row.company_id,
        device_id=None,
        serial=None,
        subject=str(import_id),
        detail={"file_name": row.file_name, "days_paid": days_paid, **counts},
    )
    shown = msgspec.structs.asdict(show_import(call, row))
    return Imported(
        **shown,
        new=counts["new"],
        woken=counts["woken"],
        taken_over=counts["taken_over"],
        days_paid=days_paid,
        report=report,
    )


_ONE_IMPORT = select(device_import).where(device_import.c.id == bindparam("wanted"))


def import_row(call: Call, number: int) -> AnyRow:
    """The stored import. Raises `Refused`."""
    row = call.tx.one(_ONE_IMPORT, {"wanted": number})
    if row is None:
        raise not_found("import")
    return row


def find_import(call: Call, text: str, right: Right) -> AnyRow:
    """The import, if the caller has the right in its company. Raises `Refused`."""
    number = row_number(text, "import")
    row = call.tx.one(_ONE_IMPORT, {"wanted": number})
    if row is None:
        raise call.missing(right, see=Right.SEE_DEVICES, what="import")
    call.require(right, row.company_id, see=Right.SEE_DEVICES, what="import")
    return row


def show_import(call: Call, row: AnyRow) -> Import:
    """The public form; nobody carries on what was silent for so long."""
    state = row.state
    if state == "checking" and call.tx.now_ms - row.seen_at > SILENT_MS:
        state = "failed"
    return Import(
        str(row.id),
        str(row.company_id),
        row.file_name,
        row.actor,
        state,
        row.lines,
        row.checked,
        row.bad,
        instant_text(row.at),
        None if row.done_at is None else instant_text(row.done_at),
        None if row.undone_at is None else instant_text(row.undone_at),
    )


@operation("imports.list", "GET", "/devices/imports", right=Right.SEE_DEVICES, result=Imports)
def list_imports(call: Call, given: ListImports) -> Imports:
    """Lists the imports of devices that one may see, newest first."""
    visible = call.visible_of(given.company, Right.SEE_DEVICES, see=Right.SEE_DEVICES)
    statement = select(device_import).where(of_companies(call, device_import.c.company_id, visible))
    rows, cursor = newest(call, statement, device_import.c.id, given)
    return Imports([show_import(call, row) for row in rows], cursor)


@operation(
    "imports.show", "GET", "/devices/imports/{import_id}", right=Right.SEE_DEVICES, result=Import
)
def show_one_import(call: Call, given: OneImport) -> Import:
    """Shows how far an import is, or what became of it."""
    return show_import(call, find_import(call, given.import_id, Right.SEE_DEVICES))
