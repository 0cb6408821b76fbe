"""Reads a file of devices: a table as people's programs write it, checked line by line.

Nothing here knows what is registered already; all that is wrong with the text itself is told at
once, each with its line.
"""

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.refusals import Code, Refused
from gateway.domain.spreadsheets import as_meant
from wire.serials import is_serial

LINES_MAX = 20_000
TEXT_CHARS_MAX = 5_000_000
COLUMNS_MAX = 60
SHORT_CHARS_MAX = 200
NOTES_CHARS_MAX = 4_000
TAGS_MAX = 20
TAG_CHARS_MAX = 40
TAGS_BETWEEN = "|"

COLUMNS = (
    "serial",
    "name",
    "alias",
    "mac",
    "company",
    "tags",
    "notes",
    "reference",
    "auto_extend",
    "activate",
)
# What an export says besides; an import takes no notice of it.
ONLY_EXPORTED = (
    "service",
    "reason",
    "paid_until",
    "days_left",
    "payer",
    "presence",
    "last_heard_at",
    "registered_at",
)
_BOM = "\ufeff"
_DELIMITERS = (",", ";", "\t")
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "1", "on"), True),
    **dict.fromkeys(("false", "no", "0", "off"), False),
}
_STARTS = {**dict.fromkeys(("true", "yes", "1"), "now"), "on_contact": "on_contact"}
_STARTS["later"] = "later"
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is wrong with one line of the file; `line` 1 is the header."""

    line: int
    serial: str
    code: Code
    detail: str
    field: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One device as the file describes it; `company` is empty for the import's own."""

    number: int
    serial: str
    name: str
    alias: str | None
    mac: str | None
    company: str
    tags: list[str]
    notes: str
    reference: str
    auto_extend: bool
    start: str | None  # None: as the import says


@dataclass(slots=True)
class Sheet:
    """The whole file: its lines, and all that is wrong with them."""

    lines: list[Line] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    count: int = 0  # lines that say something, good or bad


class LinesRefused(Refused):
    """A file of which nothing is registered, with every line that does not fit."""

    def __init__(self, bad: Sequence[BadLine], count: int) -> None:
        first_of = {one.line: one for one in reversed(bad)}
        self.lines = [first_of[line] for line in sorted(first_of)]
        codes = {one.code for one in self.lines}
        code = codes.pop() if len(codes) == 1 else Code.VALIDATION
        first = self.lines[0]
        lines = "1 line does" if len(self.lines) == 1 else f"{len(self.lines)} lines do"
        super().__init__(
            code,
            f"{lines} not fit, of {count}; nothing was registered. Line {first.line}: "
            f"{first.detail}",
            field=first.field,
        )


class _Wrong(Exception):
    """A cell that does not fit."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


def read_sheet(text: str) -> Sheet:
    """All lines of the file. Raises `Refused` where its header or its size makes it no such file.

    Separated by commas, semicolons or tabs, whichever the header is; lines may end as they like,
    and empty ones say nothing.
    """
    if len(text) > TEXT_CHARS_MAX or len(text.encode(errors="replace")) > TEXT_CHARS_MAX:
        raise _unfit(f"the file has at most {TEXT_CHARS_MAX:,} bytes; split it")
    text = text.removeprefix(_BOM)
    records = _records(text, _delimiter(text))
    sheet = Sheet()
    header: list[str] | None = None
    first: list[str] = []
    for number, cells in records:
        if isinstance(cells, str):
            sheet.bad.append(BadLine(number, "", Code.VALIDATION, cells, None))
            sheet.count += 1
        elif not any(cell.strip() for cell in cells):
            continue
        elif header is None:
            header, first = _header(cells), cells
        else:
            sheet.count += 1
            if sheet.count > LINES_MAX:
                raise _unfit(f"the file has at most {LINES_MAX:,} lines; split it")
            _add(sheet, number, header, cells, repeated=cells == first)
    if header is None:
        if sheet.bad:
            raise _unfit(f"line {sheet.bad[0].line}: {sheet.bad[0].detail}")
        raise _unfit(f"the file is empty; its first line names the columns: {', '.join(COLUMNS)}")
    if not sheet.count:
        raise _unfit("the file has no line but its header")
    _find_twins(sheet)
    return sheet


def _unfit(detail: str) -> Refused:
    return Refused(Code.VALIDATION, f"csv: {detail}", field="csv")


def _delimiter(text: str) -> str:
    """The one at which the header falls into most columns that there are."""
    head = next((line for line in text[:10_000].splitlines() if line.strip()), "")

    def known(delimiter: str) -> int:
        names = {_plain(name) for name in head.split(delimiter)}
        return len(names & {*COLUMNS, *ONLY_EXPORTED})

    return max(_DELIMITERS, key=known)


def _plain(name: str) -> str:
    return name.strip().strip('"').strip().casefold()


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each record with the line on which it begins; as text: why it, and all after it, is none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, _explained(str(error))
            return
        yield number, cells


def _explained(error: str) -> str:
    if "unexpected end" in error:
        return "a quote is opened here and never closed"
    if "field limit" in error:
        return "a cell is too long, or a quote is opened here and never closed"
    if "expected after" in error:
        return 'a closed quote is followed by more text; a quote in a cell is written twice: ""'
    return f"this is no line of a table: {error}"


def _header(cells: Sequence[str]) -> list[str]:
    """The columns' names. Raises `Refused`."""
    if len(cells) > COLUMNS_MAX:
        raise _unfit(f"the header names {len(cells):,} columns; known are {', '.join(COLUMNS)}")
    names = [_plain(cell) for cell in cells]
    known = (*COLUMNS, *ONLY_EXPORTED)
    for place, name in enumerate(names, 1):
        if not name:
            raise _unfit(f"column {place} of the header has no name")
        if name not in known:
            near = difflib.get_close_matches(name[:_SHOWN_CHARS], COLUMNS, n=1, cutoff=0.0)[0]
            raise _unfit(
                f"unknown column {_shown(name)}; nearest known: {near}; all: {', '.join(COLUMNS)}"
            )
        if names.index(name) != place - 1:
            raise _unfit(f"the column {name} stands twice in the header")
    if "serial" not in names:
        raise _unfit("the header names no column `serial`")
    return names


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def _add(
    sheet: Sheet, number: int, header: Sequence[str], cells: Sequence[str], *, repeated: bool
) -> None:
    by_name = dict(zip(header, (as_meant(cell) for cell in cells), strict=False))
    serial = by_name.get("serial", "").strip()
    try:
        if repeated:
            raise _Wrong("serial", "this is the header once more; leave it out")
        if len(cells) > len(header):
            raise _Wrong("", f"{len(cells)} cells, and the header names {len(header)} columns")
        sheet.lines.append(_line(number, serial, by_name))
    except _Wrong as wrong:
        shown = serial if is_serial(serial) else serial[:_SHOWN_CHARS]
        name = wrong.name or None
        detail = f"{name}: {wrong}" if name else str(wrong)
        sheet.bad.append(BadLine(number, shown, Code.VALIDATION, detail, name))


