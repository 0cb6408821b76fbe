"""Our tunnel beside those of others: the same load, in the same run, with the gates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from bench.peers import asyncssh_tunnel, openssh, yamux_tunnel
from bench.relay_tunnel import fleetgate
from bench.row import Row
from bench.tunnel_figures import (
    FAST_S,
    NEVER_READERS,
    Absent,
    Far,
    Near,
    Opener,
    far,
    near,
    never_kib,
    stopped_mib,
)
from bench.tunnel_load import READERS

MBIT_S_LEAST = 300
GET_MS_MOST = 110
ADDED_MS_MOST = 5
NEVER_KIB_MOST = 384
STOPPED_MIB_MOST = 8
IDLE_STREAM_KIB_MOST = 16
_STALLED_BUDGET = (
    f"< {ADDED_MS_MOST} ms for others, ≤ {NEVER_KIB_MOST} KiB, ≤ {STOPPED_MIB_MOST} MiB each"
)
F = TypeVar("F", Far, Near)
PEERS: tuple[tuple[str, Callable[[], str], Opener], ...] = (
    ("OpenSSH", lambda: f"{openssh.version()} -R", openssh.openssh),
    ("asyncssh", asyncssh_tunnel.version, asyncssh_tunnel.asyncssh_tunnel),
    ("yamux", yamux_tunnel.version, yamux_tunnel.yamux_tunnel),
)


@dataclass(frozen=True, slots=True)
class Peer(Generic[F]):
    """Somebody else's figures, or why there are none."""

    name: str
    figures: F | str


def rows(_folder: Path) -> list[Row]:
    """At 100 ms round trip, then on loopback."""
    ours_far, theirs_far = far(fleetgate), _peers(far)
    ours_near, theirs_near = near(fleetgate), _peers(near)
    return [*_far_rows(ours_far, theirs_far), *_near_rows(ours_near, theirs_near)]


def _peers(measure: Callable[[Opener], F]) -> list[Peer[F]]:
    return [_peer(name, version, opener, measure) for name, version, opener in PEERS]


def _peer(
    name: str, version: Callable[[], str], opener: Opener, measure: Callable[[Opener], F]
) -> Peer[F]:
    try:
        return Peer(version(), measure(opener))
    except Absent as error:
        return Peer(name, f"not measured: {error}")


def _beside(peers: list[Peer[F]], said: Callable[[F], str]) -> str:
    return "\n".join(f"{peer.name}: {_figures(peer.figures, said)}" for peer in peers)


def _figures(figures: F | str, said: Callable[[F], str]) -> str:
    return figures if isinstance(figures, str) else said(figures)


def _far_rows(ours: Far, peers: list[Peer[Far]]) -> list[Row]:
    slowest = min(ours.to_device.mbit_s, ours.from_device.mbit_s)
    return [
        Row(
            "one stream at 100 ms round trip, to / from the device",
            _speed(ours),
            _beside(peers, _speed),
            f"≥ {MBIT_S_LEAST} Mbit/s",
            slowest >= MBIT_S_LEAST,
        ),
        Row(
            "GET on a new connection at 100 ms",
            f"{ours.get_ms:.1f} ms",
            _beside(peers, lambda far_: f"{far_.get_ms:.1f} ms"),
            f"≤ {GET_MS_MOST} ms",
            ours.get_ms <= GET_MS_MOST,
        ),
        Row(
            f"readers that stop: {NEVER_READERS} that never read, {READERS} after {FAST_S:.0f} s, "
            "at 100 ms",
            _stalled(ours),
            _beside(peers, _stalled),
            _STALLED_BUDGET,
            _stalled_met(ours),
        ),
    ]


def _near_rows(ours: Near, peers: list[Peer[Near]]) -> list[Row]:
    idle_kib = ours.idle_stream_bytes / 1024
    return [
        Row(
            "on loopback, TLS on the device's side",
            _loopback(ours),
            _beside(peers, _loopback),
            "goal: ≥ 0.6 × ssh -R, ≤ 1.6 × its CPU, ≤ 300 µs, ≥ 1,500/s",
            None,
        ),
        Row(
            "readers that stop, on loopback",
            _stalled(ours),
            _beside(peers, _stalled),
            _STALLED_BUDGET,
            _stalled_met(ours),
        ),
        Row(
            "relay's memory for an idle stream",
            f"{idle_kib:.1f} KiB",
            _beside(peers, lambda near_: f"{near_.idle_stream_bytes / 1024:.1f} KiB"),
            f"≤ {IDLE_STREAM_KIB_MOST} KiB",
            idle_kib <= IDLE_STREAM_KIB_MOST,
        ),
    ]


def _speed(figures: Far | Near) -> str:
    return f"{figures.to_device.mbit_s:.0f} / {figures.from_device.mbit_s:.0f} Mbit/s"


def _loopback(figures: Near) -> str:
    to_device, from_device = figures.to_device.cpu_s_per_gb, figures.from_device.cpu_s_per_gb
    return (
        f"{_speed(figures)}, {to_device:.1f} / {from_device:.1f} CPU s per GB, "
        f"{figures.round_trip_added_us:.0f} µs added round trip, "
        f"{figures.new_streams_per_s:.0f} new streams/s"
    )


def _stalled(figures: Far | Near) -> str:
    never, fast = figures.never_read, figures.read_fast
    return (
        f"{never.added_ms:+.1f} / {fast.added_ms:+.1f} ms for others, "
        f"{never_kib(figures):.0f} KiB / {stopped_mib(figures):.1f} MiB each"
    )


def _stalled_met(figures: Far | Near) -> bool:
    added_ms = max(figures.never_read.added_ms, figures.read_fast.added_ms)
    return (
        added_ms < ADDED_MS_MOST
        and never_kib(figures) <= NEVER_KIB_MOST
        and stopped_mib(figures) <= STOPPED_MIB_MOST
    )
