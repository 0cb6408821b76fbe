"""The journal names each sample that entered a spool once, also when a process died in between."""

import json
from pathlib import Path

from firmware_sim.journal import JournalFile

SERIAL, RUN = "1100000001", "r" * 11


def made(path: Path) -> list[int]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry["number"] for entry in entries if entry["event"] == "made"]


def test_what_an_earlier_process_wrote_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = JournalFile(path)
    first.made(SERIAL, RUN, 1, 5)
    first.made(SERIAL, RUN, 2, 6)
    first.receipted(SERIAL, RUN, [1], 7)
    first.close()
    second = JournalFile(path)
    second.made(SERIAL, RUN, 2, 6)  # found in the spool, and told before
    second.made(SERIAL, "s" * 11, 1, 9)
    second.close()
    assert made(path) == [1, 2, 1]
    assert second.made_count == 1


def test_what_an_earlier_process_could_not_write_any_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = JournalFile(path)
    first.made(SERIAL, RUN, 1, 5)
    first.close()
    second = JournalFile(path)
    second.made(SERIAL, RUN, 2, 6)
    second.close()
    assert made(path) == [1, 2]


def test_a_line_that_is_being_written_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = JournalFile(path)
    first.made("1100000001", "r" * 11, 1, 5)
    first.close()
    with path.open("a", encoding="ascii") as file:
        file.write('{"event": "made", "serial": "11000')
    again = JournalFile(path)
    again.made("1100000001", "r" * 11, 1, 5)
    assert again.made_count == 0
    again.close()
