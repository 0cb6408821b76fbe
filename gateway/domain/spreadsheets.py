"""Cells of tables that spreadsheets open: text that they would run is disarmed, and given back."""

# A cell that begins so is reckoned by spreadsheets; the wide forms are taken for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Whatever stands before it may be thrown away when the file is opened. The apostrophe is among
# them so that a text which begins with one and a formula comes back as it was.
_SKIPPED = " '\u00a0\x00\ufeff"
_MARK = "'"


def disarmed(text: str) -> str:
    """The text as a cell that no spreadsheet runs."""
    return f"{_MARK}{text}" if _would_run(text) else text


def as_meant(cell: str) -> str:
    """The text that such a cell stands for."""
    return cell[1:] if cell.startswith(_MARK) and _would_run(cell) else cell


def _would_run(text: str) -> bool:
    return text.lstrip(_SKIPPED).startswith(_FORMULA)
