"""One simulated router through a network cut and a reboot, against the whole product."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

from firmware_sim.journal import JournalFile
from firmware_sim.router import Router, Surroundings
from firmware_sim.world import Event, EventKind, World
from tests.integration.test_agent_fleet import (
    FIRST_SERIAL,
    call,
    everything_is_receipted,
    join_string,
    journal,
)
from tests.integration.test_agent_live import until
from tests.integration.test_up_whole import running


class EventfulWorld(World):
    """Hours of a router's life in seconds."""

    def story(self, calm_s: float = 0.0) -> Iterator[Event]:
        yield Event(4.0, EventKind.CUT, 2.0)
        yield Event(9.0, EventKind.REBOOT, 0.5)
        yield Event(1e9, EventKind.CUT, 1.0)


async def test_a_cut_and_a_reboot_lose_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with running(tmp_path / "data") as up:
        ready = await asyncio.to_thread(up.wait_ready)
        text = await asyncio.to_thread(join_string, ready, 1)
        book = JournalFile(tmp_path / "journal")
        around = Surroundings(text, book, asyncio.Semaphore(1), {}, 1, False, 0.0, said.append)
        world = EventfulWorld(1, FIRST_SERIAL)
        router = Router(world, tmp_path / "router", around, Random(1))
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(router.live(ending))
            await until(lambda: any("reboots" in text for text in said), within_s=30)
            runs = {run for _, run, _ in journal(tmp_path)["made"]}
            await until(
                lambda: len({run for _, run, _ in journal(tmp_path)["made"]} - runs) == 1,
                within_s=20,
            )
            await until(lambda: everything_is_receipted(tmp_path), within_s=20)
            ending.set()
        book.close()
        assert any("cut" in text for text in said)
        told = {(run, number) for _, run, number in journal(tmp_path)["receipted"]}
        page = await asyncio.to_thread(
            call, ready, "GET", f"/devices/{FIRST_SERIAL}/heartbeats?limit=500"
        )
        kept = [(item["run"], item["number"]) for item in page["items"]]
        assert set(kept) >= told and len(kept) == len(set(kept))
