"""Compares what agents wrote down about their samples with what the API says is stored.

The journals are written by the agents' process, not by the product's server: `made` when a sample
is in the spool, `receipted` when a receipt covered it. What must hold, whatever was
killed: no receipted sample is missing, none is stored twice, none is stored that nobody made, and
after quiet time every sample made is stored, at the time at which it was made.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

SHOWN_MAX = 5


class Sample(NamedTuple):
    """What identifies a sample for ever."""

    serial: str
    run: str
    number: int


@dataclass
class Journal:
    """What agents wrote down, with the wall clock of their machine."""

    made: dict[Sample, int] = field(default_factory=dict)
    receipted: dict[Sample, int] = field(default_factory=dict)
    _read: dict[Path, int] = field(default_factory=dict)

    def read(self, paths: Iterable[Path]) -> "Journal":
        """Takes in what was appended since the last time; a line not yet whole waits."""
        for path in paths:
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
            self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
            for line in whole.splitlines():
                entry = json.loads(line)
                sample = Sample(entry["serial"], entry["run"], entry["number"])
                events = self.made if entry["event"] == "made" else self.receipted
                events.setdefault(sample, entry["at"])
        return self

    def unreceipted(self, until_ms: int) -> set[Sample]:
        """Samples made until then that no receipt has covered yet."""
        return {s for s, at in self.made.items() if at <= until_ms and s not in self.receipted}


@dataclass(frozen=True, slots=True)
class Kill:
    """One `kill -9`."""

    what: str
    at_ms: int


def stored_samples(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[Sample, int]]:
    """From the items of `GET /devices/{serial}/heartbeats`, by serial."""
    return [
        (
            Sample(serial, item["run"], item["number"]),
            round(datetime.fromisoformat(item["at"]).timestamp() * 1000),
        )
        for serial, items in answers.items()
        for item in items
    ]


@dataclass
class Findings:
    """What is wrong, and whether the proof was one."""

    made: int
    receipted: int
    stored: int
    lost: list[Sample]
    doubled: list[Sample]
    unexpected: list[Sample]
    missing: list[Sample]
    misdated: list[tuple[Sample, int]]
    kills: int
    kills_in_flight: int
    latest_error_ms: int

    def summary(self) -> str:
        return (
            f"made {self.made}, receipted {self.receipted}, stored {self.stored}; "
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, "
            f"unexpected {len(self.unexpected)}, missing {len(self.missing)}, "
            f"misdated {len(self.misdated)}; "
            f"kills in flight {self.kills_in_flight} of {self.kills}"
        )

    def insist(self) -> None:
        """Fails with what is wrong, or when nothing was proved."""
        wrong = {
            name: getattr(self, name)[:SHOWN_MAX]
            for name in ("lost", "doubled", "unexpected", "missing", "misdated")
            if getattr(self, name)
        }
        assert not wrong, f"{self.summary()}: {wrong}"
        assert self.receipted and self.stored, f"vacuous: {self.summary()}"
        if self.kills:
            assert self.kills_in_flight, f"vacuous, no kill met a sample: {self.summary()}"


def check(
    journal: Journal,
    stored: Sequence[tuple[Sample, int]],
    *,
    kills: Sequence[Kill] = (),
    settled_ms: int,
    error_ms_max: int,
) -> Findings:
    """`settled_ms`: samples made until then had the time to be stored."""
    count = Counter(sample for sample, _ in stored)
    missing = {s for s, at in journal.made.items() if at <= settled_ms and s not in count}
    lost = [sample for sample in journal.receipted if sample not in count]
    errors = [(s, at - journal.made[s]) for s, at in stored if s in journal.made]
    return Findings(
        made=len(journal.made),
        receipted=len(journal.receipted),
        stored=len(stored),
        lost=sorted(lost),
        doubled=sorted(sample for sample, times in count.items() if times > 1),
        unexpected=sorted(sample for sample in count if sample not in journal.made),
        missing=sorted(missing),
        misdated=sorted((s, error) for s, error in errors if abs(error) > error_ms_max),
        kills=len(kills),
        kills_in_flight=sum(_met_samples(journal, kill) for kill in kills),
        latest_error_ms=max((abs(error) for _, error in errors), default=0),
    )


def _met_samples(journal: Journal, kill: Kill) -> bool:
    """Whether a sample had been made before the kill and was receipted only after it."""
    return any(
        at <= kill.at_ms < journal.receipted[sample]
        for sample, at in journal.made.items()
        if sample in journal.receipted
    )
