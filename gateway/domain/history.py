"""What is kept of samples: raw, by hour and by day; and which of the three a plot is made of.

A sample carries only the fields that changed, so a field keeps its value until it is said again:
within an hour, from one hour to the next, and up to the end of the run, whose successor begins with
all fields. A *gauge* (signal, temperature, …) is rolled up to the least, the greatest, the mean and
the last value over the samples. A *counter* (bytes received and sent) is rolled up to its increase
since the sample before, whenever that was, so that increases of neighbours add up to the traffic
of both; one that fell has begun again at 0. Texts and booleans are kept raw and not rolled up.
"""

import statistics
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby, pairwise
from typing import Any, NamedTuple, TypeAlias

from gateway.domain.instants import DAY_MS, HOUR_MS
from wire.fields import FIELDS

# An hour is rolled up when it is over since then; a sample that is older when it comes is late.
ROLLED_UP_AFTER_MS = 2 * HOUR_MS
HOURS_A_DAY = 24

RAW_SPAN_MAX_MS = 2 * DAY_MS
HOURS_SPAN_MAX_MS = 92 * DAY_MS
# A silence of more usual distances between samples than this is a gap in a plot.
GAP_DISTANCES = 3

GAUGES = frozenset(
    field.id for field in FIELDS if field.type == "integer" and field.unit != "bytes"
)
COUNTERS = frozenset(field.id for field in FIELDS if field.unit == "bytes")


class Sample(NamedTuple):
    """One stored sample."""

    at_ms: int
    run_id: int
    values: dict[int, Any]  # of the fields that changed


class Gauge(NamedTuple):
    """A field's values over some samples; the last is none where a later run did not say it."""

    samples: int
    minimum: int
    total: int
    maximum: int
    last: int | None


class Counter(NamedTuple):
    """By how much a field grew over some samples, and where it stood at the last."""

    samples: int
    increase: int
    last: int


Summary: TypeAlias = Gauge | Counter


class RolledUp(NamedTuple):
    """All numbers of a device over some samples; the run is that of the last of them.

    A field that was unknown at first has fewer samples than the whole.
    """

    run_id: int
    samples: int
    fields: dict[int, Summary]


NOTHING = RolledUp(0, 0, {})
Bucket: TypeAlias = tuple[int, RolledUp]  # hour, day or instant it begins at


class Level(StrEnum):
    """How finely history is kept."""

    RAW = "raw"
    HOUR = "hour"
    DAY = "day"


class Kept(NamedTuple):
    """Since when the rows of the finer levels are there: what is older was deleted."""

    raw_from_ms: int
    hours_from_ms: int


def hour_of(instant_ms: int) -> int:
    """The UTC hour of an instant, since 1970."""
    return instant_ms // HOUR_MS


def hours_over(now_ms: int) -> int:
    """The first hour that may not be rolled up yet."""
    return hour_of(now_ms - ROLLED_UP_AFTER_MS)


def level_for(from_ms: int, to_ms: int, kept: Kept) -> Level:
    """The finest level that has the whole range and does not make too many points of it."""
    span_ms = to_ms - from_ms
    if span_ms <= RAW_SPAN_MAX_MS and from_ms >= kept.raw_from_ms:
        return Level.RAW
    if span_ms <= HOURS_SPAN_MAX_MS and from_ms >= kept.hours_from_ms:
        return Level.HOUR
    return Level.DAY


class _Held:
    """One field while samples are gone through; its value counts when it is replaced."""

    __slots__ = ("count", "maximum", "minimum", "since", "total", "value")

    def __init__(self, value: int, since: int) -> None:
        self.value, self.since = value, since
        self.count = self.minimum = self.total = self.maximum = 0

    def settle(self, index: int) -> None:
        """The value held for every sample before this one."""
        more, value = index - self.since, self.value
        if more == 0:
            return
        if self.count == 0:
            self.minimum = self.maximum = value
        elif value < self.minimum:
            self.minimum = value
        elif value > self.maximum:
            self.maximum = value
        self.count += more
        self.total += value * more
        self.since = index


