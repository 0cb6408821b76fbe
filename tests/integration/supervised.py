"""Small real children for the supervisor's tests, and what the process table says of them."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.command.supervisor import ChildSpec

# Writes its pid, then waits; what it does about SIGTERM is the first argument.
CHILD = """
import os, signal, subprocess, sys, time
deaf, pid_file, grandchildren = sys.argv[1] == "deaf", sys.argv[2], int(sys.argv[3])
if deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids = [os.getpid()]
for _ in range(grandchildren):
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    pids.append(subprocess.Popen([sys.executable, "-S", "-c", sleep]).pid)
with open(pid_file + ".new", "w") as file:
    file.write(" ".join(map(str, pids)))
os.rename(pid_file + ".new", pid_file)
time.sleep(600)
"""


def child_spec(
    folder: Path,
    name: str,
    *,
    deaf: bool = False,
    grandchildren: int = 0,
    user: tuple[int, int] | None = None,
) -> ChildSpec:
    words = ["deaf" if deaf else "polite", str(folder / f"{name}.pid"), str(grandchildren)]
    return ChildSpec(
        name=name,
        command=[sys.executable, "-S", "-c", CHILD, *words],
        log_file=folder / f"{name}.log",
        user=user,
    )


def pids_of(folder: Path, name: str) -> list[int]:
    """What the child wrote about itself and its own children; empty while it has not."""
    try:
        return [int(word) for word in (folder / f"{name}.pid").read_text().split()]
    except FileNotFoundError:
        return []


def lives(pid: int) -> bool:
    """In the process table and not a zombie."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_naming(text: str) -> dict[int, str]:
    """Living processes whose command line or folder names this text, which must be unusual."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(entry / "cwd")
        except OSError:
            continue
        if (text in line or text in folder) and lives(int(entry.name)):
            found[int(entry.name)] = line
    return found


async def until(fact: Callable[[], object], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - the process table sends no event
            await asyncio.sleep(0.01)


def until_plain(fact: Callable[[], object], *, within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline_s, f"not within {within_s} s"
        time.sleep(0.01)
