"""The guard compares clocks, on any thread, and is not misled by a clock that a test moves."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.clock_guard import ClockGuard
from gateway.domain.clock_trust import APART_MS_MAX, Caution, Doubt, apart, judged, why_wary, words
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS

NOW_MS = 1_800_000_000_000


class TwoClocks(Clock):
    """Wall and boot-time clock, set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.wall, self.boot = NOW_MS, HOUR_MS

    def unmoved(self) -> tuple[int, int]:
        return self.wall, self.boot


def test_a_test_clock_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    clock = Clock(file)
    guard = ClockGuard(clock)
    for offset in ("0", "31536000", "-86400"):
        file.write_text(offset)
        guard.heard_host(guard.asked(), clock.unmoved()[0])
        assert guard.trust().sure


def test_a_host_is_not_suspected_because_the_answer_took_long() -> None:
    clock = TwoClocks()
    guard = ClockGuard(clock)
    for host_ms in (NOW_MS, NOW_MS + 10 * MINUTE_MS):
        clock.wall = NOW_MS
        asked_ms = guard.asked()
        clock.wall = NOW_MS + 10 * MINUTE_MS
        clock.boot = HOUR_MS + 10 * MINUTE_MS
        guard.heard_host(asked_ms, host_ms)
        assert guard.trust().sure
    guard.heard_host(guard.asked(), clock.wall + APART_MS_MAX + 1)
    assert "database host" in guard.trust().doubt


def test_it_says_what_and_since_when_by_the_clock_before() -> None:
    clock = TwoClocks()
    guard = ClockGuard(clock)
    clock.wall += 40 * DAY_MS
    assert "+3,456,000 s" in guard.trust().doubt
    assert guard.told().doubt_since_ms == NOW_MS
    clock.boot += HOUR_MS
    clock.wall += HOUR_MS
    guard.trust()
    assert guard.told().doubt_since_ms == NOW_MS


def test_what_was_accepted_before_is_not_accepted_again() -> None:
    clock = TwoClocks()
    guard = ClockGuard(clock)
    guard.learn(7, None)
    clock.wall += HOUR_MS
    assert not guard.trust().sure
    guard.learn(7, None)
    assert not guard.trust().sure
    guard.learn(8, Caution("why", NOW_MS, 5, 0))
    assert (guard.trust().doubt, guard.trust().wary_after) == ("", 5)
    guard.learn(8, None)
    assert guard.trust().sure


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_apart_is_the_least_it_can_be(low_ms: int, width_ms: int) -> None:
    high_ms = low_ms + width_ms
    found = apart(low_ms, high_ms)
    assert low_ms <= found <= high_ms
    assert abs(found) <= min(abs(low_ms), abs(high_ms))


@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), max_size=30))
def test_a_doubt_ends_only_after_a_minute_of_agreement(steps: list[tuple[int, bool]]) -> None:
    doubt: Doubt | None = None
    agreed_since: int | None = None
    now_ms = 0
    for passed_ms, wrong in steps:
        now_ms += passed_ms
        before = doubt
        doubt = judged(doubt, "wrong" if wrong else "", now_ms)
        if wrong:
            agreed_since = None
            assert doubt is not None and (before is None or doubt.since_ms == before.since_ms)
        elif before is not None:
            agreed_since = now_ms if agreed_since is None else agreed_since
            assert (doubt is None) == (now_ms - agreed_since >= MINUTE_MS)
        if doubt is None:
            agreed_since = None


def test_words_are_said_beyond_a_minute_only() -> None:
    assert words("x", APART_MS_MAX) == words("x", -APART_MS_MAX) == ""
    assert words("x", -APART_MS_MAX - 1_000) == "x by -61 s"


def test_why_a_start_is_uncertain() -> None:
    assert why_wary(NOW_MS, None, None) == ""
    assert why_wary(NOW_MS, NOW_MS - 36 * HOUR_MS, None) == ""
    assert "37 hours" in why_wary(NOW_MS, NOW_MS - 37 * HOUR_MS, None)
    assert why_wary(NOW_MS, NOW_MS + MINUTE_MS, None) == ""
    assert "before" in why_wary(NOW_MS, NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)
