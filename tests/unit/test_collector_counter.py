"""One rising total from counters that start again, wrap, say zero, and belong to two SIMs."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.counter import U32, Counter

STORIES: list[tuple[str, int | None, list[int | None], list[int | None]]] = [
    ("rises", None, [100, 150, 150, 400], [100, 150, 150, 400]),
    ("midnight or reboot", None, [1_000, 1_500, 40, 60], [1_000, 1_500, 1_540, 1_560]),
    ("a zero that is no reset", None, [1_000, 0, 1_200], [1_000, 1_000, 1_200]),
    ("a zero that is a reset", None, [1_000, 0, 0, 30], [1_000, 1_000, 1_000, 1_030]),
    ("absent", None, [1_000, None, 1_100, -5], [1_000, None, 1_100, None]),
    ("wraps", U32, [U32 - 100, 50], [U32 - 100, U32 + 50]),
    ("too far for a wrap", U32, [U32 // 2, 50], [U32 // 2, U32 // 2 + 50]),
    ("no wrap without a limit", None, [U32 - 100, 50], [U32 - 100, U32 - 50]),
    ("begins at zero", None, [0, 0, 10], [0, 0, 10]),
]


def test_the_stories() -> None:
    for name, wraps_at, readings, totals in STORIES:
        counter = Counter(wraps_at)
        assert [counter.read(reading) for reading in readings] == totals, name


def test_each_sim_has_a_counter_of_its_own() -> None:
    counter = Counter()
    assert counter.read(1_000, sim=1) == 1_000
    assert counter.read(700_000, sim=2) == 1_000  # carried before anybody looked
    assert counter.read(700_050, sim=2) == 1_050
    assert counter.read(1_010, sim=1) == 1_060


def test_another_boot_is_a_reset_and_no_wrap() -> None:
    counter = Counter(U32)
    assert counter.read(U32 - 100, life="boot 1") == U32 - 100
    assert counter.read(50, life="boot 2") == U32 - 50
    assert counter.read(60, life="boot 2") == U32 - 40


@given(
    st.sampled_from((None, U32)),
    st.lists(st.tuples(st.integers(-5, 2**54), st.integers(-1, 20), st.integers(0, 2))),
)
def test_the_total_never_falls(wraps_at: int | None, readings: list[tuple[int, int, int]]) -> None:
    counter = Counter(wraps_at)
    totals = [counter.read(reading, sim=sim, life=life) for reading, sim, life in readings]
    said = [total for total in totals if total is not None]
    assert all(before <= after for before, after in pairwise(said))
