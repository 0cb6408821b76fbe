"""A device's values over time, for plots."""

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import Annotated

import msgspec

from gateway.domain.history import (
    COUNTERS,
    GAUGES,
    HOURS_A_DAY,
    NOTHING,
    Bucket,
    Counter,
    Gauge,
    Level,
    RolledUp,
    level_for,
    merged,
    point_samples,
    roll_hours,
    roll_up,
    thinned,
    with_gaps,
)
from gateway.domain.instants import DAY_MS, HOUR_MS, instant_text, parse_instant
from gateway.domain.positions import POSITION
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.registry import Call, operation
from gateway.operations.tenures import history_of, sees_position
from gateway.storage import history_rows
from gateway.storage.transaction import Transaction
from wire.fields import BY_NAME

FIELDS_MAX = 16
SPAN_MS_MAX = 3_660 * DAY_MS


class FieldSeries(msgspec.Struct, omit_defaults=True):
    """One field, with a value for each instant in `at`; null where it was not known.

    What a value stands for is told in `devices.series`.
    """

    field: str
    unit: str
    count: list[int | None]
    min: list[int | None] | None = None
    mean: list[float | None] | None = None
    max: list[int | None] | None = None
    increase: list[int | None] | None = None


class Series(msgspec.Struct):
    """The same instants for all fields, in ms since 1970 UTC: columns as a plot takes them."""

    serial: str
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    level: Level
    at: list[int]
    fields: list[FieldSeries]


