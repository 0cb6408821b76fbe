"""Two nodes under load: any process may be killed, and everything is restarted in turn."""

import asyncio
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.conftest import SummaryRow
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.history_checker import Journal, Kill, Sample, check
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, until
from tests.scenario.several_nodes import NODES, SeveralNodes, several_nodes
from tests.scenario.tunnel import ECHO, connecting

GATEWAYS = 2
KINDS = ("gateway", "gateway-2", "mosquitto", "relay", "up")
MOMENT_S_MAX = 2.0
# A gateway that is busy starting reads late what the MQTT server kept for it.
ERROR_MS_MAX = 10_000
SETTLE_S_MAX = 120.0
COMMANDS_S_MAX = 120.0
SESSIONS_S_MAX = 60.0
SESSIONS = 3  # on each node
CALLERS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    devices: int
    fleets: int
    interval_s: int
    online_s_max: float
    strikes_of_each_kind: int


SMALL = Size(devices=60, fleets=2, interval_s=1, online_s_max=60, strikes_of_each_kind=1)
FULL = Size(devices=1_000, fleets=4, interval_s=10, online_s_max=300, strikes_of_each_kind=2)


@dataclass(frozen=True, slots=True)
class Scene:
    """The machines, and the agents that send to them."""

    nodes: SeveralNodes
    fleets: list[Fleet]
    size: Size

    @property
    def api(self) -> Api:
        return self.nodes.apis[0]

    @property
    def serials(self) -> list[str]:
        return [serial for fleet in self.fleets for serial in fleet.serials]

    @property
    def journals(self) -> list[Path]:
        return [fleet.journal for fleet in self.fleets]

    def until_online(self) -> None:
        until_online(self.api, self.size.devices, within_s=self.size.online_s_max)

    def by_node(self) -> dict[str, list[str]]:
        """Serials by the node at which they are now."""
        rows = self.nodes.first.rows(
            "SELECT l.node, d.serial FROM device_live AS l JOIN device AS d ON d.id = l.device_id"
            " ORDER BY d.serial"
        )
        return {node: [serial for at, serial in rows if at == node] for node in NODES}

    def is_spread(self) -> bool:
        """Whether each node has a good part of the devices."""
        return min(len(serials) for serials in self.by_node().values()) >= self.size.devices // 5

    def spread_again(self) -> None:
        """Whoever lost its node went to the other one and stayed; started again, all go back."""
        for fleet in self.fleets:
            fleet.stop()
        journal, since_ms = Journal(), time.time_ns() // 1_000_000
        for fleet in self.fleets:
            fleet.start()

        def all_heard() -> bool:
            journal.read(self.journals)
            heard = {one.serial for one in journal.receipted if journal.made[one] >= since_ms}
            return len(heard) == self.size.devices

        until(
            lambda: all_heard() and self.is_spread(),
            "all devices are heard again, at both nodes",
            within_s=self.size.online_s_max,
            look_s=0.5,
        )


def started(stack: ExitStack, folder: Path, size: Size) -> Scene:
    nodes = stack.enter_context(several_nodes(folder, gateways=GATEWAYS))
    api = nodes.apis[0]
    company = api.company("Nodes")
    api.grant(company, size.devices)
    join = api.join_code(company, size.devices)
    each = size.devices // size.fleets
    # Of no machine: they live on when one is gone.
    outside = Installation(folder / "outside")
    fleets = [
        Fleet(outside, join, each, 1_700_000_001 + n * each, size.interval_s, folder / f"fleet-{n}")
        for n in range(size.fleets)
    ]
    for fleet in fleets:
        stack.callback(fleet.kill)
        fleet.start()
    scene = Scene(nodes, fleets, size)
    scene.until_online()
    # Both have much to do, or this would be one node.
    assert scene.is_spread()
    return scene


