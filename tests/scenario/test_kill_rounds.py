"""`kill -9` of gateway, MQTT server or agents at random moments: nothing lost, none twice.

`KILL_ROUNDS` and `KILL_SEED` in the environment set the number of rounds and repeat a run's plan.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.conftest import SummaryRow
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.history_checker import Journal, Kill, Sample, check, stored_samples
from tests.scenario.installation import Installation, installed, marked, until

DEVICES = 300
FLEETS = 2
INTERVAL_S = 1
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
ROUNDS_LONG = int(os.environ.get("KILL_ROUNDS", "30"))
# What a round waits before it strikes, after the round before has healed.
MOMENT_S_MAX = 3.0
SETTLE_S_MAX = 60.0
# A gateway that is busy starting reads late what the MQTT server kept for it.
ERROR_MS_MAX = 5_000
READERS = 4


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def fleets(installation: Installation, folder: Path, devices: int) -> Iterator[list[Fleet]]:
    """Agents in several processes, all online."""
    api = installation.api
    company = api.company("Killed")
    api.grant(company, devices)
    join = api.join_code(company, devices)
    each = devices // FLEETS
    found = [
        Fleet(
            installation, join, each, 1_300_000_001 + index * each, INTERVAL_S, folder / f"{index}"
        )
        for index in range(FLEETS)
    ]
    with ExitStack() as stack:
        for fleet in found:
            stack.callback(fleet.kill)
            fleet.start()
        until_online(api, devices)
        yield found
        for fleet in found:
            fleet.stop()


def plan(rng: Random, rounds: int) -> list[str]:
    """Each kind of process at least once in three rounds, in an order that nobody foresees."""
    kinds = ["gateway", "mosquitto", "agents"]
    planned: list[str] = []
    while len(planned) < rounds:
        planned += rng.sample(kinds, len(kinds))
    return planned[:rounds]


def strike(installation: Installation, what: str, among: list[Fleet], rng: Random) -> Kill:
    """Kills, and has it started again."""
    if what != "agents":
        former = installation.kill_child(what)
        kill = Kill(what, wall_ms())
        installation.back(what, former)
        return kill
    fleet = rng.choice(among)
    fleet.kill()
    kill = Kill(what, wall_ms())
    fleet.start()
    return kill


def settle(journal: Journal, among: list[Fleet]) -> int:
    """Quiet time: until all samples that were made by now have been receipted."""
    paths = [fleet.journal for fleet in among]
    now_ms = wall_ms()

    until(
        lambda: not journal.read(paths).unreceipted(now_ms),
        "every sample is receipted",
        within_s=SETTLE_S_MAX,
        look_s=0.2,
    )
    return now_ms


def all_stored(installation: Installation, serials: list[str]) -> list[tuple[Sample, int]]:
    with ThreadPoolExecutor(READERS) as pool:
        answers = pool.map(installation.api.heartbeats, serials)
        return stored_samples(dict(zip(serials, answers, strict=True)))


def kill_rounds(folder: Path, rounds: int) -> str:
    seed = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"KILL_SEED={seed}")
    rng = Random(seed)
    kills: list[Kill] = []
    journal = Journal()
    with installed(folder) as installation:
        with fleets(installation, folder, DEVICES) as among:
            for what in plan(rng, rounds):
                time.sleep(rng.uniform(0, MOMENT_S_MAX))  # the random moment, nothing is waited for
                kills.append(strike(installation, what, among, rng))
            settled_ms = settle(journal, among)
        journal.read([fleet.journal for fleet in among])
        serials = [serial for fleet in among for serial in fleet.serials]
        stored = all_stored(installation, serials)
        counters = [device["counters"] for device in installation.api.devices("").values()]
        findings = check(
            journal, stored, kills=kills, settled_ms=settled_ms, error_ms_max=ERROR_MS_MAX
        )
        findings.insist()
        assert not sum(one["lost"] + one["dropped"] + one["malformed"] for one in counters)
        assert not installation.tracebacks()
        # Samples that were stored while their receipt never arrived: sent again, taken once.
        repeats = sum(one["repeats"] for one in counters)
        assert repeats, "vacuous: nothing was ever sent twice"
        return f"{findings.summary()}; repeats {repeats}; KILL_SEED={seed}"


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_by_kills(tmp_path: Path, summary_row: SummaryRow) -> None:
    text = kill_rounds(tmp_path, ROUNDS)
    summary_row("kill rounds", ROUNDS, text)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_nothing_is_lost_or_doubled_by_many_kills(tmp_path: Path, summary_row: SummaryRow) -> None:
    text = kill_rounds(tmp_path, ROUNDS_LONG)
    summary_row("kill rounds, long", ROUNDS_LONG, text)


def test_killing_up_leaves_no_process_of_its_tree(tmp_path: Path) -> None:
    installation = Installation(tmp_path, ("--demo", "3"))
    try:
        installation.start()
        family = marked(installation.mark)
        # up, three children and a watcher for each.
        assert len(family) >= 7, family
        installation.kill()
        until(lambda: not marked(installation.mark), "all are gone", within_s=10)
    finally:
        installation.end()
