"""Holds the PostgreSQL of one test run, and ends it when that run is no more (stdlib only)."""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
QUIT_S_MAX = 10.0
OTHERS_S_MAX = 5.0
EXIT_NOT_STARTED = 127
OWNER = 0  # standard input: a pipe whose other end is the owner's


def children_of(parent: int) -> list[int]:
    """Process ids; `postgres` has no children of children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything, so what counts is behind the last bracket.
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has just ended


def main(argv: Sequence[str]) -> int:
    """`postgres_watcher.py UID GID DIRECTORY COMMAND...`: ids or -1, what to clear away."""
    user, group, directory = int(argv[0]), int(argv[1]), argv[2]
    libc = ctypes.CDLL(None, use_errno=True)
    # Sessions whose postmaster was killed become ours, so that we can wait for them.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = start(libc, argv[3:], user, group)
    print(child.pid, flush=True)
    ended = os.pidfd_open(child.pid)
    owner_is_gone = ended not in wait((OWNER, ended), None)
    if owner_is_gone:
        # SIGQUIT lets go of the shared memory too, and a stopped process hears it when it goes on.
        signal_all([child.pid], signal.SIGQUIT)
        signal_all([child.pid, *children_of(child.pid)], signal.SIGCONT)
        if not wait((ended,), QUIT_S_MAX):
            child.kill()
    code = child.wait()
    wait_for_others()
    if owner_is_gone:
        shutil.rmtree(directory, ignore_errors=True)
    return code if code >= 0 else 128 - code


def start(
    libc: ctypes.CDLL, command: Sequence[str], user: int, group: int
) -> subprocess.Popen[bytes]:
    def die_with_watcher() -> None:
        # For a watcher that is killed itself; set after the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_watcher,
        user=None if user < 0 else user,
        group=None if group < 0 else group,
        extra_groups=None if user < 0 else [],
    )


def wait(descriptors: Sequence[int], within_s: float | None) -> set[int]:
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    ready = poller.poll(None if within_s is None else within_s * 1000)
    return {descriptor for descriptor, _ in ready}


def wait_for_others() -> None:
    """After a kill of the postmaster its sessions end in their own time; stopped ones never."""
    deadline_s = time.monotonic() + OTHERS_S_MAX
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        signal_all(children_of(os.getpid()), signal.SIGCONT)
        if time.monotonic() > deadline_s:
            signal_all(children_of(os.getpid()), signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
