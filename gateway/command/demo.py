"""The simulated fleet of `fleetgate up --demo`: a company, its credits, routers that join once."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.command.data_directory import read_private_json, write_private_json
from gateway.command.local_api import ApiUnreachable, LocalApi
from gateway.command.supervisor import ChildSpec

STATE_NAME = "demo.json"
COMPANY_NAME = "Demo"
SPARE_CREDITS = 25
SEED = 1
INTERVAL_S = 10
CALM_S = 600  # a newcomer sees the fleet whole first; reboots and cuts come later
ONLINE_S_MAX = 45.0
LOOK_S = 0.25


async def prepare(api: LocalApi, data: Path, routers: int) -> str:
    """The join string for the fleet; what an earlier start has already made is used again."""
    path = data / STATE_NAME
    state: dict[str, Any] = dict(read_private_json(path)) if path.exists() else {}
    if "company_id" not in state:
        company = await api.post(
            "/api/v1/companies", {"name": COMPANY_NAME}, key="fleetgate-demo-company"
        )
        state["company_id"] = company["id"]
        write_private_json(path, state)
    had = int(state.get("routers", 0))
    if routers > had:
        # Only the added routers cost something; those of earlier starts keep their credit.
        added = routers - had
        credits = added + (SPARE_CREDITS if had == 0 else 0)
        await api.post(
            "/api/v1/credits/grants",
            {"company_id": state["company_id"], "credits": credits},
            key=f"fleetgate-demo-grant-{had}-{routers}",
        )
        made = await api.post(
            f"/api/v1/companies/{state['company_id']}/join-codes",
            {"uses": added, "register": True, "credits": added},
            key=f"fleetgate-demo-code-{had}-{routers}",
        )
        state |= {"routers": routers, "join": made["join"]}
        write_private_json(path, state)
    return str(state["join"])


def fleet(
    *, data: Path, routers: int, join: str, log_file: Path, environment: Mapping[str, str]
) -> ChildSpec:
    """The process in which the simulated routers live."""
    return ChildSpec(
        name="demo",
        command=[
            sys.executable,
            "-m",
            "firmware_sim",
            "fleet",
            "--routers",
            str(routers),
            "--seed",
            str(SEED),
            "--state",
            str(data / "demo"),
            "--interval",
            str(INTERVAL_S),
            "--calm-for",
            str(CALM_S),
            "--join",
            join,
        ],
        log_file=log_file,
        environment=environment,
    )


async def wait_online(api: LocalApi, routers: int, seen: Callable[[int], None]) -> int:
    """How many are online: all of them, or those there were when the time was over."""
    online = 0
    try:
        async with asyncio.timeout(ONLINE_S_MAX):
            while online < routers:
                online = await _online(api)
                seen(online)
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        pass  # said by the caller, who knows what to look at
    return online


async def _online(api: LocalApi) -> int:
    try:
        answer = await api.get("/status")
        devices = answer.json()["devices"]
        return int(devices["online"])
    except (ApiUnreachable, KeyError, TypeError, ValueError):
        return 0  # the gateway is being started again; the next look may find it
