"""The simulator's bad network in a process of its own, for measurements."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOP_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class BadNetwork:
    """Where to dial instead of the target, and its process."""

    port: int
    pid: int


@contextmanager
def bad_network(target_port: int, latency_ms: float) -> Iterator[BadNetwork]:
    """`latency_ms` is one way. Raises `RuntimeError` when the program does not start."""
    words = ["network", "--target", f"127.0.0.1:{target_port}", "--latency", str(latency_ms)]
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode()
        port = said.rpartition(":")[2].strip()
        if not port.isdigit():
            raise RuntimeError(f"the bad network did not start: {said}")
        yield BadNetwork(int(port), process.pid)
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
        process.stdout.close()


def resident_bytes(pid: int) -> int:
    """Memory of a process that is not on disk; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
