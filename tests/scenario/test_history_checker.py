"""The history checker finds what is planted, and does not pass a run that proved nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.scenario.history_checker import (
    Findings,
    Journal,
    Kill,
    Sample,
    check,
    stored_samples,
)

A, B = "1100000001", "1100000002"
RUN = "AAAAAAAAAAA"


def journal_of(*lines: tuple[str, str, int, int]) -> Journal:
    journal = Journal()
    for event, serial, number, at in lines:
        events = journal.made if event == "made" else journal.receipted
        events[Sample(serial, RUN, number)] = at
    return journal


GOOD = journal_of(
    ("made", A, 1, 1_000),
    ("made", A, 2, 2_000),
    ("receipted", A, 1, 2_500),
    ("receipted", A, 2, 2_500),
    ("made", B, 1, 1_500),
    ("receipted", B, 1, 3_500),
)
STORED = [(Sample(A, RUN, 1), 1_001), (Sample(A, RUN, 2), 2_000), (Sample(B, RUN, 1), 1_499)]
KILLS = [Kill("gateway", 2_000)]


def findings(
    journal: Journal = GOOD,
    stored: Sequence[tuple[Sample, int]] = STORED,
    kills: Sequence[Kill] = KILLS,
    settled_ms: int = 9_000,
) -> Findings:
    return check(journal, stored, kills=kills, settled_ms=settled_ms, error_ms_max=1_500)


def test_a_good_history_passes() -> None:
    found = findings()
    found.insist()
    assert found.kills_in_flight == 1
    assert found.latest_error_ms == 1


def test_a_receipted_sample_that_is_missing_is_found() -> None:
    with pytest.raises(AssertionError, match="'lost'"):
        findings(stored=STORED[:2]).insist()


def test_a_sample_stored_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="'doubled'"):
        findings(stored=[*STORED, STORED[0]]).insist()


def test_a_sample_that_nobody_made_is_found() -> None:
    with pytest.raises(AssertionError, match="'unexpected'"):
        findings(stored=[*STORED, (Sample(A, RUN, 3), 3_000)]).insist()


def test_a_sample_that_stays_unstored_is_found_after_quiet_time_only() -> None:
    journal = journal_of(("made", A, 3, 5_000))
    journal.made = GOOD.made | journal.made
    journal.receipted = GOOD.receipted
    findings(journal, settled_ms=4_000).insist()
    with pytest.raises(AssertionError, match="'missing'"):
        findings(journal, settled_ms=5_000).insist()


def test_a_sample_with_a_wrong_time_is_found() -> None:
    with pytest.raises(AssertionError, match="'misdated'"):
        findings(stored=[*STORED[:2], (STORED[2][0], 9_000)]).insist()


def test_a_run_that_proved_nothing_fails() -> None:
    with pytest.raises(AssertionError, match="vacuous"):
        findings(kills=[Kill("gateway", 10)]).insist()
    with pytest.raises(AssertionError, match="vacuous"):
        findings(Journal(), []).insist()


def test_a_journal_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    line = {"event": "made", "serial": A, "run": RUN, "number": 1, "at": 5}
    text = json.dumps(line) + "\n"
    journal = Journal()
    journal.read([path])
    path.write_text(text + json.dumps(line | {"number": 2})[:20])
    assert len(journal.read([path]).made) == 1
    path.write_text(text + json.dumps(line | {"number": 2}) + "\n")
    assert len(journal.read([path]).made) == 2
    assert journal.unreceipted(4) == set()
    assert len(journal.unreceipted(5)) == 2


def test_what_the_api_says_becomes_samples() -> None:
    item = {"run": RUN, "number": 7, "at": "2026-01-01T00:00:00.250Z", "fields": {}}
    assert stored_samples({A: [item]}) == [(Sample(A, RUN, 7), 1_767_225_600_250)]
