"""The `firmware-sim` command: router, fleet, swarm, network."""

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.log_format import set_up_logging
from firmware_sim.fleet import FleetPlan, run_fleet, run_processes
from firmware_sim.network import console
from firmware_sim.profiles import FIRST_SERIAL
from firmware_sim.swarm import SwarmPlan, run_swarm
from wire.heartbeat import WireError
from wire.join import decode_join_string

DONE, FAILED, USAGE = 0, 1, 2
_SWARM_FIRST_SERIAL = 1_200_000_001

_ABOUT = """\
Routers that do not exist, for a gateway that does.

  firmware-sim router --join fg1:…                     one router, with everything it does
  firmware-sim fleet --join fg1:… --routers 25         real agents in a made-up world
  firmware-sim swarm --join fg1:… --devices 1000 --rate 5000 --seconds 20    raw load
  firmware-sim network --target 127.0.0.1:8885 --latency 50     a bad network in between

The join string is made for a whole company and registers unknown serials.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="firmware-sim",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--seed", type=int, default=1, help="one seed, one story (default 1)")
    shared.add_argument("--state", type=Path, metavar="DIR", help="where routers keep their flash")
    shared.add_argument(
        "--journal", type=Path, metavar="FILE", help="a line per sample and receipt"
    )
    shared.add_argument("--verbose", action="store_true", help="the agents' own log lines too")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    router = commands.add_parser("router", parents=[shared], help="one router")
    fleet = commands.add_parser("fleet", parents=[shared], help="many routers, real agents")
    swarm = commands.add_parser("swarm", parents=[shared], help="raw load with real payloads")
    for command in (router, fleet):
        command.add_argument("--join", required=True, metavar="fg1:…")
        command.add_argument("--interval", type=int, default=60, metavar="S", help="default 60")
        command.add_argument("--duration", type=float, metavar="S", help="stop after so long")
        command.add_argument("--first-serial", type=int, default=FIRST_SERIAL, metavar="N")
        command.add_argument("--calm", action="store_true", help="no reboots and network cuts")
        command.add_argument(
            "--calm-for", type=float, default=0.0, metavar="S", help="none in the first S seconds"
        )
        command.add_argument(
            "--until-input-ends", action="store_true", help="stop when standard input is closed"
        )
    fleet.add_argument("--routers", type=int, default=25, metavar="N", help="default 25")
    fleet.add_argument("--processes", type=int, default=1, metavar="P", help="default 1")
    swarm.add_argument("--join", metavar="fg1:…", help="joins each device over HTTPS first")
    swarm.add_argument("--plain-mqtt", metavar="H:P", help="an MQTT listener without TLS and join")
    swarm.add_argument("--devices", type=int, default=1_000, metavar="N", help="default 1000")
    swarm.add_argument("--rate", type=float, default=1_000, metavar="R", help="heartbeats/s, all")
    swarm.add_argument("--seconds", type=float, default=20, metavar="T", help="default 20")
    swarm.add_argument("--first-serial", type=int, default=_SWARM_FIRST_SERIAL, metavar="N")
    network = commands.add_parser(
        "network",
        help="a bad network before a TCP server",
        description=console.ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    network.add_argument("--seed", type=int, default=1, help="of the jitter (default 1)")
    console.add_options(network)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.command == "network":
        return _network(parser, options)
    if options.verbose:
        set_up_logging(verbose=False)
    if options.join is not None:
        try:
            decode_join_string(options.join)
        except WireError as error:
            parser.error(str(error))
    if options.command == "swarm":
        return _swarm(parser, options)
    return _fleet(parser, options)


def _say(text: str) -> None:
    print(text, flush=True)


def _network(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        asyncio.run(console.run(options, _say))
    except OSError as error:
        parser.exit(FAILED, f"{parser.prog}: {error}\n")
    return DONE


def _fleet(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    alone = options.command == "router"
    routers = 1 if alone else options.routers
    processes = 1 if alone else options.processes
    if not 1 <= routers <= 100_000 or not 1 <= processes <= 256:
        parser.error("--routers must be 1 to 100000, --processes 1 to 256")
    if not 1 <= options.interval <= 86_400:
        parser.error("--interval must be 1 to 86400")
    state = options.state or Path(tempfile.mkdtemp(prefix="firmware-sim-"))
    plan = FleetPlan(
        options.join,
        routers=routers,
        seed=options.seed,
        first_serial=options.first_serial,
        state=state,
        interval_s=options.interval,
        journal=options.journal,
        duration_s=options.duration,
        calm=options.calm,
        calm_s=options.calm_for,
        chatty=alone,
    )
    _say(f"state is kept in {state}")
    return asyncio.run(_run_until_stopped(plan, processes, until_eof=options.until_input_ends))


async def _run_until_stopped(plan: FleetPlan, processes: int, *, until_eof: bool) -> int:
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    if until_eof:
        # The other end is held by the process that started this one, and dies with it.
        def look() -> None:
            if not os.read(0, 1024):
                loop.remove_reader(0)
                ending.set()

        loop.add_reader(0, look)
    if processes > 1:
        return await run_processes(plan, processes, ending, _say)
    await run_fleet(plan, ending, _say)
    return DONE


def _swarm(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if (options.join is None) == (options.plain_mqtt is None):
        parser.error("give either --join or --plain-mqtt")
    plain = None
    if options.plain_mqtt is not None:
        host, _, port = options.plain_mqtt.rpartition(":")
        if not host or not port.isdigit():
            parser.error("--plain-mqtt: must be HOST:PORT")
        plain = (host.strip("[]"), int(port))
    if options.devices < 1 or options.rate <= 0 or options.seconds <= 0:
        parser.error("--devices, --rate and --seconds must be above 0")
    plan = SwarmPlan(
        join_string=options.join,
        plain=plain,
        devices=options.devices,
        rate=options.rate,
        seconds=options.seconds,
        seed=options.seed,
        first_serial=options.first_serial,
        state=options.state,
        journal=options.journal,
    )
    report = asyncio.run(run_swarm(plan, lambda text: print(text, file=sys.stderr, flush=True)))
    _say(json.dumps(dataclasses.asdict(report), indent=2))
    return DONE if report.receipted else FAILED


if __name__ == "__main__":
    sys.exit(main())
