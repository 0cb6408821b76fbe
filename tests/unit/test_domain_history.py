"""Which level a plot is made of, what samples come to, and that roll-ups are kept as they were."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.history import (
    COUNTERS,
    GAUGES,
    HOURS_SPAN_MAX_MS,
    NOTHING,
    RAW_SPAN_MAX_MS,
    Bucket,
    Counter,
    Gauge,
    Kept,
    Level,
    RolledUp,
    Sample,
    Summary,
    level_for,
    merged,
    point_samples,
    roll_up,
    thinned,
    with_gaps,
)
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.storage.rolled_up import packed, unpacked
from wire.fields import BY_NAME, COUNTER_MAX

RSRP, SENT, OPERATOR, INPUT = (
    BY_NAME[name].id for name in ("rsrp", "mobile_sent", "operator", "digital_input")
)
NOW_MS = 20_000 * DAY_MS
KEPT = Kept(NOW_MS - 14 * DAY_MS, NOW_MS - 400 * DAY_MS)
LEVELS = [
    # from, days before now   span                         level
    (1, DAY_MS, Level.RAW),
    (3, RAW_SPAN_MAX_MS, Level.RAW),
    (3, RAW_SPAN_MAX_MS + 1, Level.HOUR),
    (14, HOUR_MS, Level.RAW),
    (15, HOUR_MS, Level.HOUR),  # its samples are deleted
    (100, HOURS_SPAN_MAX_MS, Level.HOUR),
    (100, HOURS_SPAN_MAX_MS + 1, Level.DAY),
    (400, HOUR_MS, Level.HOUR),
    (401, HOUR_MS, Level.DAY),  # its hours are deleted
    (401, RAW_SPAN_MAX_MS, Level.DAY),
]


def test_a_plot_is_made_of_the_finest_level_that_is_there_and_not_too_fine() -> None:
    for days, span_ms, expected in LEVELS:
        from_ms = NOW_MS - days * DAY_MS
        assert level_for(from_ms, from_ms + span_ms, KEPT) is expected, (days, span_ms)
    assert {level for _, _, level in LEVELS} == set(Level)


def test_every_number_is_a_gauge_or_a_counter_and_nothing_else_is() -> None:
    for field in BY_NAME.values():
        kinds = (field.id in GAUGES) + (field.id in COUNTERS)
        assert kinds == (field.type == "integer"), field.name


ROLLED: list[tuple[list[tuple[int, dict[int, Any]]], int, Summary | None]] = [
    # samples (run, values)                                    field  expected
    ([(1, {RSRP: -90}), (1, {}), (1, {RSRP: -80})], RSRP, Gauge(3, -90, -260, -80, -80)),
    ([(1, {}), (1, {RSRP: -90})], RSRP, Gauge(1, -90, -90, -90, -90)),
    ([(1, {RSRP: -90}), (2, {})], RSRP, Gauge(1, -90, -90, -90, None)),
    ([(1, {RSRP: -90}), (2, {}), (2, {RSRP: -70})], RSRP, Gauge(2, -90, -160, -70, -70)),
    ([(1, {SENT: 5}), (1, {SENT: 9})], SENT, Counter(2, 4, 9)),
    ([(1, {SENT: 5}), (2, {}), (2, {SENT: 9})], SENT, Counter(3, 4, 9)),
    ([(1, {SENT: 50}), (1, {SENT: 9})], SENT, Counter(2, 9, 9)),  # begun again at 0
    ([(1, {OPERATOR: "Telia"})], OPERATOR, None),
    ([(1, {INPUT: True})], INPUT, None),
    ([(1, {9_999: 1})], 9_999, None),
]


def test_samples_come_to_what_their_fields_did() -> None:
    for samples, field, expected in ROLLED:
        made = [Sample(at, run, dict(values)) for at, (run, values) in enumerate(samples)]
        found = roll_up(NOTHING, made)
        assert found.fields.get(field) == expected, samples
        assert found.samples == len(samples)


numbers = st.integers(-1_000, COUNTER_MAX)
values = st.dictionaries(st.sampled_from([RSRP, SENT, 1, 3, 7, 26]), numbers, max_size=6)
samples_of_a_day = st.lists(st.tuples(st.integers(1, 3), values), min_size=1, max_size=40).map(
    lambda all_: [Sample(n * MINUTE_MS, run, each) for n, (run, each) in enumerate(all_)]
)


@given(samples_of_a_day, st.integers(0, 40))
def test_parts_come_to_the_same_as_the_whole(all_: list[Sample], cut: int) -> None:
    first = roll_up(NOTHING, all_[:cut])
    second = roll_up(first, all_[cut:])
    whole, both = roll_up(NOTHING, all_), merged([first, second])
    assert (whole.samples, whole.fields.keys()) == (both.samples, both.fields.keys())
    for id_, one in whole.fields.items():
        assert one[:-1] == both.fields[id_][:-1]


@given(samples_of_a_day)
def test_a_roll_up_is_read_as_it_was_kept(all_: list[Sample]) -> None:
    rolled = roll_up(NOTHING, all_)
    assert unpacked(packed(rolled)) == rolled


def test_a_lying_device_cannot_make_a_roll_up_that_cannot_be_kept() -> None:
    lies = [Sample(n, 1, {1: COUNTER_MAX * (n % 2), SENT: COUNTER_MAX - n}) for n in range(5_000)]
    rolled = roll_up(NOTHING, lies)
    again = unpacked(packed(rolled))
    assert again.fields[1][:2] == rolled.fields[1][:2]
    assert isinstance(again.fields[SENT], Counter)


@given(samples_of_a_day, st.integers(1, 50))
def test_thinning_keeps_what_there_was(all_: list[Sample], points_max: int) -> None:
    to_ms = all_[-1].at_ms + MINUTE_MS
    fine = point_samples(NOTHING, all_, 0, to_ms, len(all_))
    for thin in (
        point_samples(NOTHING, all_, 0, to_ms, points_max),
        thinned(fine, 0, to_ms, points_max),
    ):
        assert len(thin) <= max(points_max, 1)
        assert {at for at, _ in thin} <= {at for at, _ in fine}
        whole, left = merged(part for _, part in fine), merged(part for _, part in thin)
        for id_, one in whole.fields.items():
            assert one[:-1] == left.fields[id_][:-1]


def point(at_ms: int) -> Bucket:
    return at_ms, RolledUp(1, 1, {})


GAPS = [
    # instants                     usual  where nothing stands
    ([], None, []),
    ([5], None, []),
    ([0, 10, 20, 30], None, []),
    ([0, 10, 20, 51, 61], None, [35]),
    ([0, 10, 20, 50, 60], None, []),  # three distances are no gap yet
    ([0, 10, 30], 10, [20]),
]


def test_a_silence_is_one_point_of_nothing() -> None:
    for instants, usual_ms, expected in GAPS:
        found = with_gaps([point(at) for at in instants], usual_ms)
        assert [at for at, rolled in found if rolled is NOTHING] == expected, instants
        assert [at for at, rolled in found if rolled is not NOTHING] == instants
