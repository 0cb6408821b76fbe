"""The `fleetgate-agent` command: join, run, sample, status, check."""

import argparse
import asyncio
import functools
import json
import logging
import secrets
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from agent.agent import Agent
from agent.build import VERSION
from agent.clock import Clock, SystemClock, wall_is_plausible
from agent.collectors.choice import collector_of
from agent.configuration import (
    DEFAULT_FILE,
    DEFAULT_STATE,
    KEYS,
    Configuration,
    identity_of,
    read_configuration,
)
from agent.connection import Address
from agent.errors import AgentError, ConfigurationError, JoinRefused
from agent.log_format import set_up_logging
from agent.state import (
    CA_NAME,
    Enrolment,
    Identity,
    Secret,
    claimed,
    load_enrolment,
    load_secret,
    login_of,
    own_secret,
)
from agent.status import Status, read_status
from agent.tls import device_context
from agent.values import checked_values
from wire.fields import BY_ID, BY_NAME
from wire.heartbeat import WireError
from wire.join import decode_join_string

if TYPE_CHECKING:
    from agent.join import Joined

log = logging.getLogger("agent")

DONE, FAILED, USAGE = 0, 1, 2
_WAITING_POLL_S = 60.0
_REFUSED_WAIT_S = 900.0

_ABOUT = f"""\
Reports this router, or the Linux box beside it, to a Fleetgate gateway.

  1. Ask the operator for a join string, or make one:   fleetgate admin … join
  2. fleetgate-agent join fg1:…                          once
  3. fleetgate-agent run                                 from then on, as a service
When something does not work: fleetgate-agent check

Settings are read from {DEFAULT_FILE}, if it exists (TOML):
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    keys = "\n".join(f"  {key:<12} {meaning}" for key, (_, meaning) in KEYS.items())
    parser = argparse.ArgumentParser(
        prog="fleetgate-agent",
        description=_ABOUT + keys,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"fleetgate-agent {VERSION}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="another configuration file")
    shared.add_argument(
        "--state-dir", type=Path, metavar="DIR", help=f"another state folder than {DEFAULT_STATE}"
    )
    shared.add_argument("--verbose", action="store_true", help="log every message too")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=purpose, description=purpose, parents=[shared])

    join = command("join", "Join a gateway. May be repeated; a network error is tried again.")
    join.add_argument("join_string", metavar="STRING", help="the text that begins with fg1:")
    join.add_argument("--once", action="store_true", help="give up at the first network error")
    command("run", "Report until stopped. Joins first if the configuration has a join string.")
    sample = command("sample", "Show what would be reported now. Needs no gateway.")
    sample.add_argument("--json", action="store_true", help="as one JSON object")
    status = command("status", "Show whether this device has joined, and how its reports fare.")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    command("check", "Walk the way to the gateway and say what is wrong with it.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    options = build_parser().parse_args(argv)
    set_up_logging(verbose=options.verbose)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "join": _join,
        "run": _run,
        "sample": _sample,
        "status": _status,
        "check": _check,
    }
    try:
        return commands[options.command](options)
    except ConfigurationError as error:
        print(f"fleetgate-agent: {error}", file=sys.stderr)
        return USAGE
    except (AgentError, OSError) as error:
        print(f"fleetgate-agent: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


def _configuration(options: argparse.Namespace) -> Configuration:
    return read_configuration(options.config, state_dir=options.state_dir)


def _identity(configuration: Configuration, join_string: str | None) -> Identity:
    """A box without a serial of its own has the one it joined under, or the join string's."""
    secret = load_secret(configuration.state_dir)
    otherwise = secret.serial if secret is not None else None
    if otherwise is None and join_string:
        try:
            otherwise = decode_join_string(join_string).serial
        except WireError as error:
            text = f"not a join string ({error}): copy the whole text, fg1:…"
            raise ConfigurationError(text) from error
    return identity_of(configuration, otherwise=otherwise)


def _attempt(text: str, configuration: Configuration, clock: Clock) -> "Joined":
    # Loaded here alone: HTTP is not needed by an agent that has joined.
    from agent.join import join_once

    return join_once(
        text,
        _identity(configuration, text),
        state=configuration.state_dir,
        spool=configuration.spool_dir,
        check_dates=wall_is_plausible(clock.wall_ms()),
    )


def _join(options: argparse.Namespace) -> int:
    from agent.join import join_until_done

    configuration = _configuration(options)
    attempt = functools.partial(_attempt, options.join_string, configuration, SystemClock())
    with claimed(configuration.state_dir) as ours:
        if not ours:
            print("The agent is running: stop it, join, and start it again.", file=sys.stderr)
            return FAILED
        if options.once:
            enrolment = attempt().enrolment
        else:
            wait = threading.Event().wait
            enrolment = join_until_done(attempt, rng=SystemRandom(), wait=wait).enrolment
    if enrolment.state == "waiting":
        print(
            f"{enrolment.serial} is waiting: the gateway knows this serial, and the operator must "
            "release or confirm it. Start `fleetgate-agent run`; it goes on by itself then."
        )
    else:
        print(f"{enrolment.serial} has joined. Next: fleetgate-agent run")
    return DONE


