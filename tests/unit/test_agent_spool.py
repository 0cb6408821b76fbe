"""The spool: what a kill at any byte, a power cut and a full memory leave of it."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.sample_pack import PackError, pack, unpack
from agent.spool import FILE_NAME, SPOOL_LIMIT, Spool, Stored, empty
from agent.spool_file import SpoolFile
from wire.fields import FIELDS, Field, Value
from wire.ranges import Settled

LIMIT = 40


def run_name(number: int) -> str:
    return f"run{number:08d}"


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory, self.flash = self.folder / "memory", self.folder / "flash"
        self.expected: dict[tuple[str, int], Stored] = {}
        self.snapshot: dict[tuple[str, int], Stored] = {}
        self.snapshot_dropped = 0
        self.runs = 0
        self.now_ms = 0
        self.dropped = 0
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.memory, self.flash, limit=LIMIT)
        self.runs += 1
        self.run = run_name(self.runs)
        self.number = 0
        self.spool.begin_run(self.run, f"boot-{self.runs // 3}")

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    @rule(count=st.integers(1, 30), every_s=st.sampled_from([60, 900, 4_000]))
    def append(self, count: int, every_s: int) -> None:
        for _ in range(count):
            self.now_ms += every_s * 1_000
            self.number += 1
            values: dict[int, Value] = {1: self.number, 13: "x" * (self.number % 50)}
            assert self.spool.append(self.run, self.number, self.now_ms, values)
            self.expected[self.run, self.number] = Stored(self.number, self.now_ms, values)
        if len(self.spool) != len(self.expected):
            # Which ones were thinned is another test; here they must be counted, and old ones.
            kept = set(self.keys())
            gone = [key for key in self.expected if key not in kept]
            assert self.spool.dropped == self.dropped + len(gone)
            self.dropped = self.spool.dropped
            assert (self.run, self.number) not in gone
            for key in gone:
                del self.expected[key]

    @rule(
        back=st.integers(0, 3),
        upto=st.integers(0, 20),
        first=st.integers(1, 40),
        more=st.integers(0, 5),
    )
    def settle(self, back: int, upto: int, first: int, more: int) -> None:
        run = run_name(max(1, self.runs - back))
        settled = Settled(upto, ((first + upto, first + upto + more),))
        gone = self.spool.settle(run, settled)
        expected = [n for r, n in sorted(self.expected) if r == run and n in settled]
        assert gone == expected
        for number in gone:
            del self.expected[run, number]

    @rule(number=st.integers(1, 40))
    def refuse(self, number: int) -> None:
        here = (self.run, number) in self.expected
        assert self.spool.refuse(self.run, number, number) == int(here)
        self.expected.pop((self.run, number), None)
        self.dropped += here

    @rule()
    def kill(self) -> None:
        self.spool.close()
        self.open()

    @precondition(lambda self: len(self.spool) < LIMIT)
    @rule(cut=st.integers(1, 60))
    def kill_in_the_middle_of_a_write(self, cut: int) -> None:
        size = (self.memory / FILE_NAME).stat().st_size
        self.number += 1
        self.spool.append(self.run, self.number, self.now_ms, {13: "y" * 40})
        file = self.memory / FILE_NAME
        self.spool.close()
        with file.open("r+b") as raw:
            # A kill before the write had begun, or at any byte of it.
            raw.truncate(max(size, file.stat().st_size - cut))
        self.open()

    @rule()
    def take_a_snapshot(self) -> None:
        self.spool.snapshot()
        self.snapshot = dict(self.expected)
        self.snapshot_dropped = self.spool.dropped

    @precondition(lambda self: (self.flash / "spool.snapshot").exists())
    @rule()
    def power_cut(self) -> None:
        self.spool.close()
        shutil.rmtree(self.memory)
        self.expected = dict(self.snapshot)
        self.open()
        assert self.spool.dropped == self.snapshot_dropped
        self.dropped = self.snapshot_dropped

    def keys(self) -> list[tuple[str, int]]:
        return [
            (run, number)
            for run in self.spool.runs()
            for number in self.spool.numbers(run, 1, 2**32 - 1, count_max=10_000)
        ]

    @invariant()
    def it_holds_what_is_expected(self) -> None:
        assert self.keys() == sorted(self.expected)
        assert len(self.spool) == len(self.expected) <= LIMIT
        for (run, number), stored in self.expected.items():
            assert self.spool.read(run, number) == stored
        assert self.spool.dropped == self.dropped


SpoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSpool = SpoolMachine.TestCase


def filled(folder: Path, count: int, *, limit: int = SPOOL_LIMIT, every_s: int = 60) -> Spool:
    spool = Spool(folder / "memory", folder / "flash", limit=limit)
    spool.begin_run(run_name(1), "boot")
    for number in range(1, count + 1):
        spool.append(run_name(1), number, number * every_s * 1_000, {1: number})
    return spool


def test_a_file_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    spool = filled(tmp_path, 5)
    offsets = list(spool._index.offset)
    spool.close()
    whole = (tmp_path / "memory" / FILE_NAME).read_bytes()
    for size in range(len(whole) + 1):
        (tmp_path / "memory" / FILE_NAME).write_bytes(whole[:size])
        again = Spool(tmp_path / "memory", tmp_path / "flash")
        ends = [*offsets[1:], len(whole)]
        assert len(again) == sum(end <= size for end in ends)
        again.begin_run(run_name(2), "boot")
        again.append(run_name(2), 1, 0, {1: 1})
        again.close()


@given(position=st.integers(0, 400), byte=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_byte_costs_no_more_than_what_follows(position: int, byte: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder, 8).close()
        file = folder / "memory" / FILE_NAME
        raw = bytearray(file.read_bytes())
        raw[position % len(raw)] = byte
        file.write_bytes(raw)
        spool = Spool(folder / "memory", folder / "flash")
        numbers = spool.numbers(run_name(1), 1, 100, count_max=100)
        assert numbers == list(range(1, len(numbers) + 1))
        spool.close()


def test_a_full_spool_keeps_one_per_hour_of_the_oldest_and_counts_the_rest(tmp_path: Path) -> None:
    spool = filled(tmp_path, 1_000, limit=200)
    assert len(spool) <= 200
    assert spool.dropped == 1_000 - len(spool)
    numbers = spool.numbers(run_name(1), 1, 1_000, count_max=1_000)
    assert numbers[0] == 1 and numbers[-1] == 1_000
    hours = [number * 60 // 3_600 for number in numbers]
    assert set(hours) == set(range(1_000 * 60 // 3_600 + 1))
    spool.close()
    again = Spool(tmp_path / "memory", tmp_path / "flash", limit=200)
    assert (len(again), again.dropped) == (len(numbers), 1_000 - len(numbers))
    again.close()


def test_hours_apart_the_oldest_go_altogether(tmp_path: Path) -> None:
    spool = filled(tmp_path, 100, limit=50, every_s=3_600)
    assert spool.numbers(run_name(1), 1, 100, count_max=100)[-1] == 100
    assert spool.dropped == 100 - len(spool) and len(spool) <= 50
    spool.close()


def test_ten_thousand_samples_take_no_more_than_200_kib_of_memory(tmp_path: Path) -> None:
    spool = filled(tmp_path, 10_000)
    assert len(spool) == 10_000 and spool.dropped == 0
    assert spool._index.size_bytes() <= 200 * 1024
    columns = vars(spool._index).values()
    assert sum(column.__sizeof__() for column in columns) <= 200 * 1024
    spool.close()


def test_the_file_does_not_grow_while_receipts_come(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "memory", tmp_path / "flash")
    spool.begin_run(run_name(1), "boot")
    largest = 0
    for number in range(1, 5_000):
        spool.append(run_name(1), number, number * 60_000, {13: "z" * 60})
        if number % 4 == 0:
            spool.settle(run_name(1), Settled(number))
        largest = max(largest, (tmp_path / "memory" / FILE_NAME).stat().st_size)
    assert largest < 256 * 1024
    spool.close()


def test_the_offset_of_each_boot_is_kept_and_steps_are_followed(tmp_path: Path) -> None:
    spool = filled(tmp_path, 1)
    spool.note_offset(run_name(1), 1_000_000)
    spool.note_offset(run_name(1), 1_000_400)  # no step
    assert spool.boot_of(run_name(1)).offset_ms == 1_000_000
    spool.note_offset(run_name(1), 9_000_000)
    spool.close()
    again = Spool(tmp_path / "memory", tmp_path / "flash")
    assert again.boot_of(run_name(1)) == (1, "boot", 9_000_000)
    again.close()


def test_no_room_costs_the_sample_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, 3)
    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", lambda *_: 5)
        assert not spool.append(run_name(1), 4, 0, {1: 4})
    assert spool.dropped == 1
    assert spool.append(run_name(1), 5, 0, {1: 5})
    spool.close()
    again = Spool(tmp_path / "memory", tmp_path / "flash")
    assert again.numbers(run_name(1), 1, 9, count_max=9) == [1, 2, 3, 5]
    again.close()


def test_emptying_leaves_neither_file_nor_snapshot(tmp_path: Path) -> None:
    spool = filled(tmp_path, 3)
    spool.snapshot()
    spool.close()
    empty(tmp_path / "memory", tmp_path / "flash")
    again = Spool(tmp_path / "memory", tmp_path / "flash")
    assert len(again) == 0
    again.close()


def test_a_snapshot_without_changes_spares_the_flash(tmp_path: Path) -> None:
    spool = filled(tmp_path, 1)
    assert [spool.snapshot(), spool.snapshot()] == [True, False]
    spool.close()


VALUES: dict[str, Callable[[Field], st.SearchStrategy[Value]]] = {
    "integer": lambda field: st.integers(field.low, field.high),
    "boolean": lambda field: st.booleans(),
    "text": lambda field: st.text(max_size=field.high // 4),
}


@given(st.fixed_dictionaries({}, optional={f.id: VALUES[f.type](f) for f in FIELDS}))
def test_packing_gives_back_what_was_packed(values: dict[int, Value]) -> None:
    again = unpack(pack(values))
    assert again == values
    assert [type(value) for value in again.values()] == [type(value) for value in values.values()]


@given(st.binary(max_size=60))
def test_unpacking_anything_ends_in_values_or_a_pack_error(raw: bytes) -> None:
    try:
        unpack(raw)
    except PackError:
        pass


def test_a_scan_stops_at_a_length_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff" * 200_000)
    file = SpoolFile(tmp_path / "file")
    assert list(file.scan()) == []
    assert (tmp_path / "file").stat().st_size == 0
    file.close()
