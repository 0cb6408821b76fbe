"""Tables as CSV: RFC 4180 in UTF-8, or as Excel opens it; text that Excel would run is disarmed."""

import csv
import io
from collections.abc import Iterable, Sequence

from gateway.domain.spreadsheets import disarmed

_BOM = "\ufeff"  # Excel takes UTF-8 for something else without it

Cell = str | int | bool | None


def write_csv(header: Sequence[str], rows: Iterable[Sequence[Cell]], excel: bool) -> str:
    """The table as text: separated by commas, or with a BOM and semicolons as Excel wants it.

    Numbers stay numbers; text that begins like a formula gets an apostrophe in front.
    """
    out = io.StringIO(newline="")
    if excel:
        out.write(_BOM)
    writer = csv.writer(out, delimiter=";" if excel else ",", lineterminator="\r\n")
    writer.writerow([_cell(name) for name in header])
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return out.getvalue()


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return disarmed(value)
