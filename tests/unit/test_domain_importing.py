"""Files of devices as people's programs write them, and as nobody should."""

import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.importing import (
    COLUMNS_MAX,
    LINES_MAX,
    TEXT_CHARS_MAX,
    LinesRefused,
    read_sheet,
    tags_cell,
)
from gateway.domain.refusals import Code, Refused
from gateway.domain.spreadsheets import as_meant, disarmed

S = "0000000001"


def why(text: str) -> str:
    """Why the whole file is refused."""
    with pytest.raises(Refused) as caught:
        read_sheet(text)
    assert (caught.value.code, caught.value.field) == (Code.VALIDATION, "csv")
    assert len(caught.value.detail) < 1_000
    assert caught.value.detail.isprintable()
    return caught.value.detail


def wrong(text: str) -> list[tuple[int, str]]:
    return [(one.line, one.detail) for one in read_sheet(text).bad]


def one_line(header: str, line: str) -> list[str]:
    return [detail for _, detail in wrong(f"{header}\n{line}\n")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\ufeff\n\n", "empty"),
        ("serial", "no line but its header"),
        ("name\nPump\n", "names no column `serial`"),
        ("serial,nmae\n", "unknown column 'nmae'; nearest known: name"),
        ("serial,Serial\n", "serial stands twice"),
        ("serial,,name\n", "column 2 of the header has no name"),
        ("serial," + ",".join("abc" for _ in range(10_000)) + "\n", "10,001 columns"),
        ("serial" + "," * COLUMNS_MAX + "\n", f"{COLUMNS_MAX + 1} columns"),
        ("x" * 1_000_000, "line 1: a cell is too long"),
        ('"serial\n' + S * 20, "line 1: a quote is opened here and never closed"),
        ('"serial\n' + S * 20_000, "line 1: a cell is too long"),
        ("\u0073\u0000\u0065\u0000", "unknown column"),
        ("serial\x1b[31m\n", "unknown column"),
        ("serial\n" + f"{S}\n" * (LINES_MAX + 1), "at most 20,000 lines"),
        ("serial\n" + "x" * TEXT_CHARS_MAX, "at most 5,000,000 bytes"),
        ("serial\n" + "ü" * (TEXT_CHARS_MAX // 2), "at most 5,000,000 bytes"),
    ],
)
def test_what_is_no_such_file_is_refused_with_what_to_do(text: str, says: str) -> None:
    assert says in why(text)


def test_a_file_that_is_read_in_the_wrong_encoding_names_no_column() -> None:
    assert "unknown column" in why("serial\n1".encode("utf-16").decode("latin-1"))


def test_a_quote_that_is_never_closed_is_told_with_the_line_that_opens_it() -> None:
    text = f'serial,name\n{S},ok\n0000000002,"never\n0000000003,closed\n'
    sheet = read_sheet(text)
    assert [(one.number, one.serial) for one in sheet.lines] == [(2, S)]
    assert [(one.line, one.detail) for one in sheet.bad] == [
        (3, "a quote is opened here and never closed")
    ]
    assert one_line("serial,name", f'{S},"closed" and more') == [
        'a closed quote is followed by more text; a quote in a cell is written twice: ""'
    ]
    assert "too long" in one_line("serial,name", f"{S},{'x' * 1_000_000}")[0]


def test_a_line_number_is_that_of_the_file_as_people_see_it() -> None:
    text = f'serial,name\r\n\r\n{S},"two\nlines"\r0000000002,one\nbad,three\r\n'
    sheet = read_sheet(text)
    assert [(one.number, one.name) for one in sheet.lines] == [(5, "one")]
    assert [(one.line, one.serial) for one in sheet.bad] == [(3, S), (6, "bad")]


@pytest.mark.parametrize(
    ("header", "line", "says"),
    [
        ("serial", "12345", "serial: 6 to 32 of A-Z, a-z, 0-9, _ and -"),
        ("serial", "1.2E+09", "serial: 6 to 32"),
        ("serial", "０００００００００１", "serial: 6 to 32"),
        ("serial,name", ",Pump", "serial: missing"),
        ("serial,name", "serial,name", "serial: this is the header once more; leave it out"),
        ("serial", f"{S},Pump", "2 cells, and the header names 1 columns"),
        ("serial,name", f"{S},{'x' * 201}", "name: 201 characters, and 200 are the most"),
        ("serial,name", f"{S},a\x1b[31m", "name: holds a character that cannot be printed"),
        ("serial,name", f"{S},a\u202eb", "name: holds a character that cannot be printed"),
        ("serial,reference", f'{S},"a\nb"', "reference: holds a character that cannot"),
        ("serial,notes", f"{S},a\x07", "notes: holds a character that cannot be printed"),
        ("serial,notes", f"{S},{'x' * 4_001}", "notes: 4,001 characters, and 4,000"),
        ("serial,tags", f"{S},{'|'.join(map(str, range(21)))}", "tags: at most 20"),
        ("serial,tags", f"{S},{'x' * 41}", "tags: at most 20, each of at most 40"),
        ("serial,tags", f"{S},[1]", "tags: write a|b, or a JSON list of texts"),
        ("serial,tags", f"{S},[", "tags: write a|b, or a JSON list of texts"),
        ("serial,tags", f"{S},{'[' * 50_000}", "tags: write a|b, or a JSON list of texts"),
        ("serial,tags", f"{S},[{'9' * 10_000}]", "tags: write a|b, or a JSON list of texts"),
        ("serial,auto_extend", f"{S},perhaps", "auto_extend: true or false"),
        ("serial,activate", f"{S},false", "activate: true, on_contact or later"),
        ("serial,activate", f"{S},now", "activate: true, on_contact or later"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(header: str, line: str, says: str) -> None:
    (detail,) = one_line(header, line)
    assert detail.startswith(says)


def test_a_serial_that_stands_twice_is_told_with_the_line_of_the_first() -> None:
    assert wrong(f"serial\n{S}\nabcdef\n{S}\n") == [(4, "serial: stands on line 2 already")]


def test_all_that_is_wrong_is_told_once_for_each_line_in_their_order() -> None:
    bad = read_sheet(f"serial,name\n12,\n{S},\x1b\n3,\n").bad
    refused = LinesRefused([*reversed(bad), *bad], 3)
    assert [one.line for one in refused.lines] == [2, 3, 4]
    assert refused.detail.startswith("3 lines do not fit, of 3; nothing was registered. Line 2:")


def test_columns_of_an_export_are_taken_no_notice_of() -> None:
    (line,) = read_sheet(f"paid_until,serial,service\n2027,{S},active\n").lines
    assert (line.serial, line.auto_extend, line.start) == (S, True, None)


@given(st.text(max_size=30))
def test_a_disarmed_cell_stands_for_the_text_it_was(text: str) -> None:
    cell = disarmed(text)
    assert as_meant(cell) == text
    assert not cell.lstrip(" \u00a0\x00\ufeff").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=40), max_size=20))
def test_tags_come_back_from_their_cell(tags: list[str]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["serial", "tags"], [S, disarmed(tags_cell(tags))]])
    sheet = read_sheet(out.getvalue())
    # A blank that nobody can type into a table is refused rather than changed.
    assert [line.tags for line in sheet.lines] == [tags] or "tags: hold" in sheet.bad[0].detail


@given(st.text(alphabet=st.sampled_from("serial,;\t\n\r\"'0123456789ab=+\ufeff |[]"), max_size=200))
def test_whatever_text_it_is_it_is_read_or_refused(text: str) -> None:
    for header in ("", "serial,name,tags\n"):
        with suppress(Refused):
            sheet = read_sheet(header + text)
            assert len(sheet.lines) + len(sheet.bad) == sheet.count
            assert all(one.line > 1 for one in sheet.bad)
