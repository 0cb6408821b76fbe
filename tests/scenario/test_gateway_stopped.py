"""A gateway that is away for a while: nobody is called late or offline, nothing is misdated."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SummaryRow
from tests.scenario.by_hand import ByHand
from tests.scenario.engines import ENGINES_AT_LENGTH, database_on
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.history_checker import Journal, check, stored_samples
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, until

pytestmark = pytest.mark.parametrize("engine", ENGINES_AT_LENGTH, indirect=True)
DEVICES = 20
FLEETS = 4
STAGGER_S = 0.5  # so that the fleets do not send in step
# Not every device is heard in the moment in which the gateway is back. At this interval it is late
# after 18 s of silence and offline after 36 s.
INTERVAL_S = 2
DOWN_LATE_S = 20.0
DOWN_OFFLINE_S = 42.0
STOOD_STILL_S = 8.0
ERROR_MS_MAX = 1_500
SETTLE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Watched:
    """An installation under the test's own control, with agents that send to it."""

    installation: Installation
    by_hand: ByHand
    fleets: list[Fleet]
    api: Api


@contextmanager
def watched(folder: Path, engine: str) -> Iterator[Watched]:
    with ExitStack() as stack:
        database = stack.enter_context(database_on(engine))
        installation = Installation(folder, database=database)
        stack.callback(installation.end)
        installation.start()
        # The ready file goes with `up`; its addresses stay the same.
        facts = installation.facts()
        installation.stop()
        installation.keep_facts(facts)
        by_hand = ByHand(installation)
        stack.callback(by_hand.end)
        by_hand.start()
        api = installation.api
        company = api.company("Watched")
        api.grant(company, DEVICES)
        join = api.join_code(company, DEVICES)
        each = DEVICES // FLEETS
        fleets = [
            Fleet(installation, join, each, 1_800_000_001 + n * each, INTERVAL_S, folder / f"{n}")
            for n in range(FLEETS)
        ]
        for fleet in fleets:
            stack.callback(fleet.kill)
            fleet.start()
            time.sleep(STAGGER_S)
        until_online(api, DEVICES)
        yield Watched(installation, by_hand, fleets, api)


def presence_changes(installation: Installation) -> list[tuple[str, str]]:
    return installation.rows("SELECT presence, before FROM presence_change ORDER BY id")


def settled(watched: Watched) -> tuple[Journal, int]:
    """Quiet time: every sample made by now is receipted."""
    paths = [fleet.journal for fleet in watched.fleets]
    journal, now_ms = Journal(), time.time_ns() // 1_000_000
    until(
        lambda: not journal.read(paths).unreceipted(now_ms),
        "every sample is receipted",
        within_s=SETTLE_S_MAX,
        look_s=0.2,
    )
    return journal, now_ms


def away(folder: Path, engine: str, absence: Callable[[Watched], None], *, away_s: float) -> str:
    """Judges an absence: presence stood still, the backlog is stored once with right times."""
    with watched(folder, engine) as scene:
        online = [("online", "never")] * DEVICES
        assert presence_changes(scene.installation) == online
        absence(scene)
        scene.by_hand.until_ready()
        until_online(scene.api, DEVICES, within_s=5)
        journal, now_ms = settled(scene)
        assert presence_changes(scene.installation) == online
        until_online(scene.api, DEVICES, within_s=5)
        # What is stored afterwards was made by nobody any more.
        for fleet in scene.fleets:
            fleet.stop()
        journal.read([fleet.journal for fleet in scene.fleets])
        serials = [serial for fleet in scene.fleets for serial in fleet.serials]
        answers = {serial: scene.api.heartbeats(serial) for serial in serials}
        # Agents went on sampling meanwhile; every one of these samples is here.
        for items in answers.values():
            assert len(items) >= away_s / INTERVAL_S
            assert {item["time_from"] for item in items} == {"server"}
        findings = check(
            journal, stored_samples(answers), settled_ms=now_ms, error_ms_max=ERROR_MS_MAX
        )
        findings.insist()
        counters = [device["counters"] for device in scene.api.devices("").values()]
        assert sum(one["lost"] + one["dropped"] for one in counters) == 0
        assert not scene.installation.tracebacks()
        return f"{findings.summary()}; largest error {findings.latest_error_ms} ms"


def killed_for(down_s: float) -> Callable[[Watched], None]:
    def absence(scene: Watched) -> None:
        scene.by_hand.stop("gateway", signal.SIGKILL)
        time.sleep(down_s)  # the absence itself
        scene.by_hand.start_gateway()

    return absence


def stood_still(scene: Watched) -> None:
    """Stopped and continued, as when a machine was suspended: what waited for it is old."""
    pid = scene.by_hand.processes["gateway"].pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STOOD_STILL_S)  # the absence itself
    os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(150)
def test_a_gateway_that_was_down_makes_nobody_late(
    tmp_path: Path, engine: str, summary_row: SummaryRow
) -> None:
    text = away(tmp_path, engine, killed_for(DOWN_LATE_S), away_s=DOWN_LATE_S)
    summary_row(f"gateway down, {engine}", f"{DOWN_LATE_S:.0f} s", text)


@pytest.mark.timeout(120)
def test_a_gateway_that_stood_still_misdates_nothing(tmp_path: Path, engine: str) -> None:
    away(tmp_path, engine, stood_still, away_s=STOOD_STILL_S)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_gateway_that_was_down_for_long_makes_nobody_offline(
    tmp_path: Path, engine: str, summary_row: SummaryRow
) -> None:
    text = away(tmp_path, engine, killed_for(DOWN_OFFLINE_S), away_s=DOWN_OFFLINE_S)
    summary_row(f"gateway down, {engine}", f"{DOWN_OFFLINE_S:.0f} s", text)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_server_that_was_down_whole_makes_nobody_offline(
    tmp_path: Path, engine: str, summary_row: SummaryRow
) -> None:
    """The MQTT server is away too, so agents have to come back first, each in its own time."""

    def absence(scene: Watched) -> None:
        scene.by_hand.stop("gateway", signal.SIGKILL)
        scene.by_hand.stop("mosquitto", signal.SIGKILL)
        time.sleep(2 * DOWN_OFFLINE_S)  # the absence itself
        scene.by_hand.start()

    text = away(tmp_path, engine, absence, away_s=2 * DOWN_OFFLINE_S)
    summary_row(f"whole server down, {engine}", f"{2 * DOWN_OFFLINE_S:.0f} s", text)