def struck(scene: Scene, rng: Random) -> list[Kill]:
    """Kills each kind of process, of either machine, at moments that nobody foresees."""
    kills = []
    for _ in range(scene.size.strikes_of_each_kind):
        for what in rng.sample(KINDS, len(KINDS)):
            machine = rng.choice(scene.nodes.machines)
            time.sleep(rng.uniform(0, MOMENT_S_MAX))  # the random moment, nothing is waited for
            kill = Kill(what, time.time_ns() // 1_000_000)
            scene.nodes.strike(machine, what)
            kills.append(kill)
    return kills


def insist_commands_reach_all(scene: Scene) -> None:
    """By the gateways in turn, wherever the device is."""
    apis = itertools.cycle(scene.nodes.apis)

    def sent(serial_and_api: tuple[str, Api]) -> tuple[str, str]:
        serial, api = serial_and_api
        made = api.done("POST", f"/devices/{serial}/commands", {"verb": "refresh"})
        return serial, made["id"]

    with ThreadPoolExecutor(CALLERS) as pool:
        waiting = dict(pool.map(sent, zip(scene.serials, apis, strict=False)))
    outcomes: dict[str, str] = {}

    def ended() -> bool:
        for serial in list(waiting):
            (one,) = scene.api.get(f"/devices/{serial}/commands?id={waiting[serial]}")["items"]
            if one["state"] == "ended":
                outcomes[serial] = one["outcome"]
                del waiting[serial]
        return not waiting

    until(ended, "all commands are answered", within_s=COMMANDS_S_MAX, look_s=0.2)
    wrong = {serial: outcome for serial, outcome in outcomes.items() if outcome != "done"}
    assert not wrong


async def insist_sessions_open(scene: Scene, folder: Path) -> None:
    """To devices at each node; and bytes go through to one at each."""
    by_node = scene.by_node()
    apis = itertools.cycle(scene.nodes.apis)
    opened = []
    for node in NODES:
        for serial in by_node[node][:SESSIONS]:
            asked = {"serial": serial, "target": ECHO, "protocol": "tcp"}
            opened.append(next(apis).done("POST", "/sessions", asked)["id"])

    def linked() -> bool:
        states = {scene.api.get(f"/sessions/{session}")["state"] for session in opened}
        return states == {"open"}

    await asyncio.to_thread(until, linked, "all links are up", within_s=SESSIONS_S_MAX, look_s=0.2)
    for node in NODES:
        serial = by_node[node][-1]
        async with connecting(scene.nodes.first, folder, f"{serial}:{ECHO}") as running:
            stream = await running.echo()
            await stream.says(os.urandom(100_000))
    for session in opened:
        scene.api.done("DELETE", f"/sessions/{session}")


def insist_no_double_alert(scene: Scene) -> int:
    """Each transition once, and each from where the one before led; how many there were."""
    rows = scene.nodes.first.rows(
        "SELECT device_id, before, presence, at FROM presence_change ORDER BY device_id, id"
    )
    assert len(set(rows)) == len(rows)
    for former, (device, before, presence, at) in itertools.pairwise(rows):
        assert before != presence, (device, at)
        if former[0] == device:
            assert before == former[2], (former, (device, before, presence, at))
    return len(rows)


def stored_rows(scene: Scene) -> list[tuple[Sample, int]]:
    rows = scene.nodes.first.rows(
        "SELECT d.serial, r.run, h.number, h.at FROM heartbeat AS h"
        " JOIN run AS r ON r.id = h.run_id JOIN device AS d ON d.id = h.device_id"
    )
    return [(Sample(serial, run, number), at) for serial, run, number, at in rows]


def settle(scene: Scene) -> tuple[Journal, int]:
    """Quiet time: every sample made by now is receipted. Then the agents stop."""
    journal, now_ms = Journal(), time.time_ns() // 1_000_000
    until(
        lambda: not journal.read(scene.journals).unreceipted(now_ms),
        "every sample is receipted",
        within_s=SETTLE_S_MAX,
        look_s=0.2,
    )
    for fleet in scene.fleets:
        fleet.stop()
    return journal.read(scene.journals), now_ms


async def nodes_under_strikes(folder: Path, size: Size) -> str:
    seed = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"KILL_SEED={seed}")
    with ExitStack() as stack:
        scene = await asyncio.to_thread(started, stack, folder, size)
        kills = await asyncio.to_thread(struck, scene, Random(seed))
        await asyncio.to_thread(scene.until_online)
        await asyncio.to_thread(scene.nodes.restart_in_turn)
        await asyncio.to_thread(scene.until_online)
        await asyncio.to_thread(scene.spread_again)
        await asyncio.to_thread(scene.until_online)
        await asyncio.to_thread(insist_commands_reach_all, scene)
        await insist_sessions_open(scene, folder)
        # Right in the end, for each of them.
        await asyncio.to_thread(scene.until_online)
        transitions = insist_no_double_alert(scene)
        journal, settled_ms = await asyncio.to_thread(settle, scene)
        findings = check(
            journal,
            stored_rows(scene),
            kills=kills,
            settled_ms=settled_ms,
            error_ms_max=ERROR_MS_MAX,
        )
        findings.insist()
        first = scene.nodes.first
        await asyncio.to_thread(first.insist_verified)
        ((days,),) = first.rows("SELECT count(*) FROM monitored_day")
        ((served,),) = first.rows("SELECT count(DISTINCT device_id) FROM monitored_day")
        assert served == size.devices <= days <= 2 * size.devices  # two days around midnight
        assert not scene.nodes.tracebacks()
    return f"{findings.summary()}; {transitions} transitions, none twice; KILL_SEED={seed}"


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_two_nodes_lose_and_double_nothing(tmp_path: Path, summary_row: SummaryRow) -> None:
    text = await nodes_under_strikes(tmp_path, SMALL)
    summary_row("two nodes, everything struck", f"{SMALL.devices} devices", text)


@pytest.mark.long
@pytest.mark.timeout(1_800)
async def test_two_nodes_with_a_thousand_devices(tmp_path: Path, summary_row: SummaryRow) -> None:
    text = await nodes_under_strikes(tmp_path, FULL)
    summary_row("two nodes, everything struck", f"{FULL.devices} devices", text)
