"""Tables of our own markdown pages, as the tests read them."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def cells(line: str) -> list[str]:
    """The cells of one row, without backticks."""
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def tables(page: str) -> dict[str, list[dict[str, str]]]:
    """Every table of `docs/<page>`, by its whole heading row, joined by ` | `."""
    found: dict[str, list[dict[str, str]]] = {}
    heading: list[str] = []
    drawing = False
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        drawing ^= line.startswith("```")
        if drawing or not line.startswith("|"):
            heading = []
        elif not heading:
            heading = cells(line)
            rows = found.setdefault(" | ".join(heading), [])
        elif set(line) - set("|-: "):
            row = cells(line)
            assert len(row) == len(heading), line
            rows.append(dict(zip(heading, row, strict=True)))
    return found
