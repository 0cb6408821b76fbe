"""Supervised children: real processes, ended and stopped in every way."""

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.command.supervisor import Child, ChildSpec, Supervisor
from tests.integration.supervised import (
    child_spec,
    lives,
    parent,
    pids_of,
    processes_naming,
    state,
    until,
    until_plain,
)

ROOT = Path(__file__).parents[2]


def supervisor(changed: Callable[[], None] = lambda: None) -> Supervisor:
    return Supervisor(clock=asyncio.get_running_loop().time, changed=changed)


async def test_a_killed_child_is_started_again_and_its_new_pid_is_told(tmp_path: Path) -> None:
    told: list[int | None] = []
    async with supervisor(lambda: told.append(child.pid)) as supervising:
        child = supervising.start(child_spec(tmp_path, "one"))
        await until(lambda: pids_of(tmp_path, "one"))
        first = child.pid
        assert first is not None and pids_of(tmp_path, "one") == [first]
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (None, first))
        assert child.ends == 1
        assert told == [first, None, child.pid]
        second = child.pid
    assert second is not None and not lives(second)


async def test_a_stopped_child_is_left_alone_and_still_ends_at_the_end(tmp_path: Path) -> None:
    async with supervisor() as supervising:
        child = supervising.start(child_spec(tmp_path, "one"))
        other = supervising.start(child_spec(tmp_path, "two"))
        await until(lambda: child.pid and other.pid)
        pid = child.pid
        assert pid is not None and other.pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: state(pid) == "T")
        # Long enough for the other one to be started again: that loop looks at nothing else.
        os.kill(other.pid, signal.SIGKILL)
        await until(lambda: other.ends == 1 and other.pid)
        assert (child.pid, child.ends, state(pid)) == (pid, 0, "T")
    assert not lives(pid)


async def test_a_killed_watcher_leaves_no_orphan_and_the_child_is_started_again(
    tmp_path: Path,
) -> None:
    async with supervisor() as supervising:
        child = supervising.start(child_spec(tmp_path, "one", deaf=True, grandchildren=1))
        await until(lambda: pids_of(tmp_path, "one"))
        before = pids_of(tmp_path, "one")
        os.kill(parent(before[0]), signal.SIGKILL)
        await until(lambda: child.pid not in (None, before[0]))
        assert not [pid for pid in before if lives(pid)]


async def test_the_parent_death_signal_outlives_a_change_of_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a child as another user")
    entry = pwd.getpwnam("nobody")
    spec = ChildSpec(
        name="one",
        command=["/bin/sleep", "600"],
        log_file=tmp_path / "log",
        user=(entry.pw_uid, entry.pw_gid),
    )
    async with supervisor() as supervising:
        child = supervising.start(spec)
        await child.started.wait()
        pid = child.pid
        assert pid is not None
        assert Path(f"/proc/{pid}").stat().st_uid == entry.pw_uid
        os.kill(parent(pid), signal.SIGKILL)
        await until(lambda: not lives(pid), within_s=2)
        await until(lambda: child.pid not in (None, pid))


async def test_children_stop_in_reverse_order_with_all_that_they_started(tmp_path: Path) -> None:
    ended: list[str] = []
    children: dict[str, Child] = {}

    def note() -> None:
        ended.extend(
            name for name, child in children.items() if child.pid is None and name not in ended
        )

    async with supervisor(note) as supervising:
        for name in ("one", "two", "three"):
            children[name] = supervising.start(child_spec(tmp_path, name, grandchildren=2))
        await until(lambda: all(pids_of(tmp_path, name) for name in children))
        pids = [pid for name in children for pid in pids_of(tmp_path, name)]
        assert len(pids) == 9 and all(lives(pid) for pid in pids)
        ended.clear()
    assert ended == ["three", "two", "one"]
    assert not [pid for pid in pids if lives(pid)]


async def test_a_deaf_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    clock = asyncio.get_running_loop().time
    async with supervisor() as supervising:
        supervising.start(child_spec(tmp_path, "one", deaf=True))
        await until(lambda: pids_of(tmp_path, "one"))
        (pid,) = pids_of(tmp_path, "one")
        began_s = clock()
    assert not lives(pid)
    assert clock() - began_s >= 2.9


async def test_an_error_in_the_body_leaves_unwrapped_when_all_is_stopped(tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(KeyError):  # noqa: PT012 - the error must leave through the context
        async with supervisor() as supervising:
            supervising.start(child_spec(tmp_path, "one"))
            await until(lambda: pids_of(tmp_path, "one"))
            pids += pids_of(tmp_path, "one")
            raise KeyError
    assert pids and not lives(pids[0])


async def test_a_program_that_cannot_be_started_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ChildSpec(name="absent", command=["/no/such/program"], log_file=tmp_path / "log")
    async with supervisor() as supervising:
        child = supervising.start(spec)
        await until(lambda: child.ends >= 2)
        assert child.ended.is_set() and not child.started.is_set()
    assert "child not started child=absent reason=No such file or directory" in caplog.text


async def test_what_must_come_before_a_start_is_awaited_each_time(tmp_path: Path) -> None:
    gate = asyncio.Event()
    spec = child_spec(tmp_path, "one")

    async def before() -> None:
        await gate.wait()

    gated = ChildSpec(name=spec.name, command=spec.command, log_file=spec.log_file, before=before)
    async with supervisor() as supervising:
        child = supervising.start(gated)
        other = supervising.start(child_spec(tmp_path, "two"))
        await until(lambda: other.pid)
        assert not child.started.is_set()
        gate.set()
        await until(lambda: child.pid)
        gate.clear()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: child.preparing)
    assert child.ends == 1


SUPERVISING = """
import asyncio, sys, time
from pathlib import Path
from gateway.command.supervisor import Supervisor
from tests.integration.supervised import child_spec

async def main(folder):
    async with Supervisor(clock=time.monotonic) as supervising:
        supervising.start(child_spec(folder, "polite"))
        supervising.start(child_spec(folder, "deaf", deaf=True, grandchildren=2))
        await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_killing_the_supervising_process_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISING, str(tmp_path)], cwd=ROOT)
    try:
        until_plain(lambda: pids_of(tmp_path, "polite") and pids_of(tmp_path, "deaf"))
        pids = pids_of(tmp_path, "polite") + pids_of(tmp_path, "deaf")
        assert len(pids) == 4 and len(processes_naming(str(tmp_path))) >= 5
    finally:
        process.kill()
        process.wait()
    until_plain(lambda: not [pid for pid in pids if lives(pid)], within_s=5)
    until_plain(lambda: not processes_naming(str(tmp_path)), within_s=5)


def test_ctrl_c_reaches_the_supervising_process_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(tmp_path)], cwd=ROOT, start_new_session=True
    )
    try:
        until_plain(lambda: pids_of(tmp_path, "polite") and pids_of(tmp_path, "deaf"))
        for pid in pids_of(tmp_path, "polite") + pids_of(tmp_path, "deaf"):
            assert os.getpgid(pid) != os.getpgid(process.pid)
            assert os.getsid(pid) != os.getsid(process.pid)
    finally:
        process.kill()
        process.wait()
    until_plain(lambda: not processes_naming(str(tmp_path)), within_s=5)
