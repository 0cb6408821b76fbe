"""The `firmware-sim network` command: a bad network on a port, told what to do line by line."""

import argparse
import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from firmware_sim.network.faults import Faults
from firmware_sim.network.proxy import FaultProxy

ABOUT = """\
A TCP network with faults between a program that dials the printed port and the target.

  firmware-sim network --target 127.0.0.1:8885 --latency 50 --jitter 5
  firmware-sim network --target 127.0.0.1:8885 --bandwidth 1M --listen 127.0.0.1:9000

Faults hold for each direction: --latency 50 is a round trip of 100 ms. While it runs, lines on
standard input change it, each answered with one line:

  cut                            close every connection (FIN), refuse new ones
  reset                          reset every connection (RST), accept new ones
  blackhole [DIRECTION]          swallow everything, also on new connections
  hold [DIRECTION]               nothing moves and nothing is lost
  mend                           end cut, blackhole and hold
  set NAME VALUE [DIRECTION]     latency, jitter, bandwidth, slice, slice-pause, reset-after
  clear                          no more latency, jitter, bandwidth, slices
  status                         connections and bytes

DIRECTION is to-server or to-client; without one, both.
"""
_SIZES = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SETTINGS = {
    "latency": "latency_ms",
    "jitter": "jitter_ms",
    "bandwidth": "bandwidth_bytes_s",
    "slice": "slice_bytes",
    "slice-pause": "slice_pause_ms",
    "reset-after": "reset_after_bytes",
}
_WHOLE = frozenset({"slice_bytes", "reset_after_bytes"})
_DIRECTIONS = ("to-server", "to-client")
_LINE_BYTES_MAX = 4_096
_VALUE_MAX = 1e12

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A host and a port."""

    host: str
    port: int


def place(text: str) -> Place:
    """Raises `argparse.ArgumentTypeError`."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise argparse.ArgumentTypeError("must be HOST:PORT")
    return Place(host.strip("[]"), int(port))


def amount(text: str) -> float:
    """A number with k, M or G behind it, or without. Raises `argparse.ArgumentTypeError`."""
    factor = _SIZES.get(text[-1:].lower(), 1)
    try:
        value = float(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= _VALUE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and {_VALUE_MAX:.0f}")
    return value


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `firmware-sim network`, beside --seed."""
    add = command.add_argument
    add("--listen", type=place, default=Place("127.0.0.1", 0), metavar="HOST:PORT")
    add("--target", type=place, required=True, metavar="HOST:PORT", help="where the server is")
    add("--latency", type=amount, metavar="MS", help="one way")
    add("--jitter", type=amount, metavar="MS", help="so much more or less, order kept")
    add("--bandwidth", type=amount, metavar="BYTES/S", help="of all connections together; 1M")
    add("--slice", type=amount, metavar="BYTES", help="deliver in pieces of this size")
    add("--slice-pause", type=amount, metavar="MS", help="between two of them")
    add("--reset-after", type=amount, metavar="BYTES", help="reset a connection at this byte")
    command.add_argument(
        "--until-input-ends", action="store_true", help="stop when standard input is closed"
    )


class WrongCommandError(Exception):
    """A line that means nothing, and why."""


def obey(network: FaultProxy, line: str) -> str:
    """Does what one line says and answers it. Raises `WrongCommandError`."""
    match line.split():
        case ["cut"]:
            network.cut()
        case ["reset"]:
            network.reset_all()
        case ["mend"]:
            network.mend()
        case ["clear"]:
            for faults in _chosen(network, []):
                faults.clear()
        case ["status"]:
            return _status(network)
        case ["blackhole" | "hold" as what, *directions]:
            chosen = _chosen(network, directions)
            (network.black_hole if what == "blackhole" else network.hold)(
                to_server=any(one is network.to_server for one in chosen),
                to_client=any(one is network.to_client for one in chosen),
            )
        case ["set", name, value, *directions]:
            _set(_chosen(network, directions), name, value)
        case _:
            raise WrongCommandError("cut, reset, blackhole, hold, mend, set, clear or status")
    return "ok"


def _chosen(network: FaultProxy, directions: list[str]) -> list[Faults]:
    unknown = set(directions) - set(_DIRECTIONS)
    if unknown or len(directions) > 1:
        raise WrongCommandError("a direction is to-server or to-client")
    both = dict(zip(_DIRECTIONS, (network.to_server, network.to_client), strict=True))
    return [both[name] for name in directions or _DIRECTIONS]


def _set(chosen: list[Faults], name: str, text: str) -> None:
    setting = _SETTINGS.get(name)
    if setting is None:
        raise WrongCommandError(f"settings are {', '.join(_SETTINGS)}")
    try:
        value = amount(text)
    except argparse.ArgumentTypeError as error:
        raise WrongCommandError(str(error)) from None
    for faults in chosen:
        setattr(faults, setting, int(value) if setting in _WHOLE else value)


def _status(network: FaultProxy) -> str:
    bytes_ = ", ".join(
        f"{name} {faults.delivered_bytes} bytes delivered, {faults.in_flight_bytes} on the way"
        f" and {faults.swallowed_bytes} swallowed"
        for name, faults in zip(_DIRECTIONS, (network.to_server, network.to_client), strict=True)
    )
    return f"{network.connections} connections of {network.connections_made}, {bytes_}"


async def run(options: argparse.Namespace, say: Say) -> None:
    """Runs until a signal, or until the input ends when that was asked for. Raises `OSError`."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with FaultProxy(
        options.target.host,
        options.target.port,
        rng=Random(options.seed),
        listen_host=options.listen.host,
        listen_port=options.listen.port,
    ) as network:
        for name in _SETTINGS:
            value = getattr(options, name.replace("-", "_"))
            if value is not None:
                _set(_chosen(network, []), name, str(value))
        say(f"listening on {options.listen.host}:{network.port}")
        commands = Commands(network, say, ending.set if options.until_input_ends else None)
        commands.start()
        await ending.wait()
        commands.stop()
        say(_status(network))


class Commands:
    """Reads lines from standard input while it is open."""

    def __init__(self, network: FaultProxy, say: Say, ended: Callable[[], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._say = say
        self._rest = b""
        self._reading = False
        self._ended = ended

    def start(self) -> None:
        """Begins; an input that cannot be waited for, such as a file, is none."""
        try:
            self._loop.add_reader(0, self._read)
        except OSError:
            return
        self._reading = True

    def stop(self) -> None:
        """Reads no more."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(0)

    def _read(self) -> None:
        try:
            data = os.read(0, _LINE_BYTES_MAX)
        except OSError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_BYTES_MAX:]
        for line in lines:
            try:
                self._say(obey(self._network, line.decode("utf-8", "replace")))
            except (WrongCommandError, OSError) as error:
                self._say(f"wrong: {error}")
        if not data:
            self.stop()
            if self._ended is not None:
                self._ended()
