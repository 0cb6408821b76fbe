"""`docs/pages.md`: every operation stands there, with the page that has it or "API only"."""

import re

from gateway.api.catalogue import all_operations
from gateway.web.done_texts import DONE
from tests.contract.tables import ROOT
from tests.page_sources import on_pages

PAGE = (ROOT / "docs" / "pages.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z-]+\.[a-z_-]+)` \| (.+?) \| (.*?) \|$", re.MULTILINE)
ROWS = {name: (where, how) for name, where, how in ROW.findall(PAGE)}
API_ONLY = "API only"


def test_every_operation_has_a_row_and_no_row_lacks_its_operation() -> None:
    names = ROW.findall(PAGE)
    assert len(names) == len(ROWS), "an operation stands there twice"
    assert {*ROWS} == {op.name for op in all_operations()}


def test_api_only_is_what_no_page_has() -> None:
    said = {name for name, (where, _) in ROWS.items() if where == API_ONLY}
    assert said == {op.name for op in all_operations()} - on_pages()


def test_what_is_api_only_says_why() -> None:
    for name, (where, how) in ROWS.items():
        assert (where == API_ONLY) or where.startswith("`/"), name
        assert how.strip() or where != API_ONLY, f"{name}: why is it not on a page?"


def test_what_is_done_is_an_operation() -> None:
    assert {*DONE} <= {op.name for op in all_operations() if op.writes}
