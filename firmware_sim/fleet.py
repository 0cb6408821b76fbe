"""Many simulated routers in one process, or spread over several."""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from firmware_sim.journal import JournalFile
from firmware_sim.profiles import FIRST_SERIAL
from firmware_sim.router import Router, Standing, Surroundings
from firmware_sim.world import World

PROGRESS_S = 5.0
_JOINS_AT_ONCE = 12
_THREADS_MAX = 24  # TCP and TLS are opened in threads, and a server that hangs holds each for 10 s
_FILES_SPARE = 4_096  # a visited router holds both ends of each connection to what it serves
_FILES_EACH = 4
_CHILD_STOP_S_MAX = 15.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What the command line asked for."""

    join_string: str
    routers: int = 25
    seed: int = 1
    first_serial: int = FIRST_SERIAL
    state: Path = Path("fleet-state")
    interval_s: int = 60
    journal: Path | None = None
    duration_s: float | None = None
    calm: bool = False
    calm_s: float = 0.0
    chatty: bool = False


def raise_file_limit(wanted: int) -> None:
    """As far as this user may; too little shows itself in failing connections, not here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))


async def run_fleet(plan: FleetPlan, ending: asyncio.Event, say: Callable[[str], None]) -> None:
    """All routers of the plan, in this process, until `ending` or the end of the duration."""
    raise_file_limit(plan.routers * _FILES_EACH + _FILES_SPARE)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS_MAX))
    journal = JournalFile(plan.journal)
    around = Surroundings(
        plan.join_string,
        journal,
        asyncio.Semaphore(_JOINS_AT_ONCE),
        {},
        plan.interval_s,
        plan.calm,
        plan.calm_s,
        say if plan.chatty else lambda text: None,
    )
    routers = []
    for number in range(plan.first_serial, plan.first_serial + plan.routers):
        world = World(plan.seed, number)
        # Jitter is not part of the story: two processes with one seed must not march in step.
        routers.append(Router(world, plan.state / world.serial, around, Random()))
    try:
        async with asyncio.TaskGroup() as tasks:
            lives = [
                tasks.create_task(router.live(ending), name=f"router {router.world.serial}")
                for router in routers
            ]
            progress = tasks.create_task(_progress(routers, journal, say), name="progress")
            try:
                async with asyncio.timeout(plan.duration_s):
                    await ending.wait()
            except TimeoutError:
                ending.set()
            await asyncio.wait(lives)
            progress.cancel()
    finally:
        say(summary(routers, journal))
        journal.close()


async def _progress(
    routers: list[Router], journal: JournalFile, say: Callable[[str], None]
) -> None:
    before = ""
    while True:
        line = summary(routers, journal)
        if line != before:
            say(line)
        before = line
        await asyncio.sleep(PROGRESS_S)


def summary(routers: list[Router], journal: JournalFile) -> str:
    """One line about the whole fleet."""
    count = dict.fromkeys(Standing, 0)
    for router in routers:
        count[router.standing] += 1
    agents = [router.agent for router in routers if router.agent is not None]
    text = (
        f"routers={len(routers)} connected={sum(router.connected for router in routers)} "
        f"joining={count[Standing.JOINING]} waiting={count[Standing.WAITING]} "
        f"rebooting={count[Standing.DOWN]} samples={journal.made_count} "
        f"receipted={journal.receipted_count} "
        f"in_spool={sum(len(agent.spool) for agent in agents)} "
        f"dropped={sum(agent.spool.dropped for agent in agents)}"
    )
    unlucky = next((r for r in routers if r.last_error and r.standing is Standing.JOINING), None)
    return text if unlucky is None else f"{text} error={unlucky.last_error!r}"


def shares(routers: int, processes: int) -> list[tuple[int, int]]:
    """`(first, count)` for each process, as even as can be."""
    even, more = divmod(routers, processes)
    counts = [even + (position < more) for position in range(processes)]
    return [(sum(counts[:position]), count) for position, count in enumerate(counts) if count]


async def run_processes(
    plan: FleetPlan, processes: int, ending: asyncio.Event, say: Callable[[str], None]
) -> int:
    """The same fleet in several processes; the highest exit code among them.

    A child ends when its standard input does, so killing this process leaves none behind.
    """
    children = []
    for first, count in shares(plan.routers, processes):
        command = [sys.executable, "-m", "firmware_sim", "fleet", "--until-input-ends"]
        command += ["--routers", str(count), "--first-serial", str(plan.first_serial + first)]
        command += ["--seed", str(plan.seed), "--state", str(plan.state.absolute())]
        command += ["--interval", str(plan.interval_s), "--join", plan.join_string]
        if plan.journal is not None:
            command += ["--journal", str(plan.journal.absolute())]
        if plan.calm:
            command.append("--calm")
        command += ["--calm-for", str(plan.calm_s)]
        children.append(
            await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        )
    say(json.dumps({"processes": [child.pid for child in children]}))
    try:
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(child.wait(), name=f"{child.pid}") for child in children]
            ended = tasks.create_task(ending.wait(), name="ending")
            await asyncio.wait(
                (*ends, ended), timeout=plan.duration_s, return_when=asyncio.FIRST_COMPLETED
            )
            ended.cancel()
            for child in children:
                if child.returncode is None:
                    child.send_signal(signal.SIGTERM)
            await asyncio.wait(ends, timeout=_CHILD_STOP_S_MAX)
            for child in children:
                if child.returncode is None:
                    child.kill()
    finally:
        for child in children:
            if child.returncode is None:
                child.kill()
    return max(abs(child.returncode or 0) for child in children)