class ReadSeries(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which fields of which device, over what time, in how many points at most."""

    serial: str
    fields: Annotated[list[str], msgspec.Meta(min_length=1, max_length=FIELDS_MAX)]
    start: str = msgspec.field(name="from", default="")
    end: str = msgspec.field(name="to", default="")
    points: Annotated[int, msgspec.Meta(ge=10, le=5_000)] = 1_000


class _Range:
    """What is asked for, and what there is."""

    def __init__(self, tx: Transaction, device_ids: Sequence[int], given: ReadSeries) -> None:
        self.tx = tx
        self.device_ids = device_ids[::-1]  # of a device that took another's place: both
        self.to_ms = _instant(given.end, "to", tx.now_ms)
        self.from_ms = _instant(given.start, "from", self.to_ms - DAY_MS)
        if not 0 < self.to_ms - self.from_ms <= SPAN_MS_MAX:
            raise Refused(
                Code.VALIDATION, "from: before `to`, and not more than ten years", field="from"
            )
        self.level = level_for(self.from_ms, self.to_ms, history_rows.kept(tx))
        self.points = given.points
        done = {
            level: history_rows.progress(tx, history_rows.rolled_up_name(level))
            for level in (Level.HOUR, Level.DAY)
        }
        self.hours_done, self.days_done = (
            0 if mark is None else mark.begin for mark in done.values()
        )

    def read(self) -> list[Bucket]:
        """The points of the plot, by instant."""
        if self.level is Level.RAW:
            return self._raw()
        if self.level is Level.HOUR:
            period_ms, found = (
                HOUR_MS,
                self._hours(self.from_ms // HOUR_MS, -(-self.to_ms // HOUR_MS)),
            )
        else:
            period_ms, found = DAY_MS, self._days(self.from_ms // DAY_MS, -(-self.to_ms // DAY_MS))
        points = [(period * period_ms, rolled) for period, rolled in found]
        if len(points) <= self.points:
            return with_gaps(points, period_ms)
        return with_gaps(thinned(points, self.from_ms, self.to_ms, self.points))

    def _raw(self) -> list[Bucket]:
        points = _together([self._raw_of(device_id) for device_id in self.device_ids])
        return with_gaps(points)

    def _raw_of(self, device_id: int) -> list[Bucket]:
        # From the last roll-up on, so that values are known that did not change since.
        hour = min(self.from_ms // HOUR_MS, self.hours_done)
        carried = history_rows.rolled_up_before(self.tx, [device_id], hour)
        before = carried.get(device_id, NOTHING)
        samples = history_rows.samples_of(self.tx, device_id, hour * HOUR_MS, self.to_ms)
        sooner = list(takewhile(lambda sample: sample.at_ms < self.from_ms, samples))
        before = roll_up(before, sooner) if sooner else before
        inside = samples[len(sooner) :]
        return point_samples(before, inside, self.from_ms, self.to_ms, self.points)

    def _hours(self, begin: int, end: int) -> list[Bucket]:
        return _together([self._hours_of(device_id, begin, end) for device_id in self.device_ids])

    def _hours_of(self, device_id: int, begin: int, end: int) -> list[Bucket]:
        """Stored hours, and the newest ones, which are not rolled up yet, from samples."""
        split = min(max(begin, self.hours_done), end)
        hours = history_rows.rolled_up(self.tx, Level.HOUR, device_id, begin, split)
        if split < end:
            carried = history_rows.rolled_up_before(self.tx, [device_id], split)
            samples = history_rows.samples_of(self.tx, device_id, split * HOUR_MS, end * HOUR_MS)
            hours += roll_hours(carried.get(device_id, NOTHING), samples)
        return hours

    def _days(self, begin: int, end: int) -> list[Bucket]:
        split = min(max(begin, self.days_done), end)
        days = _together(
            [
                history_rows.rolled_up(self.tx, Level.DAY, device_id, begin, split)
                for device_id in self.device_ids
            ]
        )
        newest: dict[int, list[RolledUp]] = {}
        for hour, rolled in self._hours(split * HOURS_A_DAY, end * HOURS_A_DAY):
            newest.setdefault(hour // HOURS_A_DAY, []).append(rolled)
        return days + [(day, merged(hours)) for day, hours in newest.items()]


def _together(parts: Sequence[list[Bucket]]) -> list[Bucket]:
    """One plot of several routers' that stood in one place, one after the other."""
    if len(parts) == 1:
        return parts[0]
    points: dict[int, list[RolledUp]] = {}
    for instant, rolled in chain.from_iterable(parts):
        points.setdefault(instant, []).append(rolled)
    return [(instant, merged(points[instant])) for instant in sorted(points)]


@operation(
    "devices.series",
    "GET",
    "/devices/{serial}/series",
    right=Right.SEE_HISTORY,
    result=Series,
)
def read_series(call: Call, given: ReadSeries) -> Series:
    """Reads how values of a device went over time, in a form that a plot takes as it is.

    `fields` are names of numbers, separated by commas; `from` and `to` are instants, the last 24 h
    when left out. Up to two days are made of samples (`level` is `raw`), up to 92 days of hours,
    more of days; where finer rows are deleted already, of the next coarser ones. Every point begins
    at its instant in `at` and lasts for a sample, an hour or a day; where there would be more than
    `points` of them, for several. A gauge has the least, the mean and the greatest value of the
    samples in the point, a counter of bytes the increase over them since the sample before; `count`
    says how many samples they were. A silence shows as one instant with null in every column, and a
    field that was not known at an instant has null there.
    """
    tenures = history_of(call, given.serial, Right.SEE_HISTORY)
    names = _names(given.fields)
    if not POSITION.isdisjoint(names) and not sees_position(call, tenures):
        raise Refused(Code.FORBIDDEN, "This needs the right see_position in the company.")
    asked = _Range(call.tx, tenures, given)
    points = asked.read()
    return Series(
        given.serial,
        instant_text(asked.from_ms),
        instant_text(asked.to_ms),
        asked.level,
        [at for at, _ in points],
        [_series(name, points) for name in names],
    )


def _instant(text: str, field: str, otherwise: int) -> int:
    if not text:
        return otherwise
    try:
        return parse_instant(text)
    except ValueError as error:
        raise Refused(
            Code.VALIDATION, f"{field}: an instant such as 2027-01-31T12:00:00Z", field=field
        ) from error


def _names(given: list[str]) -> list[str]:
    """Checked, each once. Raises `Refused`."""
    names = list(dict.fromkeys(name for part in given for name in part.split(",") if name))
    if not 0 < len(names) <= FIELDS_MAX:
        raise Refused(Code.VALIDATION, f"fields: from 1 to {FIELDS_MAX}", field="fields")
    for name in names:
        field = BY_NAME.get(name)
        if field is None:
            raise Refused(
                Code.VALIDATION,
                f"fields: {name[:100]!r} is no field; docs/wire.md lists them",
                field="fields",
            )
        if field.id not in GAUGES and field.id not in COUNTERS:
            raise Refused(
                Code.VALIDATION,
                f"fields: {name} is a {field.type}, and only numbers can be plotted;"
                " devices.heartbeats lists its values",
                field="fields",
            )
    return names


def _series(name: str, points: list[Bucket]) -> FieldSeries:
    field = BY_NAME[name]
    found = [rolled.fields.get(field.id) for _, rolled in points]
    made = FieldSeries(name, field.unit, [None if one is None else one.samples for one in found])
    if field.id in COUNTERS:
        counters = [one if isinstance(one, Counter) else None for one in found]
        made.increase = [None if one is None else one.increase for one in counters]
        return made
    gauges = [one if isinstance(one, Gauge) else None for one in found]
    made.min = [None if one is None else one.minimum for one in gauges]
    made.mean = [None if one is None else round(one.total / one.samples, 3) for one in gauges]
    made.max = [None if one is None else one.maximum for one in gauges]
    return made
