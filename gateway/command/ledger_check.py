"""Runs `fleetgate verify` beside the gateway from time to time; `/status` tells the result."""

import asyncio
import logging
import os
import sys
from functools import partial
from pathlib import Path

from gateway.clock import Clock
from gateway.domain.instants import SECOND_MS
from gateway.storage.installation_facts import get, put
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)

FIRST_AFTER_S = 30.0
EVERY_S = 6 * 3_600.0
LOOK_S = 3_600.0
AGAIN_S = 600.0  # at a start: one gateway after another may be started anew
CHECK_S_MAX = 1_800.0
NICENESS = 10
BEGAN_KEY = "ledger_check_began_at"


async def check_ledger_forever(
    store: Store, clock: Clock, telemetry: Telemetry, data: Path
) -> None:
    """In a process of its own, which only reads: a large ledger must not hold heartbeats up."""
    wait_s, pause_s = FIRST_AFTER_S, AGAIN_S
    while True:
        await asyncio.sleep(wait_s)
        try:
            mine = await store.write(partial(_claim, pause_s=pause_s), lane=Lane.JOBS)
        except StoreBusy as error:
            log.warning("ledger check put off error=%s", error)
            wait_s = FIRST_AFTER_S
            continue
        wait_s, pause_s = LOOK_S, EVERY_S
        if not mine:
            continue
        sound = await _check(data)
        if sound is None:
            telemetry.failed(clock.wall_ms(), "ledger_not_checked", "verify did not end")
            continue
        if not sound:
            log.error("ledger check failed: run  fleetgate verify --data %s", data)
            telemetry.failed(clock.wall_ms(), "ledger_broken", "run `fleetgate verify`")
        try:
            await store.write(partial(_keep, sound=sound), lane=Lane.JOBS)
        except StoreBusy as error:
            log.warning("result of the ledger check not kept error=%s", error)


def _claim(tx: Transaction, pause_s: float) -> bool:
    """Whether this gateway checks now: of all one does, and not before the pause is over."""
    if not tx.alone("ledger check"):
        return False
    began_at = get(tx, BEGAN_KEY)
    if began_at is not None and 0 <= tx.now_ms - int(began_at) < pause_s * SECOND_MS:
        return False
    put(tx, BEGAN_KEY, str(tx.now_ms))
    return True


def _keep(tx: Transaction, sound: bool) -> None:
    put(tx, "ledger_checked_at", str(tx.now_ms))
    put(tx, "ledger_ok", "1" if sound else "0")


async def _check(data: Path) -> bool | None:
    """Whether the ledger agrees with itself; None when that could not be found out in time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.command.verify",
        "--data",
        str(data),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=partial(os.nice, NICENESS),
    )
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return await process.wait() == 0
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
