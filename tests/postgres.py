"""A real PostgreSQL for tests: the installed programs, on a cluster that each test process makes.

    cluster = PostgresCluster()
    cluster.start()
    cluster.create("mine")
    psycopg.connect(cluster.url("mine"))

It lives in a directory of its own, listens on loopback, trusts everybody there, and ends with the
process that made it, however that ends.
"""

import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.ports import free_port
from tests.postgres_watcher import children_of, signal_all

VERSION_MIN = 15
INSTALL = f"PostgreSQL {VERSION_MIN} or newer is not installed: apt-get install postgresql"
INSTALLED = Path("/usr/lib/postgresql")
WATCHER = Path(__file__).with_name("postgres_watcher.py")
# Not TMPDIR: another user has to get in here, and the path of a socket is short.
FOLDER = Path("/tmp")
# A database is some hundred files, which memory makes five to thirty times as fast. A cluster takes
# 100 MB and a database 8; containers often have 64 MB here.
MEMORY = Path("/dev/shm")
MEMORY_FREE_MIN = 2 * 1024**3
START_S_MAX = 30.0
FAST_S_MAX = 20.0
QUIT_S_MAX = 15.0
PAUSE_S_MAX = 5.0

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
autovacuum = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_checkpoints = off
log_line_prefix = '%m [%p] %d '
"""
# The system keeps what a killed process wrote; only commits that it had not written yet are lost.
QUICK = """
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 256MB
"""
DURABLE = """
fsync = on
synchronous_commit = on
full_page_writes = on
"""

StopMode = Literal["fast", "immediate"]
STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresError(Exception):
    """The server did not do what a test asked; carries what it said."""


def folders_of_programs() -> list[Path]:
    """Where to look: Debian keeps the server's programs off PATH, one folder for each version."""
    on_path = shutil.which("postgres")
    installed = sorted(
        (path for path in INSTALLED.glob("*/bin") if path.parent.name.isdecimal()),
        key=lambda path: int(path.parent.name),
        reverse=True,
    )
    # A link may stand on PATH alone, without the other programs beside it.
    return ([Path(on_path).resolve().parent] if on_path else []) + installed


@functools.cache
def version_of(folder: Path) -> str:
    """Such as "15.18"; empty where nothing can be started."""
    if not (os.access(folder / "postgres", os.X_OK) and os.access(folder / "initdb", os.X_OK)):
        return ""
    said = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, timeout=START_S_MAX
    ).stdout
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    return found[1] if found and int(found[2]) >= VERSION_MIN else ""


def chosen_postgres() -> tuple[Path, str]:
    """The folder of the programs that the tests use, and both in words for the head of the run."""
    for folder in folders_of_programs():
        version = version_of(folder)
        if version:
            return folder, f"{version} {folder}"
    raise PostgresError(INSTALL)


