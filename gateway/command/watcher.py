"""Holds one child process for `fleetgate up`, and ends it when `up` is no more (stdlib only)."""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

TERMINATE_S = 3.0
PR_SET_PDEATHSIG = 1
EXIT_NOT_STARTED = 127
SIGNAL_EXIT_BASE = 128


def main(argv: Sequence[str]) -> int:
    """`watcher.py LIFE REPORT UID GID COMMAND...`: two inherited pipe ends, ids or -1."""
    life, report, user, group = (int(word) for word in argv[:4])
    stop_read, stop_write = os.pipe()

    def stop(_number: int, _frame: FrameType | None) -> None:
        os.write(stop_write, b"x")

    # Asked to stop by hand: end the child first. A hang-up is no reason.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = _start(argv[4:], user, group)
    except OSError as error:
        _tell(report, f"failed {error.strerror}: {argv[4]}")
        return EXIT_NOT_STARTED
    _tell(report, f"pid {child.pid}")
    ended = os.pidfd_open(child.pid)
    if ended not in _wait((life, stop_read, ended), None):
        _end(child.pid, ended)
    # The child is a zombie now, so its group's number cannot belong to anybody else yet.
    _signal_group(child.pid, signal.SIGKILL)
    code = child.wait()
    _tell(report, f"exit {code}")
    return code if code >= 0 else SIGNAL_EXIT_BASE - code


def _start(command: Sequence[str], user: int, group: int) -> subprocess.Popen[bytes]:
    # Found before the fork: nothing may be loaded between fork and exec.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    watcher = os.getpid()

    def die_with_watcher() -> None:
        # A second belt, for a watcher that is killed itself. It is set after the change of user,
        # which clears it, and that is why the user is changed here and not by the child.
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != watcher:
            os._exit(EXIT_NOT_STARTED)

    if user < 0:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches `up` only
            preexec_fn=die_with_watcher,
        )
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_watcher,
        user=user,
        group=group,
        extra_groups=[],
    )


def _end(pid: int, ended: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)  # a stopped process would not hear it
    if not _wait((ended,), TERMINATE_S):
        _signal_group(pid, signal.SIGKILL)
        _wait((ended,), None)


def _wait(descriptors: Sequence[int], within_s: float | None) -> set[int]:
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    ready = poller.poll(None if within_s is None else within_s * 1000)
    return {descriptor for descriptor, _ in ready}


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody left in it


def _tell(report: int, line: str) -> None:
    try:
        os.write(report, f"{line}\n".encode())
    except OSError:
        pass  # `up` is gone, which is why we are ending


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
