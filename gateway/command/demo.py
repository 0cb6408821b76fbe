"""The simulated fleet of `fleetgate up --demo`: a company, its credits, routers that join once."""

import asyncio
import shlex
import shutil
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
FIRST_SERIAL = 1_100_000_001
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
            "--first-serial",
            str(FIRST_SERIAL),
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


def to_try(data: Path, routers: int) -> list[str]:
    """Lines to paste into another terminal in this folder: pages and a shell behind routers."""
    program = _program()
    where = "" if data.absolute() == Path("data").absolute() else f" --data {_quoted(data)}"
    opening = f"{program} admin sessions open{where} --protocol http --serial"
    # In a proxy command, % begins what ssh fills in.
    proxy = f"{program} connect{where} --stdio".replace("%", "%%") + " %n:%p"
    first, second = FIRST_SERIAL, FIRST_SERIAL + (routers > 1)
    return [
        "",
        "  Try in another terminal, in this folder (the routers' sign-in is admin, admin01):",
        "    A router's own page: open the url that this prints in the browser",
        f"      {opening} {first}",
        "    A machine in the network behind a router",
        f"      {opening} {second} --target 192.168.1.50:80",
        "    A router's shell; scp and sftp take the same option",
        f"      ssh -o {shlex.quote(f'ProxyCommand={proxy}')} admin@{first}",
    ]


def _program() -> str:
    """How this program can be called again from the same folder."""
    name = Path(sys.argv[0])
    if name.name != "fleetgate":
        return f"{_quoted(Path(sys.executable))} -m gateway.command.app"
    found = shutil.which("fleetgate")
    if found is not None and Path(found).resolve() == name.resolve():
        return "fleetgate"
    return _quoted(name)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


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