def _line(number: int, serial: str, cells: Mapping[str, str]) -> Line:
    if not is_serial(serial):
        detail = "missing" if not serial else "6 to 32 of A-Z, a-z, 0-9, _ and -"
        raise _Wrong("serial", detail)
    return Line(
        number,
        serial,
        _short("name", cells),
        cells.get("alias", "").strip() or None,
        cells.get("mac", "").strip() or None,
        cells.get("company", "").strip(),
        _tags(cells.get("tags", "")),
        _notes(cells.get("notes", "")),
        _short("reference", cells),
        _truth("auto_extend", cells.get("auto_extend", "")),
        _start(cells.get("activate", "")),
    )


def _short(name: str, cells: Mapping[str, str]) -> str:
    text = cells.get(name, "")
    if len(text) > SHORT_CHARS_MAX:
        raise _Wrong(name, f"{len(text):,} characters, and {SHORT_CHARS_MAX} are the most")
    if not text.isprintable():
        raise _Wrong(name, "holds a character that cannot be printed")
    return text


def _notes(text: str) -> str:
    if len(text) > NOTES_CHARS_MAX:
        raise _Wrong("notes", f"{len(text):,} characters, and {NOTES_CHARS_MAX:,} are the most")
    if not all(c.isprintable() or c in "\n\r\t" for c in text):
        raise _Wrong("notes", "holds a character that cannot be printed")
    return text


def _tags(cell: str) -> list[str]:
    """`a|b`, or a JSON list where a tag itself needs one of these characters."""
    tags: object = [tag.strip() for tag in cell.split(TAGS_BETWEEN) if tag.strip()]
    if cell.startswith("["):
        try:
            tags = json.loads(cell)
        except (ValueError, RecursionError):
            raise _Wrong("tags", f"write a{TAGS_BETWEEN}b, or a JSON list of texts") from None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise _Wrong("tags", f"write a{TAGS_BETWEEN}b, or a JSON list of texts")
    if len(tags) > TAGS_MAX or any(len(tag) > TAG_CHARS_MAX for tag in tags):
        raise _Wrong("tags", f"at most {TAGS_MAX}, each of at most {TAG_CHARS_MAX} characters")
    if not all(tag.isprintable() for tag in tags):
        raise _Wrong("tags", "hold a character that cannot be printed")
    return tags


def tags_cell(tags: Sequence[str]) -> str:
    """The tags as one cell, which `read_sheet` understands."""
    plain = all(tag and tag == tag.strip() and TAGS_BETWEEN not in tag for tag in tags)
    cell = TAGS_BETWEEN.join(tags)
    if plain and not cell.startswith("["):
        return cell
    return json.dumps(list(tags), ensure_ascii=False)


def _truth(name: str, cell: str) -> bool:
    text = cell.strip().casefold()
    if not text:
        return True
    if text not in _TRUTHS:
        raise _Wrong(name, "true or false")
    return _TRUTHS[text]


def _start(cell: str) -> str | None:
    text = cell.strip().casefold()
    if not text:
        return None
    if text not in _STARTS:
        raise _Wrong("activate", "true, on_contact or later")
    return _STARTS[text]


def _find_twins(sheet: Sheet) -> None:
    """A serial that stands twice: the first of them is good."""
    first: dict[str, int] = {}
    kept = []
    for line in sheet.lines:
        before = first.setdefault(line.serial, line.number)
        if before == line.number:
            kept.append(line)
            continue
        detail = f"serial: stands on line {before} already"
        sheet.bad.append(BadLine(line.number, line.serial, Code.VALIDATION, detail, "serial"))
    sheet.lines = kept
