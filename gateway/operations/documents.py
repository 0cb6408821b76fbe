"""Answers that are a file for people's other programs instead of JSON."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from gateway.operations.csv_text import Cell, write_csv

CSV_TYPE = "text/csv"
TableFormat = Literal["json", "csv", "csv-excel"]


class Document(msgspec.Struct):
    """A file; its name is what a browser saves it under."""

    content_type: str
    file_name: str
    text: str


def table_document(
    name: str, format_: TableFormat, heads: Sequence[str], rows: Iterable[Sequence[Cell]]
) -> Document:
    """A table as CSV; `csv-excel` as Excel opens it where the comma is a decimal one."""
    text = write_csv(heads, rows, format_ == "csv-excel")
    return Document(CSV_TYPE, f"{name}.csv", text)
