"""`docs/architecture.md` against the program: rooms, tables, files that it names."""

import re

from gateway.storage.schema import metadata
from tests.contract.tables import ROOT, tables

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLES = tables("architecture.md")


def test_every_table_is_named_once() -> None:
    said = [name for row in TABLES["table | holds"] for name in row["table"].split(", ")]
    assert sorted(said) == sorted(metadata.tables)


def test_every_room_is_named_and_exists() -> None:
    said = {row["room"].rstrip("/") for row in TABLES["room | holds"]}
    made = {"wire", "agent", "firmware_sim", "tests", "bench"} | {
        path.parent.relative_to(ROOT).as_posix()
        for program in ("gateway", "broker")
        for path in ROOT.glob(f"{program}/*/__init__.py")
    }
    assert said == made


def test_files_that_the_page_names_exist() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", PAGE)
    assert links
    for link in links:
        assert (ROOT / "docs" / link).exists(), link
    for name in re.findall(r"`(tests/[\w./*]+)`", PAGE):
        assert list(ROOT.glob(name)), name
    for name in re.findall(r"`((?:operations|domain)/\w+\.py)`", PAGE):
        assert (ROOT / "gateway" / name).exists(), name


def test_each_word_has_one_meaning() -> None:
    words = [word for row in TABLES["word | meaning"] for word in row["word"].split(", ")]
    assert len(words) == len(set(words)) > 20
