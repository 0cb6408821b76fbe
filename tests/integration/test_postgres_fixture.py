"""The tests' own PostgreSQL keeps its word: it starts, hangs, dies, comes back, is cleared away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.postgres import PostgresCluster, PostgresError, chosen_postgres
from tests.postgres_watcher import children_of, signal_all

ROOT = Path(__file__).parent.parent.parent
GONE_S_MAX = 20.0

# Prints what the test watches, then lives until it is killed.
OWNER = """
import time
from tests.postgres import PostgresCluster
cluster = PostgresCluster()
cluster.start()
print(cluster.pid, cluster.port, cluster.directory, flush=True)
time.sleep(600)
"""


@pytest.fixture
def durable_cluster() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(durable=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def tell(url: str, *statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def wait_until(fact: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + GONE_S_MAX
    while not fact():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A process that only waits for somebody to ask how it ended is not."""
    try:
        return state_and_parent(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_and_parent(pid: int) -> tuple[str, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


def test_a_database_is_empty_and_answers(postgres_database: str) -> None:
    assert ask(postgres_database, "SELECT 1") == 1
    assert ask(postgres_database, "SHOW server_encoding") == "UTF8"
    mine = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert ask(postgres_database, mine) == 0


def test_a_copy_of_a_template_has_its_rows_and_can_be_dropped_while_in_use(
    postgres_cluster: PostgresCluster,
) -> None:
    postgres_cluster.create("pattern")
    tell(postgres_cluster.url("pattern"), "CREATE TABLE t (x int)", "INSERT INTO t VALUES (7)")
    postgres_cluster.create("a copy", template="pattern")
    connection = psycopg.connect(postgres_cluster.url("a copy"))
    try:
        assert connection.execute("SELECT x FROM t").fetchall() == [(7,)]
        postgres_cluster.drop("a copy")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    finally:
        connection.close()
    postgres_cluster.drop("a copy")
    postgres_cluster.drop("pattern")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres_cluster.url("pattern"))


def test_commits_outlive_every_way_to_end(durable_cluster: PostgresCluster) -> None:
    cluster, url = durable_cluster, durable_cluster.url("postgres")
    tell(url, "CREATE TABLE t (x int)")
    ends: list[Callable[[], None]] = [
        cluster.stop,
        lambda: cluster.stop("immediate"),
        cluster.kill,
    ]
    for number, end in enumerate(ends, 1):
        tell(url, f"INSERT INTO t VALUES ({number})")
        pid = cluster.pid
        # A session that is still open must not hold up any of them.
        connection = psycopg.connect(url)
        end()
        connection.close()
        assert not cluster.running() and not alive(pid)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        cluster.start()
        assert ask(url, "SELECT count(*) FROM t") == number
    cluster.restart()
    assert ask(url, "SELECT count(*) FROM t") == len(ends)


def test_a_paused_server_hangs_and_goes_on(durable_cluster: PostgresCluster) -> None:
    url = durable_cluster.url("postgres")
    connection = psycopg.connect(url)
    try:
        durable_cluster.pause()
        # The kernel still takes the connection, and nobody says anything.
        with socket.create_connection(("127.0.0.1", durable_cluster.port), timeout=5) as quiet:
            quiet.settimeout(0.3)
            with pytest.raises(TimeoutError):
                quiet.recv(1)
        durable_cluster.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        connection.close()
    durable_cluster.pause()
    durable_cluster.stop()
    assert not durable_cluster.running()


@pytest.mark.parametrize("paused", [False, True])
def test_it_ends_and_is_cleared_away_when_its_owner_is_killed(paused: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        said = owner.stdout.readline().split()
        pid, port, directory = int(said[0]), int(said[1]), Path(said[2])
        connection = psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        try:
            processes = [pid, *children_of(pid)]
            assert len(processes) > 1
            if paused:
                signal_all(processes, signal.SIGSTOP)
            owner.kill()
            wait_until(lambda: not any(map(alive, processes)))
        finally:
            connection.close()
    wait_until(lambda: not directory.exists())


def test_it_ends_when_its_watcher_is_killed() -> None:
    cluster = PostgresCluster()
    try:
        cluster.start()
        pid = cluster.pid
        _, watcher = state_and_parent(pid)
        os.kill(watcher, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        assert not cluster.running()
        cluster.start()
    finally:
        cluster.close()
        cluster.close()
    assert not cluster.directory.exists()


def test_a_server_that_cannot_start_says_why(durable_cluster: PostgresCluster) -> None:
    durable_cluster.stop()
    with (durable_cluster.directory / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_option = true\n")
    with pytest.raises(PostgresError, match="no_such_option"):
        durable_cluster.start()


def test_what_is_durable_is_on_the_disk_and_small_memory_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "MEMORY", tmp_path)
    monkeypatch.setattr(postgres, "MEMORY_FREE_MIN", 1)
    assert postgres.folder_for(durable=False) == tmp_path
    assert postgres.folder_for(durable=True) == postgres.FOLDER
    monkeypatch.setattr(postgres, "MEMORY_FREE_MIN", 2**60)
    assert postgres.folder_for(durable=False) == postgres.FOLDER
    monkeypatch.setattr(postgres, "MEMORY", tmp_path / "missing")
    monkeypatch.setattr(postgres, "MEMORY_FREE_MIN", 1)
    assert postgres.folder_for(durable=False) == postgres.FOLDER


def program(folder: Path, name: str, says: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_the_newest_that_is_whole_and_not_too_old_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path)
    with pytest.raises(PostgresError, match="apt-get install postgresql"):
        chosen_postgres()
    program(tmp_path / "path", "postgres", "postgres (PostgreSQL) 14.2")
    program(tmp_path / "path", "initdb", "")
    program(tmp_path / "18" / "bin", "postgres", "postgres (PostgreSQL) 18.1")  # without initdb
    with pytest.raises(PostgresError, match="apt-get install postgresql"):
        PostgresCluster()
    for version in (9, 15, 16):
        says = f"postgres (PostgreSQL) {version}.3 (Debian {version}.3-1)"
        program(tmp_path / f"{version}" / "bin", "postgres", says)
        program(tmp_path / f"{version}" / "bin", "initdb", "")
    # What cannot be used was looked at before, and is remembered.
    assert chosen_postgres() == (tmp_path / "16" / "bin", f"16.3 {tmp_path}/16/bin")
