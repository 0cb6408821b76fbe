"""The figures of one tunnel, whoever built it: far away, with 100 ms round trip, and near."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import tunnel_load
from bench.server_behind import server_behind
from bench.tunnel_load import Stalled, Throughput

ONE_WAY_MS = 50.0
FAST_S = 2.0
# Memory per reader is seen only among many: the first ones also warm up the allocator.
NEVER_READERS = 30
IDLE_STREAMS = 200
MIB = 1024 * 1024


class Absent(Exception):
    """What is to be measured is not installed; the text says what."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A port for visitors that leads to the server behind, and the processes in between."""

    host: str
    port: int
    relay_pids: tuple[int, ...]
    device_pids: tuple[int, ...]
    visitor_pids: tuple[int, ...] = ()  # where visitors need a program of their own

    @property
    def pids(self) -> tuple[int, ...]:
        """Of all sides."""
        return self.relay_pids + self.device_pids + self.visitor_pids


# From an empty folder, the port behind, and one-way milliseconds between device and relay.
Opener = Callable[[Path, int, float], AbstractContextManager[Tunnel]]


@dataclass(frozen=True, slots=True)
class Far:
    """At 100 ms round trip."""

    to_device: Throughput
    from_device: Throughput
    get_ms: float
    never_read: Stalled
    read_fast: Stalled


@dataclass(frozen=True, slots=True)
class Near:
    """On loopback."""

    to_device: Throughput
    from_device: Throughput
    round_trip_added_us: float
    new_streams_per_s: float
    never_read: Stalled
    read_fast: Stalled
    idle_stream_bytes: float


def never_kib(figures: Far | Near) -> float:
    """Memory of the relay's side for a reader that never reads."""
    return figures.never_read.growth_bytes / 1024 / NEVER_READERS


def stopped_mib(figures: Far | Near) -> float:
    """The same for one that stops after reading fast."""
    return figures.read_fast.growth_bytes / MIB / tunnel_load.READERS


def far(opener: Opener) -> Far:
    """Raises `Absent` and `OSError`."""
    with (
        tempfile.TemporaryDirectory(prefix="fleetgate-tunnel-") as folder,
        server_behind() as behind,
        opener(Path(folder), behind.port, ONE_WAY_MS) as tunnel,
    ):
        where, relay = (tunnel.host, tunnel.port), tunnel.relay_pids
        tunnel_load.get_ms(*where)
        return Far(
            get_ms=tunnel_load.median_get_ms(*where),
            never_read=tunnel_load.stalled_readers(*where, pids=relay, readers=NEVER_READERS),
            to_device=tunnel_load.throughput(*where, "to device", pids=tunnel.pids),
            from_device=tunnel_load.throughput(*where, "from device", pids=tunnel.pids),
            read_fast=tunnel_load.stalled_readers(*where, pids=relay, fast_s=FAST_S),
        )


def near(opener: Opener) -> Near:
    """Raises `Absent` and `OSError`."""
    with (
        tempfile.TemporaryDirectory(prefix="fleetgate-tunnel-") as folder,
        server_behind() as behind,
        opener(Path(folder), behind.port, 0.0) as tunnel,
    ):
        where, relay = (tunnel.host, tunnel.port), tunnel.relay_pids
        tunnel_load.get_ms(*where)
        direct_us = tunnel_load.round_trip_us("127.0.0.1", behind.port)
        return Near(
            round_trip_added_us=tunnel_load.round_trip_us(*where) - direct_us,
            new_streams_per_s=tunnel_load.new_streams_per_s(*where),
            idle_stream_bytes=tunnel_load.idle_stream_bytes(*where, IDLE_STREAMS, pids=relay),
            never_read=tunnel_load.stalled_readers(*where, pids=relay, readers=NEVER_READERS),
            to_device=tunnel_load.throughput(*where, "to device", pids=tunnel.pids),
            from_device=tunnel_load.throughput(*where, "from device", pids=tunnel.pids),
            read_fast=tunnel_load.stalled_readers(*where, pids=relay, fast_s=FAST_S),
        )
