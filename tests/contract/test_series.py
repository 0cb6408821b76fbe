"""What a plot is made of: the fitting level, every extreme, and gaps that stay gaps."""

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from gateway.domain.history import Counter, Gauge, Level, merged
from gateway.domain.instants import DAY_MS, HOUR_MS, instant_text
from gateway.jobs import history, retention
from gateway.jobs.retention import KeptDays
from tests.contract.fleet_history import INTERVAL_MS, RSRP, SENT, FleetHistory, plainly
from tests.contract.world import BEGIN_MS, World

SERIAL = "1200000000"
ROUNDS = 10_000
END_MS = BEGIN_MS + 5 * DAY_MS


@pytest.fixture
def fleet(world: World) -> FleetHistory:
    """One device with five days of samples, rolled up but for the last hours."""
    made = FleetHistory(world, Random(3))
    made.register(1)
    made.report(BEGIN_MS, END_MS)
    world.now_ms = END_MS
    world.wait(history.roll_up_all(world.store, ROUNDS))
    return made


def series(world: World, from_ms: int, to_ms: int, fields: str = "rsrp", **more: Any) -> Any:
    given = {"from": instant_text(from_ms), "to": instant_text(to_ms), "fields": [fields], **more}
    return world.do("devices.series", serial=SERIAL, **given)


def known(column: list[Any]) -> list[Any]:
    return [value for value in column if value is not None]


def test_a_day_is_made_of_samples_with_every_value_that_was_known(fleet: FleetHistory) -> None:
    from_ms, to_ms = BEGIN_MS + 25 * HOUR_MS, BEGIN_MS + 37 * HOUR_MS
    found = series(fleet.world, from_ms, to_ms, "rsrp,mobile_sent")
    assert found["level"] == "raw"
    samples = [s for s in fleet.samples[fleet.ids[0]] if from_ms <= s.at_ms < to_ms]
    assert [s.at_ms for s in samples] == [
        at
        for at, count in zip(found["at"], found["fields"][1]["count"], strict=True)
        if count is not None
    ]
    rsrp, sent = found["fields"]
    assert rsrp["min"] == rsrp["max"] == rsrp["mean"]
    said = [s.values[RSRP] for s in samples if RSRP in s.values]
    assert set(said) <= set(known(rsrp["mean"]))
    assert (sent["unit"], "min" in sent) == ("bytes", False)


def test_the_last_day_is_the_default_and_goes_up_to_now(fleet: FleetHistory) -> None:
    found = fleet.world.do("devices.series", serial=SERIAL, fields=["uptime"])
    assert found["from"] == instant_text(END_MS - DAY_MS)
    assert found["at"][-1] >= END_MS - 2 * INTERVAL_MS


def test_hours_are_stored_ones_and_the_newest_from_samples(fleet: FleetHistory) -> None:
    found = series(fleet.world, BEGIN_MS, END_MS)
    assert found["level"] == "hour"
    wanted = plainly(fleet.samples[fleet.ids[0]])
    gauges = {hour * HOUR_MS: rolled.fields.get(RSRP) for hour, rolled in wanted.items()}
    column = found["fields"][0]
    for place, at in enumerate(found["at"]):
        gauge = gauges.pop(at, None)
        if not isinstance(gauge, Gauge):
            assert column["count"][place] is column["mean"][place] is None
            continue
        assert column["count"][place] == gauge.samples
        assert (column["min"][place], column["max"][place]) == (gauge.minimum, gauge.maximum)
        assert column["mean"][place] == round(gauge.total / gauge.samples, 3)
    assert not any(isinstance(gauge, Gauge) for gauge in gauges.values())


def test_days_are_stored_ones_and_the_newest_from_hours_and_samples(fleet: FleetHistory) -> None:
    found = series(fleet.world, BEGIN_MS - 100 * DAY_MS, END_MS, "rsrp,mobile_sent")
    assert found["level"] == "day"
    assert found["at"] == [BEGIN_MS + day * DAY_MS for day in range(5)]
    whole = merged(rolled for _, rolled in sorted(plainly(fleet.samples[fleet.ids[0]]).items()))
    assert sum(found["fields"][0]["count"]) == whole.fields[RSRP].samples
    traffic = whole.fields[SENT]
    assert isinstance(traffic, Counter)
    assert sum(found["fields"][1]["increase"]) == traffic.increase


def test_thinned_plots_lose_no_extreme_no_traffic_and_no_gap(fleet: FleetHistory) -> None:
    for span_ms in (DAY_MS, 5 * DAY_MS):
        whole = series(fleet.world, END_MS - span_ms, END_MS, "rsrp,mobile_sent", points=5_000)
        thin = series(fleet.world, END_MS - span_ms, END_MS, "rsrp,mobile_sent", points=20)
        assert len(thin["at"]) <= 2 * 20
        (gauge, counter), (thin_gauge, thin_counter) = whole["fields"], thin["fields"]
        assert min(known(gauge["min"])) == min(known(thin_gauge["min"]))
        assert max(known(gauge["max"])) == max(known(thin_gauge["max"]))
        assert sum(known(gauge["count"])) == sum(known(thin_gauge["count"]))
        assert sum(known(counter["increase"])) == sum(known(thin_counter["increase"]))


def test_a_silence_is_a_gap(fleet: FleetHistory) -> None:
    at = [s.at_ms for s in fleet.samples[fleet.ids[0]]]
    begin = next(a for a, b in pairwise(at) if b - a > HOUR_MS)
    for to_ms, level in ((begin + 6 * HOUR_MS, "raw"), (begin + 3 * DAY_MS, "hour")):
        found = series(fleet.world, begin - HOUR_MS, to_ms)
        assert found["level"] == level
        assert None in found["fields"][0]["count"]


def test_deleted_samples_are_shown_by_the_hour(fleet: FleetHistory) -> None:
    world = fleet.world
    world.wait(retention.delete_all(world.store, KeptDays(raw=3), ROUNDS))
    assert series(world, BEGIN_MS, BEGIN_MS + HOUR_MS)["level"] == "hour"
    assert series(world, END_MS - DAY_MS, END_MS)["level"] == Level.RAW.value


def test_a_new_tenure_begins_with_an_empty_plot(fleet: FleetHistory) -> None:
    found = series(fleet.world, BEGIN_MS, END_MS)
    assert found["at"]
    other = fleet.world.company("Another")
    fleet.world.do("devices.unregister", serial=SERIAL)
    fleet.world.register(SERIAL, other, activate="later")
    assert series(fleet.world, BEGIN_MS, END_MS)["at"] == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fields": ["rsrq,nothing"]}, "no field"),
        ({"fields": ["operator"]}, "only numbers"),
        ({"fields": [""]}, "from 1 to 16"),
        ({"fields": ["rsrp"], "from": "yesterday"}, "an instant"),
        ({"fields": ["rsrp"], "from": "2027-01-15T00:00:00"}, "an instant"),
        ({"fields": ["rsrp"], "from": "2030-01-15T00:00:00Z"}, "before"),
        ({"fields": ["rsrp"], "from": "0001-01-01T00:00:00Z"}, "ten years"),
    ],
)
def test_what_does_not_fit_is_told(fleet: FleetHistory, given: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        fleet.world.do("devices.series", serial=SERIAL, **given)