def account() -> pwd.struct_passwd | None:
    """Whom the server runs as instead of root, whom it refuses; None is ourselves."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def folder_for(durable: bool) -> Path:
    try:
        room = shutil.disk_usage(MEMORY).free
    except OSError:
        room = 0
    return FOLDER if durable or room < MEMORY_FREE_MIN else MEMORY


class PostgresCluster:
    """One server on a new directory; it keeps its port over any number of stops and starts.

    With `durable`, what was committed is on the disk, as in production. Without, it is quick, and
    an immediate stop may lose the last commits.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs, _ = chosen_postgres()
        self._durable = durable
        self._account = account()
        self._watcher: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.port = free_port()
        self.directory = Path(
            tempfile.mkdtemp(prefix="fleetgate-postgres-", dir=folder_for(durable))
        )
        self._data = self.directory / "data"
        self._output = self.directory / "log"
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        user, group = -1, -1
        if self._account is not None:
            user, group = self._account.pw_uid, self._account.pw_gid
            os.chown(self.directory, user, group)
        options = "--auth=trust --username=postgres --encoding=UTF8 --locale=C.UTF-8 --no-sync"
        done = subprocess.run(
            [self._programs / "initdb", *options.split(), "--no-instructions", "-D", self._data],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_S_MAX,
            user=None if user < 0 else user,
            group=None if group < 0 else group,
            extra_groups=None if user < 0 else [],
        )
        if done.returncode:
            raise PostgresError(f"initdb failed:\n{done.stdout.decode(errors='replace')}")
        own = f"port = {self.port}\nunix_socket_directories = '{self.directory}'\n"
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS + (DURABLE if self._durable else QUICK) + own)

    def _environment(self) -> dict[str, str]:
        # Nothing of the caller's: PGDATA, PGPORT and their like would mean another cluster.
        return {"PATH": f"{self._programs}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    @property
    def pid(self) -> int:
        """Of the postmaster, while it runs."""
        if not self.running():
            raise PostgresError(f"not running:\n{self.log()}")
        return self._pid

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database)}"

    def start(self) -> None:
        """Returns when the server answers."""
        if self.running():
            raise PostgresError("already running")
        user, group = -1, -1
        if self._account is not None:
            user, group = self._account.pw_uid, self._account.pw_gid
        # -I -S: the watcher needs the standard library alone, and starts in 15 ms so.
        python = (sys.executable, "-I", "-S", WATCHER, str(user), str(group), self.directory)
        self._forget_watcher()
        with self._output.open("ab") as output:
            self._watcher = subprocess.Popen(
                [*python, self._programs / "postgres", "-D", self._data],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the tests only
            )
        assert self._watcher.stdout is not None
        told = self._watcher.stdout.readline()
        if not told:
            self._forget_watcher()
            raise PostgresError(f"postgres could not be started:\n{self.log()}")
        self._pid = int(told)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline_s = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline_s:
            if not self.running():
                raise PostgresError(f"postgres ended at once:\n{self.log()}")
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.01)
            else:
                return
        raise PostgresError(f"no answer on port {self.port} in {START_S_MAX} s:\n{self.log()}")

    def running(self) -> bool:
        """Whether anything of the server is left: the watcher ends last."""
        return self._watcher is not None and self._watcher.poll() is None

    def stop(self, mode: StopMode = "fast") -> None:
        """Fast rolls back what is open and writes all down; immediate leaves it to recovery."""
        pid = self.pid
        self.resume()
        os.kill(pid, STOP_SIGNALS[mode])
        if self._ended_within(FAST_S_MAX):
            return
        os.kill(pid, signal.SIGQUIT)
        if not self._ended_within(QUIT_S_MAX):
            os.kill(pid, signal.SIGKILL)
            self._ended_within(QUIT_S_MAX)
        raise PostgresError(f"did not end in {FAST_S_MAX} s:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL for the postmaster, and waits until its sessions have noticed and ended."""
        os.kill(self.pid, signal.SIGKILL)
        if not self._ended_within(QUIT_S_MAX):
            raise PostgresError(f"sessions outlive their postmaster:\n{self.log()}")

    def _ended_within(self, seconds: float) -> bool:
        assert self._watcher is not None
        try:
            self._watcher.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._forget_watcher()
        return True

    def _forget_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with watcher:  # closes the pipes
                pass

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Stops every process of the server where it stands: connections hang and do not break."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        # First it must stand still, or it would have another child.
        deadline_s = time.monotonic() + PAUSE_S_MAX
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > deadline_s:
                raise PostgresError("the postmaster does not stand still")
            time.sleep(0.001)
        signal_all(children_of(pid), signal.SIGSTOP)

    def resume(self) -> None:
        pid = self.pid
        signal_all([*children_of(pid), pid], signal.SIGCONT)

    def create(self, name: str, template: str | None = None) -> None:
        """A new database: empty, or a copy of another one that nobody is connected to."""
        # A copy of files costs two checkpoints, one through the log costs the log: which is dear
        # depends on whether anybody waits for the disk.
        strategy = sql.SQL("WAL_LOG" if self._durable else "FILE_COPY")
        self._run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0"), strategy
            )
        )

    def drop(self, name: str) -> None:
        """Ends the sessions in it, too; a database that is not there is no error."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def log(self) -> str:
        """All that the server said since it was made."""
        if not self._output.exists():
            return ""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Stops it if need be and leaves nothing behind; a second call does nothing."""
        if self.running():
            self.stop()
        self._forget_watcher()
        shutil.rmtree(self.directory, ignore_errors=True)
