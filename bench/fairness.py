"""Two companies on one relay: what one's bulk adds to the delay of what the other one types."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.installation import cpu_s
from bench.relay_tunnel import device, installation
from bench.row import Row
from bench.server_behind import ECHO, server_behind
from bench.tunnel_figures import Tunnel
from bench.tunnel_load import stream

PULLED, TYPED = "1290000001", "1290000002"
STREAMS = 50
ADDED_MS_MOST = 20
KEYS = 300
_EVERY_S = 0.02
_FLOWING_S = 2.0
_STOP_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Typing:
    """Milliseconds from a key to its echo."""

    took_ms: list[float]

    @property
    def median(self) -> float:
        """Half of the keys wait no longer."""
        return statistics.median(self.took_ms)

    @property
    def p95(self) -> float:
        """One in twenty waits longer."""
        return sorted(self.took_ms)[len(self.took_ms) * 95 // 100]

    def __str__(self) -> str:
        return f"median {self.median:.1f} ms, p95 {self.p95:.1f} ms"


def rows(folder: Path) -> list[Row]:
    """A gate: alone, then beside the other company's streams."""
    with ExitStack() as parts:
        bulk, shell = parts.enter_context(server_behind()), parts.enter_context(server_behind())
        system, relay_port = parts.enter_context(installation(folder))
        pulled = parts.enter_context(device(system, relay_port, folder, PULLED, bulk.port))
        typed = parts.enter_context(device(system, relay_port, folder, TYPED, shell.port))
        alone = typing(typed)
        with pulling(pulled):
            relay_s, began_s = cpu_s(typed.relay_pids[0]), time.monotonic()
            beside = typing(typed)
            busy = (cpu_s(typed.relay_pids[0]) - relay_s) / (time.monotonic() - began_s)
    added_ms = beside.median - alone.median
    return [
        Row(
            f"a shell beside {STREAMS} streams that another company pulls, one relay",
            f"{added_ms:+.1f} ms; {beside}",
            f"alone {alone}; the relay's share of a processor {busy:.0%}",
            f"≤ {ADDED_MS_MOST} ms",
            added_ms <= ADDED_MS_MOST and beside.p95 - alone.p95 <= ADDED_MS_MOST,
        )
    ]


def typing(tunnel: Tunnel) -> Typing:
    """Keys at the pace of a fast typist, each after the echo of the one before."""
    took_ms = []
    with stream(tunnel.host, tunnel.port) as side:
        side.sendall(ECHO + b"x")
        assert side.recv(1) == b"x"
        for _ in range(KEYS):
            time.sleep(_EVERY_S)
            began_s = time.perf_counter()
            side.sendall(b"x")
            assert side.recv(1) == b"x"
            took_ms.append((time.perf_counter() - began_s) * 1_000)
    return Typing(took_ms)


@contextmanager
def pulling(tunnel: Tunnel) -> Iterator[None]:
    """In a process of its own, as another person's would be; until it flows."""
    words = [sys.executable, "-m", "bench.pulling", tunnel.host, str(tunnel.port), str(STREAMS)]
    with subprocess.Popen(words) as process:
        try:
            time.sleep(_FLOWING_S)
            if process.poll() is not None:
                raise RuntimeError(f"nothing is pulled, exit code {process.returncode}")
            yield
        finally:
            process.terminate()
            process.wait(_STOP_S_MAX)
