"""A joined device turns hostile: nothing but its own counters changes; all stays ready."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.attacks import ATTACKS, Attack, Scene
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.handmade import Handmade
from tests.scenario.history_checker import Journal, check, stored_samples
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, instant_s, until

AGENTS = 2
QUARANTINE_MAX = 1_000
VICTIM, ATTACKER = "1700000001", "1700000002"
FIRST_AGENT = 1_700_000_011


@pytest.fixture(scope="module")
def join(api: Api) -> str:
    company = api.company("Attacked")
    api.grant(company, 100)
    return api.join_code(company, 100)


@pytest.fixture(scope="module")
def fleet(
    installation: Installation,
    api: Api,
    join: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Real agents that work beside all this, and whose journal is checked at the end."""
    folder = tmp_path_factory.mktemp("agents")
    fleet = Fleet(installation, join, AGENTS, FIRST_AGENT, 1, folder).start()
    until_online(api, AGENTS)
    yield fleet
    fleet.kill()


@pytest.fixture(scope="module")
def two(installation: Installation, join: str) -> tuple[Handmade, Handmade]:
    """The attacker and its victim."""
    attacker = Handmade(installation, ATTACKER).join(join)
    return attacker, Handmade(installation, VICTIM).join(join)


def untouched(api: Api, serial: str) -> dict[str, Any]:
    """All that is known of a device; when it was last heard is its own doing."""
    device = api.device(serial)
    device["presence"].pop("last_heard_at")
    # The victim repeats itself in one of the attacks.
    device["counters"].pop("repeats")
    return {
        "device": device,
        "heartbeats": api.heartbeats(serial),
        "ledger": api.ledger(serial=serial),
        "commands": api.get(f"/devices/{serial}/commands"),
    }


def until_others_are_heard(api: Api, fleet: Fleet) -> None:
    """Samples made after this call are stored, and are the newest values."""
    now_s = time.time()

    def heard() -> bool:
        newest = [api.get(f"/devices/{one}/heartbeats?limit=1")["items"] for one in fleet.serials]
        return all(items and instant_s(items[0]["at"]) > now_s for items in newest)

    until(heard, "other devices are heard", within_s=20)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_only_the_attackers_own_counters_change(
    installation: Installation,
    api: Api,
    fleet: Fleet,
    two: tuple[Handmade, Handmade],
    attack: Attack,
) -> None:
    attacker, victim = two
    async with victim.connect() as seen:
        await seen.subscribe(f"fg1/c/{VICTIM}/ok", f"fg1/c/{VICTIM}/cmd")
        await seen.publish(f"fg1/d/{VICTIM}/up", victim.up())
        await seen.publish(victim.hb, victim.heartbeat(1, 2, 3, uptime=7, hostname="victim"))
        await seen.until_received()
        before = untouched(api, VICTIM)
        received = len(seen.received)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(stays_ready(api), name="ready")
            await attack(Scene(attacker, victim, seen, fleet.serials[0]))
            await asyncio.to_thread(until_others_are_heard, api, fleet)
            watch.cancel()
        # It is answered as before, and nobody else wrote to it.
        await seen.publish(victim.hb, victim.heartbeat(3), qos=0)
        await seen.until_received(count=received + 1)
        assert {packet.topic for packet in seen.received} == {f"fg1/c/{VICTIM}/ok"}
        assert untouched(api, VICTIM) == before
        assert before["device"]["presence"]["state"] == "online"
    insist_unharmed(installation, api)


async def stays_ready(api: Api) -> None:
    while True:
        answer = await asyncio.to_thread(api.ask, "GET", "//readyz")
        assert answer.status == 200, answer.body
        await asyncio.sleep(0.2)


def insist_unharmed(installation: Installation, api: Api) -> None:
    status = api.status()
    assert status["ready"]
    ((quarantined,),) = installation.rows("SELECT count(*) FROM quarantine")
    assert quarantined <= QUARANTINE_MAX
    assert not {"message_not_stored", "batch_not_stored"} & set(status["errors"])
    assert installation.tracebacks() == []
    # Lists and pages show the attacker, whatever it said.
    assert api.ask("GET", f"/devices/{ATTACKER}").status == 200
    assert api.ask("GET", "/devices?limit=500").status == 200
    assert api.ask("GET", f"/devices/{ATTACKER}/heartbeats?limit=500").status == 200


def test_what_it_did_is_counted(api: Api, fleet: Fleet, two: tuple[Handmade, Handmade]) -> None:
    """After the attacks above: counted where they were made, and quarantined within limits."""
    counters = api.device(ATTACKER)["counters"]
    assert counters["malformed"] >= 10_000
    assert counters["ignored_fields"] > 0
    others = [api.device(serial)["counters"] for serial in (VICTIM, *fleet.serials)]
    assert sum(one["malformed"] + one["ignored_fields"] + one["lost"] for one in others) == 0
    assert "credential_in_two_places" in api.device(ATTACKER)["alerts"]
    assert api.device(VICTIM)["alerts"] == []


def test_the_agents_beside_it_lost_nothing(
    installation: Installation, api: Api, fleet: Fleet
) -> None:
    journal = Journal()
    now_ms = time.time_ns() // 1_000_000
    until(
        lambda: not journal.read([fleet.journal]).unreceipted(now_ms),
        "every sample is receipted",
        within_s=30,
    )
    stored = stored_samples({serial: api.heartbeats(serial) for serial in fleet.serials})
    check(journal, stored, settled_ms=now_ms, error_ms_max=3_000).insist()
    installation.insist_verified()


def test_a_stranger_is_not_let_in(installation: Installation, two: Any, tmp_path: Path) -> None:
    stranger = Handmade(installation, "1700000099")
    assert not stranger.let_in()
    # With the attacker's password under another name.
    assert not Handmade(installation, "1700000099", two[0].secret).let_in()