def _run(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    with claimed(configuration.state_dir) as ours:
        if not ours:
            print(f"An agent is running on {configuration.state_dir} already.", file=sys.stderr)
            return FAILED
        asyncio.run(_run_agent(configuration))
    return DONE


async def _run_agent(configuration: Configuration) -> None:
    clock, loop, ending = SystemClock(), asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    ready = await _ensure_joined(configuration, clock, ending)
    if ready is None:
        return
    secret, enrolment = ready
    agent = Agent(
        login=login_of(secret),
        addresses=[Address(host, enrolment.mqtt_port) for host in enrolment.mqtt_hosts],
        tls=_tls_factory(configuration.state_dir / CA_NAME, clock),
        state_dir=configuration.state_dir,
        spool_dir=configuration.spool_dir,
        clock=clock,
        rng=SystemRandom(),
        collector=collector_of(configuration),
        sample_in_thread=True,
        intervals=configuration.intervals,
        spool_limit=configuration.spool_limit,
        allow=configuration.allow,
        opens_per_s=configuration.opens_per_s,
        spread_s=enrolment.spread_s,
        status=Status(configuration.spool_dir, clock),
        ask_gateway=functools.partial(_ask_gateway, enrolment, configuration, clock),
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(agent.run(), name="agent")
        ended = tasks.create_task(ending.wait(), name="signal")
        await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
        agent.stop()
        ended.cancel()


async def _ask_gateway(
    enrolment: Enrolment, configuration: Configuration, clock: Clock
) -> list[Address] | None:
    """The MQTT server refuses this device: what does the gateway say?"""
    from agent.join import ask_status

    try:
        answer = await asyncio.to_thread(
            ask_status,
            enrolment,
            state=configuration.state_dir,
            check_dates=wall_is_plausible(clock.wall_ms()),
        )
    except AgentError as error:
        log.warning("login refused, and the gateway was asked in vain error=%s", error)
        return None
    log.info("login refused, the gateway was asked state=%s", answer.state)
    return [Address(host, answer.mqtt_port) for host in answer.mqtt_hosts]


def _tls_factory(ca_file: Path, clock: Clock) -> Callable[[], ssl.SSLContext]:
    """One context for each answer to the question whether the clock can be right."""
    made: dict[bool, ssl.SSLContext] = {}

    def context() -> ssl.SSLContext:
        dates = wall_is_plausible(clock.wall_ms())
        if dates not in made:
            made.clear()
            made[dates] = device_context(ca_file=ca_file, check_dates=dates)
        return made[dates]

    return context


async def _ensure_joined(
    configuration: Configuration, clock: Clock, ending: asyncio.Event
) -> tuple[Secret, Enrolment] | None:
    """Joins if need be, and waits for the operator's word; None when the program ends first."""
    wait_s = 0.0
    while True:
        identity = _identity(configuration, configuration.join)
        secret = own_secret(configuration.state_dir, *identity)
        enrolment = load_enrolment(configuration.state_dir) if secret is not None else None
        if secret is not None and enrolment is not None and enrolment.state == "joined":
            return secret, enrolment
        text = enrolment.join_string if enrolment is not None else configuration.join
        if not text:
            raise AgentError(
                "this device has not joined a gateway: fleetgate-agent join fg1:…, or put "
                'join = "fg1:…" into the configuration'
            )
        try:
            joined = await asyncio.to_thread(_attempt, text, configuration, clock)
            state = joined.enrolment.state
            wait_s = joined.ready_in_s if state == "joined" else _WAITING_POLL_S
            log.info("join answered state=%s wait_s=%.0f", state, wait_s)
        except JoinRefused as error:
            wait_s = _REFUSED_WAIT_S
            log.warning(
                "joining refused, it will be tried again wait_s=%.0f error=%s", wait_s, error
            )
        except AgentError as error:
            # Half to whole of a doubling wait, so that a fleet does not knock at once.
            wait_s = min(max(wait_s * 2, 4.0), _REFUSED_WAIT_S)
            wait_s *= 0.5 + secrets.randbelow(500) / 1_000
            log.warning(
                "joining failed, it will be tried again wait_s=%.0f error=%s", wait_s, error
            )
        try:
            async with asyncio.timeout(wait_s):
                await ending.wait()
            return None
        except TimeoutError:
            continue


def _sample(options: argparse.Namespace) -> int:
    found = checked_values(collector_of(_configuration(options))())
    values = {BY_ID[number].name: value for number, value in found.items()}
    if options.json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return DONE
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        field = BY_NAME[name]
        print(f"{name:<{width}}  {value!s:>20} {field.unit:<7}  {field.meaning}")
    return DONE if values else FAILED


def _status(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    enrolment = load_enrolment(configuration.state_dir)
    shown = read_status(configuration.spool_dir)
    facts: dict[str, object] = {
        "joined": enrolment.state if enrolment is not None else "no",
        "serial": enrolment.serial if enrolment is not None else configuration.serial,
    }
    if shown is not None:
        now_ms = SystemClock().wall_ms()
        last_ms = shown.last_receipt_ms
        facts |= {
            "server": shown.server or "not connected",
            "last_receipt_s_ago": None if last_ms is None else (now_ms - last_ms) // 1_000,
            "receipts": shown.receipts,
            "spool": shown.spool,
            "dropped": shown.dropped,
            "refused": shown.refused,
            "sampling_s": shown.sampling_s,
            "sending_s": shown.sending_s,
            "run": shown.run,
            "pid": shown.pid,
            "seen_s_ago": (now_ms - shown.written_ms) // 1_000,
            "sessions": list(shown.sessions),
        }
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:<20} {_shown(value)}")
        if shown is None:
            print("No agent has run here yet: fleetgate-agent run")
    return DONE if enrolment is not None and enrolment.state == "joined" else FAILED


def _shown(value: object) -> object:
    if isinstance(value, list):
        return "; ".join(value) or "none"
    return "never" if value is None else value


def _check(options: argparse.Namespace) -> int:
    from agent.checks import walk

    failed = 0
    for finding in walk(options.config, options.state_dir, SystemClock()):
        print(f"{'ok    ' if finding.ok else 'FAILED'}  {finding.what:<14} {finding.text}")
        if not finding.ok:
            failed += 1
            print(f"        → {finding.advice}")
    return FAILED if failed else DONE


if __name__ == "__main__":
    sys.exit(main())