class _Rolling:
    """All fields of a device while samples are gone through, oldest first."""

    def __init__(self, before: RolledUp) -> None:
        self.run_id = before.run_id
        self.index = 0
        self._gauges: dict[int, _Held] = {}
        self._counters: dict[int, _Held] = {}
        self._gone: dict[int, _Held] = {}  # gauges that the run in force has not said
        for id_, summary in before.fields.items():
            if summary.last is not None:
                held = self._gauges if id_ in GAUGES else self._counters
                held[id_] = _Held(summary.last, 0)

    def take(self, sample: Sample) -> None:
        """The next sample."""
        if sample.run_id != self.run_id:
            self.run_id = sample.run_id
            self._forget()
        index = self.index
        for id_, value in sample.values.items():
            if id_ in GAUGES:
                held = self._gauges.get(id_)
                if held is None:
                    held = self._gone.pop(id_) if id_ in self._gone else _Held(value, index)
                    held.since = index
                    self._gauges[id_] = held
                else:
                    held.settle(index)
                held.value = value
            elif id_ in COUNTERS:
                held = self._counters.get(id_)
                if held is None:
                    self._counters[id_] = _Held(value, index)
                else:
                    held.total += value - held.value if value >= held.value else value
                    held.value = value
        self.index = index + 1

    def _forget(self) -> None:
        """A new life of the agent begins with all fields: a gauge that is missing is gone."""
        for id_, held in self._gauges.items():
            held.settle(self.index)
            self._gone[id_] = held
        self._gauges = {}

    def result(self) -> RolledUp:
        """What it all came to."""
        fields: dict[int, Summary] = {}
        for held in self._gauges.values():
            held.settle(self.index)
        for gauges, known in ((self._gauges, True), (self._gone, False)):
            for id_, held in gauges.items():
                if held.count:
                    last = held.value if known else None
                    low, high = held.minimum, held.maximum
                    fields[id_] = Gauge(held.count, low, held.total, high, last)
        for id_, held in self._counters.items():
            if count := self.index - held.since:
                fields[id_] = Counter(count, held.total, held.value)
        return RolledUp(self.run_id, self.index, fields)


def roll_up(before: RolledUp, samples: Iterable[Sample]) -> RolledUp:
    """What these samples, oldest first, come to; `before` is what was rolled up before them."""
    rolling = _Rolling(before)
    for sample in samples:
        rolling.take(sample)
    return rolling.result()


def roll_hours(before: RolledUp, samples: Iterable[Sample]) -> list[Bucket]:
    """The hours that samples, oldest first, fall into; each goes on from the one before."""
    hours: list[Bucket] = []
    for hour, group in groupby(samples, lambda sample: hour_of(sample.at_ms)):
        before = roll_up(before, group)
        hours.append((hour, before))
    return hours


def merged(parts: Iterable[RolledUp]) -> RolledUp:
    """What neighbours, oldest first, come to together."""
    run_id = samples = 0
    fields: dict[int, Summary] = {}
    for part in parts:
        run_id = part.run_id
        samples += part.samples
        for id_, new in part.fields.items():
            old = fields.get(id_)
            fields[id_] = new if old is None else _both(old, new)
    return RolledUp(run_id, samples, fields)


def _both(old: Summary, new: Summary) -> Summary:
    if isinstance(old, Gauge) and isinstance(new, Gauge):
        return Gauge(
            old.samples + new.samples,
            min(old.minimum, new.minimum),
            old.total + new.total,
            max(old.maximum, new.maximum),
            new.last,
        )
    if isinstance(old, Counter) and isinstance(new, Counter):
        return Counter(old.samples + new.samples, old.increase + new.increase, new.last)
    return new  # a field never changes its kind


# Plots


def point_samples(
    before: RolledUp, samples: Sequence[Sample], from_ms: int, to_ms: int, points_max: int
) -> list[Bucket]:
    """Points of a plot: a sample each, or where there are too many, what a stretch comes to."""
    if len(samples) <= points_max:
        groups = [[sample] for sample in samples]
    else:
        width_ms = _width(from_ms, to_ms, points_max)
        groups = [
            list(group)
            for _, group in groupby(samples, lambda sample: (sample.at_ms - from_ms) // width_ms)
        ]
    points: list[Bucket] = []
    for group in groups:
        before = roll_up(before, group)
        points.append((group[0].at_ms, before))
    return points


def thinned(points: Sequence[Bucket], from_ms: int, to_ms: int, points_max: int) -> list[Bucket]:
    """The same plot in not more points; nothing between the least and the greatest is lost."""
    if len(points) <= points_max:
        return list(points)
    width_ms = _width(from_ms, to_ms, points_max)
    made: list[Bucket] = []
    for _, group in groupby(points, lambda point: (point[0] - from_ms) // width_ms):
        some = list(group)
        made.append((some[0][0], merged(part for _, part in some)))
    return made


def _width(from_ms: int, to_ms: int, points_max: int) -> int:
    return max(1, -(-(to_ms - from_ms) // points_max))


def with_gaps(points: Sequence[Bucket], usual_ms: int | None = None) -> list[Bucket]:
    """The same with a point of nothing in each stretch of silence, so that no line crosses it.

    `usual_ms`: how far neighbours are apart, where that is known.
    """
    if len(points) < 2:
        return list(points)
    distances = [later - sooner for (sooner, _), (later, _) in pairwise(points)]
    longest_ms = GAP_DISTANCES * statistics.median(distances) if usual_ms is None else usual_ms
    made = [points[0]]
    for distance_ms, point in zip(distances, points[1:], strict=True):
        if distance_ms > longest_ms:
            made.append((made[-1][0] + distance_ms // 2, NOTHING))
        made.append(point)
    return made
