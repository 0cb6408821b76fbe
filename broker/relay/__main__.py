"""`python -m broker.relay --config FILE`: runs one relay until it is told to end."""

import argparse
import asyncio
import importlib
import logging
import os
import resource
import secrets
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from broker.relay.clock import Clock
from broker.relay.configuration import ConfigurationError, RelayConfiguration, load
from broker.relay.log_format import set_up_logging
from broker.relay.relay import Relay
from broker.relay.tls_memory import lend_one_read_buffer
from broker.relay.web_door import web_factory

log = logging.getLogger("relay")

DONE, FAILED, USAGE = 0, 1, 2
EPOCH_BYTES = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m broker.relay",
        description="Run one Fleetgate relay.",
        epilog="Exit codes: 0 by a signal, or drained; 1 failed, 2 wrong usage or configuration.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="relay.toml")
    options = parser.parse_args(argv)
    try:
        configuration = load(options.config)
        clock = Clock(_test_clock(configuration))
    except ConfigurationError as error:
        print(f"relay: {error}", file=sys.stderr)
        return USAGE
    set_up_logging(format_=configuration.log_format, level=configuration.log_level)
    _allow_many_sockets()
    sys.unraisablehook = log_unraisable
    lend_one_read_buffer()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_run(configuration, clock))
    except ConfigurationError as error:
        print(f"relay: {error}", file=sys.stderr)
        return USAGE
    except (OSError, ssl.SSLError) as error:
        log.error("cannot start error=%s", error)
        return FAILED


def _test_clock(configuration: RelayConfiguration) -> Path | None:
    name = os.environ.get("FLEETGATE_TEST_CLOCK", "")
    if not name:
        return None
    if not configuration.on_loopback:
        raise ConfigurationError("FLEETGATE_TEST_CLOCK is only for a relay on loopback")
    return Path(name)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where the operator has installed it (`fleetgate[speed]`); None for Python's own."""
    try:
        module = importlib.import_module("uvloop")
    except ImportError:
        return None
    log.info("the event loop is uvloop version=%s", module.__version__)
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def log_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Logs what had nobody to be raised to, instead of Python's own lines on standard error.

    A handshake that asks for a name of other bytes than letters ends here, and anybody can send it.
    """
    if isinstance(found.exc_value, UnicodeDecodeError):
        log.debug("a handshake asked for a name that is none")
    else:
        log.error("ignored object=%r", found.object, exc_info=found.exc_value)


def _allow_many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(configuration: RelayConfiguration, clock: Clock) -> int:
    relay = Relay(configuration, epoch=secrets.token_hex(EPOCH_BYTES), clock=clock, web=web_factory)
    listeners = relay.bind()
    port = listeners[0].getsockname()[1]
    log.info("relay starts id=%s address=%s port=%s", configuration.id, configuration.host, port)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(relay.run(listeners))
        running.add_done_callback(lambda _: ended.set())
        await ended.wait()
        running.cancel()
    log.info("relay ended")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
