"""A real `fleetgate up` on a directory of its own, and the clock of its servers."""

import ctypes
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from tests.integration.supervised import lives
from tests.scenario.engines import ENGINES, database_on
from tests.scenario.http_api import Api

ROOT = Path(__file__).parents[2]
READY_S_MAX = 60.0
GONE_S_MAX = 10.0
STOP_S_MAX = 20.0
MARK_VARIABLE = "FLEETGATE_TEST_MARK"
CLOCK_VARIABLE = "FLEETGATE_TEST_CLOCK"
DAY_S = 86_400
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


def instant_s(text: str) -> float:
    """Seconds since 1970 of an instant as the API writes it."""
    return datetime.fromisoformat(text).timestamp()


def end_with_the_tests() -> None:
    """For `preexec_fn`: nothing that a test starts outlives a killed test run."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def until(fact: Callable[[], Any], what: str, *, within_s: float, look_s: float = 0.05) -> Any:
    """Waits for a fact and returns it; fails with `what` when it does not come true."""
    deadline_s = time.monotonic() + within_s
    while not (found := fact()):
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(look_s)
    return found


def marked(mark: str) -> dict[int, str]:
    """Living processes that carry the mark in their environment, with their command lines."""
    needle = f"{MARK_VARIABLE}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if lives(int(entry.name)):
                    found[int(entry.name)] = line
        except OSError:
            continue
    return found


@dataclass
class Installation:
    """One data directory and the `fleetgate up` that runs on it.

    `database` is an address of PostgreSQL; without one it is SQLite. A further machine of an
    installation has a `node` name of its own, the same database, `keys` of the first, and an
    address of its own on loopback.
    """

    folder: Path
    options: tuple[str, ...] = ()
    database: str = ""
    gateways: int = 1
    node: str = ""
    keys: Path | None = None
    host: str = "127.0.0.1"
    mqtt_port: int = 0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    moved_s: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def ready_file(self) -> Path:
        return self.folder / "ready.json"

    @property
    def clock_file(self) -> Path:
        return self.folder / "clock"

    @property
    def log(self) -> str:
        path = self.folder / "up.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, MARK_VARIABLE: self.mark, CLOCK_VARIABLE: str(self.clock_file)}

    def start(self) -> "Installation":
        """Returns when everything answers."""
        self.launch()
        process = self.process
        assert process is not None
        until(
            lambda: self.ready_file.exists() or process.poll() is not None,
            "ready",
            within_s=READY_S_MAX,
        )
        assert process.poll() is None, self.log
        return self

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_clock()
        # One that was killed has left it behind.
        self.ready_file.unlink(missing_ok=True)
        words = ["up", "--data", str(self.data), "--ready-file", str(self.ready_file)]
        words += ["--mqtt", f"{self.host}:{self.mqtt_port}"]
        for name in ("--http", "--devices", "--relay"):
            words += [name, f"{self.host}:0"]
        words += self._shared_words()
        with (self.folder / "up.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.command.app", *words, *self.options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
                preexec_fn=end_with_the_tests,
            )

    def _shared_words(self) -> list[str]:
        """What makes it one of several."""
        given = {
            "--database": self.database,
            "--gateways": str(self.gateways) if self.gateways > 1 else "",
            "--node": self.node,
            "--keys": str(self.keys or ""),
        }
        return [word for name, value in given.items() if value for word in (name, value)]

    def facts(self) -> dict[str, Any]:
        """The ready file."""
        content: dict[str, Any] = json.loads(self.ready_file.read_text())
        return content

    def pid(self, name: str) -> int:
        return int(self.facts()["pids"][name])

    @property
    def api(self) -> Api:
        facts = self.facts()
        return Api(facts["http_url"], facts["admin_token"])

    @property
    def apis(self) -> list[Api]:
        """One for each of its gateways."""
        facts = self.facts()
        return [Api(one["http_url"], facts["admin_token"]) for one in facts["gateways"]]

    def keep_facts(self, facts: dict[str, Any]) -> None:
        """For tests that run the servers of a stopped `up` themselves."""
        self.ready_file.write_text(json.dumps(facts))

    def stop(self) -> None:
        """A clean end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_S_MAX) == 0, self.log

    def kill_child(self, name: str) -> int:
        """`kill -9` of a gateway, the MQTT server or the relay; the pid that died."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill(self) -> None:
        """`kill -9` of `up` itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def back(self, name: str, former: int, *, within_s: float = 30.0) -> None:
        """Waits until `up` has started the child again and everything is ready."""
        until(lambda: self.pid(name) != former, f"{name} is started again", within_s=within_s)
        until(lambda: all(api.ready() for api in self.apis), "ready again", within_s=within_s)

    def move_clock(self, by_s: float) -> None:
        """All server processes live that much later from now on, once this returns."""
        self.moved_s += by_s
        self._write_clock()
        if self.process is not None and self.process.poll() is None:
            # Asked of the gateway itself, which looks at the file from time to time.
            until(lambda: abs(self.server_s() - self.now_s()) < 60, "moved", within_s=10)

    def now_s(self) -> float:
        """The moved wall clock, in seconds since 1970."""
        return time.time() + self.moved_s

    def server_s(self) -> float:
        """The gateway's own wall clock."""
        return instant_s(self.api.status()["at"])

    def _write_clock(self) -> None:
        beside = self.clock_file.with_suffix(".new")
        beside.write_text(f"{self.moved_s}\n")
        beside.replace(self.clock_file)

    def end(self) -> None:
        """Whatever happened: nothing of it is left."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        until(lambda: not marked(self.mark), "all processes are gone", within_s=GONE_S_MAX)

    def gateway_log(self) -> str:
        return (self.data / "logs" / "gateway.log").read_text(errors="replace")

    def rows(self, statement: str) -> list[Any]:
        """What the database holds, read beside the gateway: facts that the API does not tell."""
        if self.database:
            with psycopg.connect(self.database) as connection:
                return connection.execute(statement.encode()).fetchall()
        database = sqlite3.connect(f"file:{self.data}/fleetgate.db?mode=ro", uri=True)
        try:
            return database.execute(statement).fetchall()
        finally:
            database.close()

    def insist_verified(self) -> None:
        """`fleetgate verify` is content, while the server works or not."""
        words = [sys.executable, "-m", "gateway.command.app", "verify", "--data", str(self.data)]
        # Verified as of the moved clock: what is due by then is due for the command as well.
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=60, env=self.environment
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def tracebacks(self) -> list[str]:
        """Errors of ours in the gateway's log; there should be none, whatever was done to it."""
        return re.findall(r"Traceback \(most recent call last\).*?\n(?=\S)\S.*", self.gateway_log())


@contextmanager
def installed(
    folder: Path, *options: str, engine: str | None = None, **more: Any
) -> Iterator[Installation]:
    """A started installation that is gone afterwards; by default on the engine of this run."""
    with database_on(engine or ENGINES[0]) as database:
        installation = Installation(folder, options, database=database, **more)
        try:
            yield installation.start()
        finally:
            installation.end()
