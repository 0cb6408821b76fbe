"""Keeps every sample until a receipt settles it, in a file in memory and a snapshot on flash.

Settled means: a receipt of the gateway covers run and number. Nothing else takes a sample out,
except the limit (then the oldest are thinned to one per hour) and the gateway's refusal. What is
taken out without having been receipted is counted exactly, over the life of the state directory:
`dropped` counts both, thinned and refused samples; `refused` counts the latter alone.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.sample_pack import PackError, pack, unpack
from agent.spool_file import (
    BootRecord,
    GoneRecord,
    Record,
    RunRecord,
    SampleRecord,
    SpoolFile,
    gone_records,
    write_file,
)
from agent.spool_index import RUNS_MAX, SpoolIndex, consecutive
from wire.fields import Value
from wire.ranges import Settled

log = logging.getLogger(__name__)

SPOOL_LIMIT = 10_000
LIMIT_MIN = 10
FILE_NAME = "spool"
SNAPSHOT_NAME = "spool.snapshot"
OFFSET_STEP_MS = 1_000
_DEAD_BYTES_MAX = 64 * 1024
_THIN_SHARE = 20  # a twentieth is dropped at a time, so that thinning is rare
_SECONDS_PER_HOUR = 3_600


class Stored(NamedTuple):
    """A sample as it stands in the spool."""

    number: int
    boot_ms: int
    values: dict[int, Value]


class Spool:
    """All samples without a receipt, of this run and of earlier ones."""

    def __init__(self, directory: Path, state: Path, *, limit: int = SPOOL_LIMIT) -> None:
        assert limit >= LIMIT_MIN
        self._path = directory / FILE_NAME
        self._snapshot_path = state / SNAPSHOT_NAME
        self._limit = limit
        self._index = SpoolIndex()
        self._boots: dict[int, BootRecord] = {}
        self._runs: dict[int, RunRecord] = {}
        self._run_index: dict[str, int] = {}
        self.dropped = 0
        self.refused = 0
        self._live_bytes = 0
        self._changes = 0
        self._changes_saved = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.geteuid():
            # In a folder that everybody may write, somebody else was here first.
            raise PermissionError(f"{directory} belongs to another user")
        if not self._path.exists() and self._snapshot_path.exists():
            # The power was cut: memory is empty, and flash holds what it was some minutes ago.
            beside = self._path.with_name(FILE_NAME + ".new")
            shutil.copyfile(self._snapshot_path, beside)
            beside.replace(self._path)
        self._file = SpoolFile(self._path)
        for offset, record in self._file.scan():
            self._load(offset, record)
        self._compact()
        # Whether flash holds the same is not known, so the first snapshot is always written.
        self._changes_saved = -1

    def _load(self, offset: int, record: Record) -> None:
        if isinstance(record, SampleRecord):
            second = record.boot_ms // 1_000 & 0xFFFF_FFFF
            self._index.append(record.run, record.number, offset, second)
        elif isinstance(record, GoneRecord):
            for first, last in record.ranges:
                self._index.delete(*self._index.span(record.run, first, last))
            self.dropped, self.refused = record.dropped, record.refused
        elif isinstance(record, RunRecord):
            self._runs[record.slot] = record
            self._run_index[record.run] = record.slot
        else:
            self._boots[record.slot] = record

    def __len__(self) -> int:
        return len(self._index)

    # The current run

    def begin_run(self, run: str, boot_id: str) -> None:
        """Opens a new life of the counter; everything appended from now on belongs to it."""
        if max(self._runs, default=0) >= RUNS_MAX or max(self._boots, default=0) >= RUNS_MAX:
            self._compact()
        boot = next((b for b in self._boots.values() if b.boot_id == boot_id), None)
        if boot is None:
            boot = BootRecord(max(self._boots, default=0) + 1, boot_id, None)
        record = RunRecord(max(self._runs, default=0) + 1, run, boot.slot)
        self._file.append(boot, record)
        self._boots[boot.slot] = boot
        self._runs[record.slot] = record
        self._run_index[run] = record.slot

    def note_offset(self, run: str, offset_ms: int) -> None:
        """Keeps how far the wall clock is from the boot-time clock, when it stepped."""
        boot = self._boots[self._runs[self._run_index[run]].boot]
        if boot.offset_ms is not None and abs(boot.offset_ms - offset_ms) <= OFFSET_STEP_MS:
            return
        changed = boot._replace(offset_ms=offset_ms)
        try:
            self._file.append(changed)
        except OSError as error:
            log.warning("clock step not kept error=%s", error)
            return
        self._boots[boot.slot] = changed
        self._changes += 1

    def append(self, run: str, number: int, boot_ms: int, values: dict[int, Value]) -> bool:
        """Keeps one sample; False when there was no room even after thinning (it is counted)."""
        if len(self._index) >= self._limit:
            self._thin()
        record = SampleRecord(self._run_index[run], number, boot_ms, pack(values))
        try:
            offset = self._file.append(record)
        except OSError as error:
            log.warning("sample dropped, the spool cannot be written error=%s", error)
            self.dropped += 1
            return False
        second = boot_ms // 1_000 & 0xFFFF_FFFF
        self._index.append(record.run, number, offset, second)
        self._live_bytes += self._file.size - offset
        self._changes += 1
        return True

    # What the heartbeats ask

    def runs(self) -> Iterator[str]:
        """The runs with samples, oldest first."""
        for index in self._index.runs():
            yield self._runs[index].run

    def count(self, run: str) -> int:
        """How many samples of the run are here."""
        low, high = self._bounds(run)
        return high - low

    def lowest(self, run: str) -> int | None:
        """The smallest number of the run that is here."""
        low, high = self._bounds(run)
        return self._index.number[low] if low < high else None

    def highest(self, run: str) -> int:
        """The largest number of the run that is here; 0 when none is."""
        low, high = self._bounds(run)
        return self._index.number[high - 1] if low < high else 0

    def boot_of(self, run: str) -> BootRecord:
        """The boot in which the run was lived."""
        return self._boots[self._runs[self._run_index[run]].boot]

    def numbers(self, run: str, first: int, last: int, *, count_max: int) -> list[int]:
        """Numbers of the run from `first` to `last`, at most so many, the lowest ones."""
        if run not in self._run_index:
            return []
        low, high = self._index.span(self._run_index[run], first, last)
        return self._index.number[low : min(high, low + count_max)].tolist()

    def second_of(self, run: str, number: int) -> int | None:
        """Boot-time second at which the sample was made, without reading the file."""
        if run not in self._run_index:
            return None
        low, high = self._index.span(self._run_index[run], number, number)
        return self._index.second[low] if low < high else None

    def read(self, run: str, number: int) -> Stored | None:
        """One sample; None when it is not here, or was damaged (then it is dropped)."""
        low, high = self._index.span(self._run_index[run], number, number)
        if low == high:
            return None
        record = self._file.read_sample(self._index.offset[low])
        try:
            if record is None or record.number != number:
                raise PackError("the record is not what the index says")
            return Stored(number, record.boot_ms, unpack(record.packed))
        except PackError as error:
            log.warning("sample dropped, it cannot be read error=%s", error)
            self._remove(run, [(number, number)], counted=True)
            return None

    def strike(self, run: str, numbers: list[int]) -> int:
        """Counts one failed sending against these; the highest count among them."""
        highest = 0
        for number in numbers:
            low, high = self._index.span(self._run_index[run], number, number)
            if low < high:
                self._index.strikes[low] = min(self._index.strikes[low] + 1, 255)
                highest = max(highest, self._index.strikes[low])
        return highest

    def strikes(self, run: str, number: int) -> int:
        """How often sending the sample has failed."""
        low, high = self._index.span(self._run_index[run], number, number)
        return self._index.strikes[low] if low < high else 0

    # How samples leave

    def settle(self, run: str, settled: Settled) -> list[int]:
        """Lets go of what a receipt covers; the numbers that this settled now."""
        if run not in self._run_index:
            return []
        return self._remove(run, [(1, settled.upto), *settled.ranges], counted=False)

    def refuse(self, run: str, first: int, last: int) -> int:
        """Drops what the gateway will never take, and counts it; how many that were."""
        if run not in self._run_index:
            return 0
        numbers = self.numbers(run, first, last, count_max=self._limit)
        self.refused += len(numbers)
        self._remove(run, [(first, last)], counted=True)
        return len(numbers)

    def _remove(self, run: str, ranges: list[tuple[int, int]], *, counted: bool) -> list[int]:
        index = self._run_index[run]
        removed: list[int] = []
        for first, last in ranges:
            low, high = self._index.span(index, first, last)
            removed.extend(self._index.number[low:high])
            self._index.delete(low, high)
        if not removed:
            return removed
        removed.sort()
        if counted:
            self.dropped += len(removed)
        gone = gone_records(index, self.dropped, self.refused, consecutive(removed))
        try:
            self._file.append(*gone)
        except OSError as error:
            # After a restart they would be sent once more, and receipted as repeats.
            log.warning("removal not kept error=%s", error)
        self._changes += 1
        self._live_bytes -= self._live_bytes * len(removed) // (len(self._index) + len(removed))
        if self._file.size - self._live_bytes > max(_DEAD_BYTES_MAX, self._live_bytes):
            self._compact()
        return removed

    def _thin(self) -> None:
        """Makes room: of the oldest samples one per hour stays, then the oldest go altogether."""
        wanted = max(1, self._limit // _THIN_SHARE)
        doomed: dict[int, list[int]] = {}
        count, hour_before = 0, (-1, -1)
        for position in range(len(self._index)):
            run = self._index.run[position]
            hour = (run, self._index.second[position] // _SECONDS_PER_HOUR)
            if hour == hour_before:
                doomed.setdefault(run, []).append(self._index.number[position])
                count += 1
                if count >= wanted:
                    break
            hour_before = hour
        if not count:
            for position in range(wanted):
                run = self._index.run[position]
                doomed.setdefault(run, []).append(self._index.number[position])
        # By name: removing may compact the file, and that gives the runs new numbers.
        named = [(self._runs[run].run, consecutive(numbers)) for run, numbers in doomed.items()]
        for name, ranges in named:
            self._remove(name, ranges, counted=True)
        log.warning("spool full, oldest samples thinned dropped=%d", self.dropped)

    # Files

    def snapshot(self) -> bool:
        """Copies the spool to flash when anything changed since the last time."""
        if self._changes == self._changes_saved:
            return False
        changes = self._changes
        write_file(self._snapshot_path, self._records(), durable=True)
        self._changes_saved = changes
        return True

    def close(self) -> None:
        """Gives the file back; what it holds is found at the next start."""
        self._file.close()

    def _bounds(self, run: str) -> tuple[int, int]:
        index = self._run_index.get(run)
        return (0, 0) if index is None else self._index.bounds(index)

    def _kept_runs(self) -> list[RunRecord]:
        with_samples = set(self._index.runs())
        newest = max(self._runs, default=0)
        return [r for i, r in sorted(self._runs.items()) if i in with_samples or i == newest]

    def _records(self) -> Iterator[Record]:
        runs = self._kept_runs()
        yield from (self._boots[boot] for boot in sorted({run.boot for run in runs}))
        yield from runs
        if self.dropped and runs:
            yield GoneRecord(runs[-1].slot, self.dropped, self.refused, ())
        for offset in self._index.offset:
            record = self._file.read_sample(offset)
            if record is not None:
                yield record

    def _compact(self) -> None:
        """Writes the file anew with what is still needed, under small run and boot numbers."""
        runs = self._kept_runs()
        boots = sorted({run.boot for run in runs})
        boot_numbers = {old: new for new, old in enumerate(boots, 1)}
        run_numbers = {run.slot: new for new, run in enumerate(runs, 1)}

        def renumbered() -> Iterator[Record]:
            for record in self._records():
                if isinstance(record, BootRecord):
                    yield record._replace(slot=boot_numbers[record.slot])
                elif isinstance(record, RunRecord):
                    yield RunRecord(run_numbers[record.slot], record.run, boot_numbers[record.boot])
                else:
                    yield record._replace(run=run_numbers[record.run])

        try:
            write_file(self._path, renumbered(), durable=False)
        except OSError as error:
            log.warning("spool not compacted error=%s", error)
            self._live_bytes = self._file.size
            return
        old, strikes = self._file, self._index.strikes
        self._index, self._boots, self._runs, self._run_index = SpoolIndex(), {}, {}, {}
        self._file = SpoolFile(self._path)
        for offset, record in self._file.scan():
            self._load(offset, record)
        if len(strikes) == len(self._index):
            self._index.strikes = strikes
        else:
            # Records that somebody else damaged; they are lost, and that is counted.
            self.dropped += len(strikes) - len(self._index)
        old.close()
        self._live_bytes = self._file.size


def empty(directory: Path, state: Path) -> None:
    """Forgets every sample: they belong to another installation."""
    for path in (directory / FILE_NAME, state / SNAPSHOT_NAME):
        path.unlink(missing_ok=True)
