"""The agent as a program on simulated routers, against the whole product: what the desk reads."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.profiles import FIRST_SERIAL, PROFILES
from firmware_sim.surfaces.at_modem import AtModem
from firmware_sim.surfaces.facts import RouterState, expected_modem, state_of
from firmware_sim.surfaces.programs import write_programs
from firmware_sim.surfaces.pseudo_terminal import serial_port
from firmware_sim.world import World
from tests.integration.supervised import until_plain
from tests.integration.test_agent_fleet import call, join_string
from tests.integration.test_up_whole import ROOT, running

STOP_S_MAX = 25.0  # a program that hangs is waited for to its limit


@contextmanager
def agent(folder: Path, state: RouterState, join: str, *lines: str) -> Iterator[None]:
    """One agent with the router's programs before it on PATH."""
    folder.mkdir(exist_ok=True)
    file = folder / "agent.toml"
    keys = {
        "state_dir": str(folder / "flash"),
        "spool_dir": str(folder / "memory"),
        "serial": state.serial,
        "lan_mac": state.lan_mac,
        "join": join,
    }
    body = [f'{key} = "{value}"' for key, value in keys.items()]
    file.write_text("\n".join([*body, "sampling_s = 1", "sending_s = 1", *lines, ""]))
    with (folder / "log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(file)],
            cwd=ROOT,
            env=os.environ | {"PATH": f"{folder / 'programs'}:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S_MAX) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def latest(ready: dict[str, Any], serial: str) -> dict[str, Any]:
    """The newest values; none before the device is known."""
    for device in call(ready, "GET", "/devices?limit=500")["items"]:
        if device["serial"] == serial:
            return {name: one["value"] for name, one in device["latest"].items()}
    return {}


@pytest.mark.timeout(150)
def test_the_desk_reads_what_routers_and_modems_say(tmp_path: Path) -> None:
    profile = next(p for p in PROFILES if len(p.modems) == 2)
    worlds = [World(1, FIRST_SERIAL + number, profile) for number in range(3)]
    whole, beside, broken = (state_of(world, 3_600.0) for world in worlds)
    for name, state in (("whole", whole), ("broken", broken)):
        write_programs(tmp_path / name / "programs", state)
    # The modems' part of one router hangs, another of its programs says anything but a value.
    (tmp_path / "broken" / "programs" / "ubus").write_text("#!/bin/sh\nsleep 600\n")
    (tmp_path / "broken" / "programs" / "uci").write_text("#!/bin/sh\nhead -c 99999 /dev/zero\n")
    local = 'collector = "rutos_local"'
    with running(tmp_path / "data") as up, ExitStack() as stack:
        ready = up.wait_ready()
        join = join_string(ready, len(worlds))
        port = stack.enter_context(serial_port(AtModem(lambda: beside.modems[0]).feed))
        at = ('collector = "modem"', f'modem_port = "{port}"')
        stack.enter_context(agent(tmp_path / "whole", whole, join, local))
        stack.enter_context(agent(tmp_path / "beside", beside, join, *at))
        stack.enter_context(agent(tmp_path / "broken", broken, join, local))

        def said(state: RouterState) -> set[tuple[str, Any]]:
            return set(latest(ready, state.serial).items())

        first, second = expected_modem(whole.modems[0]), expected_modem(whole.modems[1])
        wanted = {*first.items(), *((f"{name}_2", value) for name, value in second.items())}
        until_plain(lambda: wanted <= said(whole), within_s=30)
        by_at = expected_modem(beside.modems[0]).items() - {("sim_slot", 1)}
        until_plain(lambda: by_at - {("data_connection", "Connected")} <= said(beside), within_s=30)
        # The heartbeat comes all the same, and `gsmctl` stands in for what hangs.
        until_plain(lambda: first_of(broken) <= said(broken), within_s=50)
        assert "latitude" in dict(said(whole)) and "latitude" not in dict(said(broken))


def first_of(state: RouterState) -> set[tuple[str, Any]]:
    return set(expected_modem(state.modems[0]).items())
