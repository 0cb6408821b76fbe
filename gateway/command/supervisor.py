"""Starts child processes under watchers, starts ended ones again, stops them in reverse order."""

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

RESTART_FIRST_S = 0.2
RESTART_CEILING_S = 5.0
SETTLED_S = 10.0
ORPHAN_TERMINATE_S = 3.0
WATCHER_S_MAX = 10.0
_WATCHER_FILE = Path(__file__).with_name("watcher.py")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start; a child that had settled begins anew."""

    next_s: float = RESTART_FIRST_S

    def after(self, lived_s: float) -> tuple[float, "Backoff"]:
        wait_s = RESTART_FIRST_S if lived_s >= SETTLED_S else self.next_s
        return wait_s, Backoff(min(wait_s * 2, RESTART_CEILING_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run. `before` is awaited before every start, the first included."""

    name: str
    command: Sequence[str]
    log_file: Path
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None  # user id, group id
    before: Callable[[], Awaitable[None]] | None = None


class Child:
    """One supervised program: its present process, if any, and how often it ended."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        held: Sequence[int],
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.ends = 0
        self.preparing = False
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        """Set at the first end and never cleared: how a start that fails is noticed."""
        self._held = tuple(held)
        self._clock = clock
        self._changed = changed
        self._stopping = asyncio.Event()
        self._life: int | None = None

    async def run(self) -> None:
        """One process after another, until `stop`."""
        backoff = Backoff()
        while not self._stopping.is_set():
            began_s = self._clock()
            if self.spec.before is not None:
                self.preparing = True
                await self.spec.before()
                self.preparing = False
            code = await self._run_once()
            self.ends += 1
            self.ended.set()
            if self._stopping.is_set():
                return
            wait_s, backoff = backoff.after(self._clock() - began_s)
            log.warning(
                "child ended, will start again child=%s exit=%s wait_s=%.1f",
                self.spec.name,
                code,
                wait_s,
            )
            try:
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Closes the pipe that keeps the watcher waiting: SIGTERM, 3 s, SIGKILL follow there."""
        self._stopping.set()
        self._let_go()

    async def _run_once(self) -> int | None:
        """The exit code, or None when the watcher was killed and could not say."""
        watcher, reader, transport = await self._start()
        code: int | None = None
        orphan: int | None = None
        try:
            while line := (await reader.readline()).decode().strip():
                word, _, rest = line.partition(" ")
                if word == "pid":
                    self.pid = int(rest)
                    orphan = _open_pid(self.pid)
                    log.info("child started child=%s pid=%d", self.spec.name, self.pid)
                    self.started.set()
                    self._changed()
                elif word == "exit":
                    code = int(rest)
                else:
                    log.error("child not started child=%s reason=%s", self.spec.name, rest)
            # End of file: the watcher is gone, having told the code unless it was killed.
            await asyncio.to_thread(watcher.wait, WATCHER_S_MAX)
            if code is None and self.pid is not None and orphan is not None:
                await asyncio.to_thread(_end_orphan, self.pid, orphan)
        finally:
            self.pid = None
            transport.close()
            self._let_go()
            if orphan is not None:
                os.close(orphan)
        self._changed()
        return code

    async def _start(
        self,
    ) -> tuple[subprocess.Popen[bytes], asyncio.StreamReader, asyncio.ReadTransport]:
        life_read, life_write = os.pipe()
        report_read, report_write = os.pipe()
        try:
            watcher = self._spawn(life_read, report_write)
        finally:
            os.close(life_read)
            os.close(report_write)
        self._life = life_write
        if self._stopping.is_set():
            self._let_go()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(report_read, "rb")
        )
        return watcher, reader, transport

    def _spawn(self, life: int, report: int) -> subprocess.Popen[bytes]:
        user, group = self.spec.user or (-1, -1)
        arguments = [str(number) for number in (life, report, user, group)]
        # -I -S: the watcher needs nothing but the standard library, and starts in 15 ms so.
        command = [sys.executable, "-I", "-S", str(_WATCHER_FILE), *arguments]
        with self.spec.log_file.open("ab") as output:
            return subprocess.Popen(
                [*command, *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.spec.directory,
                env={**os.environ, **self.spec.environment},
                # The lock of the data directory is held by watchers too: nobody may start there
                # before the last child of a killed `up` is gone.
                pass_fds=(life, report, *self._held),
                start_new_session=True,
            )

    def _let_go(self) -> None:
        if self._life is not None:
            os.close(self._life)
            self._life = None


class Supervisor:
    """Children in the order of their starts; leaving the context stops them in reverse."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
        held: Sequence[int] = (),
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._held = held
        self._tasks = asyncio.TaskGroup()
        self._running: list[tuple[Child, asyncio.Task[None]]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if error is None or isinstance(error, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            # The body's own error leaves as it is, not wrapped in a group.
            await self._tasks.__aexit__(None, None, None)

    def start(self, spec: ChildSpec) -> Child:
        """Starts it and keeps it running; its pid is known once `started` is set."""
        child = Child(spec, held=self._held, clock=self._clock, changed=self._changed)
        task = self._tasks.create_task(child.run(), name=f"child {spec.name}")
        self._running.append((child, task))
        return child

    async def stop(self) -> None:
        while self._running:
            child, task = self._running.pop()
            child.stop()
            if child.preparing:
                task.cancel()  # there is no process yet, and no other way to end `before`
            await asyncio.wait([task])
            log.info("child stopped child=%s", child.spec.name)


def _open_pid(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None  # gone already


def _end_orphan(pid: int, handle: int) -> None:
    """Ends a child whose watcher was killed, so that the next start finds its ports free."""
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        signal.pidfd_send_signal(handle, signal.SIGCONT)
        if not poller.poll(ORPHAN_TERMINATE_S * 1000):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poller.poll(ORPHAN_TERMINATE_S * 1000)
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # the parent-death signal was faster
