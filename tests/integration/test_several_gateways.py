"""`fleetgate up` on PostgreSQL, with several gateways at one MQTT server, and on two machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.supervised import until_plain
from tests.integration.test_up_whole import ROOT, get, relay_of, running
from tests.ports import free_ports
from tests.postgres import PostgresCluster

DATABASE_VARIABLE = "FLEETGATE_DATABASE"


def status_of(gateway: dict[str, Any], token: str) -> dict[str, Any]:
    request = urllib.request.Request(
        gateway["http_url"] + "/status",
        headers={"Accept": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def is_ready(gateway: dict[str, Any]) -> bool:
    return get({"http_url": gateway["http_url"], "admin_token": ""}, "/readyz")[0] == 200


def row(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchone()


def canary(data: Path) -> str:
    """The line of the password file that is new at each writing."""
    lines = (data / "mosquitto" / "passwd").read_text().splitlines()
    return next(line for line in lines if line.startswith("@canary:"))


def writer_of(data: Path, gateways: list[dict[str, Any]]) -> int:
    """Which gateway holds the lock of the login file, by the kernel's table of locks."""
    inode = (data / "mosquitto" / "writer.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            pids = [one["pid"] for one in gateways]
            assert int(words[4]) in pids
            return pids.index(int(words[4]))
    return -1


def test_two_gateways_share_a_node_and_either_may_die(
    tmp_path: Path, postgres_database: str
) -> None:
    data = tmp_path / "data"
    with running(data, "--gateways", "2", environment={DATABASE_VARIABLE: postgres_database}) as up:
        ready = up.wait_ready()
        gateways, token = ready["gateways"], ready["admin_token"]
        assert [one["name"] for one in gateways] == ["gateway-1", "gateway-1-2"]
        assert ready["pids"]["gateway-2"] == gateways[1]["pid"]
        assert all(is_ready(one) for one in gateways)
        assert status_of(gateways[1], token)["ready"]
        # The node's clock is one, and goes on with both.
        before = row(postgres_database, "SELECT clock FROM node")[0]
        until_plain(
            lambda: row(postgres_database, "SELECT clock FROM node")[0] > before, within_s=20
        )
        # One writes the logins; when it is killed, the other takes over.
        writer = writer_of(data, gateways)
        assert writer in (0, 1)
        child = ("gateway", "gateway-2")[writer]
        os.kill(gateways[writer]["pid"], signal.SIGSTOP)  # `up` leaves it alone
        written = canary(data)
        os.kill(gateways[writer]["pid"], signal.SIGKILL)
        until_plain(lambda: up.ready()["pids"][child] != gateways[writer]["pid"], within_s=20)
        until_plain(lambda: canary(data) != written, within_s=20)
        until_plain(lambda: all(is_ready(one) for one in up.ready()["gateways"]), within_s=20)
        assert writer_of(data, up.ready()["gateways"]) in (0, 1)
        assert up.stop() == 0
    # Nothing of the operator's, and no second one.
    assert row(postgres_database, "SELECT count(*) FROM person")[0] == 1


def test_a_password_stands_in_a_file_of_its_own_and_nowhere_else(
    tmp_path: Path, postgres_database: str
) -> None:
    data = tmp_path / "data"
    secret = "s3cret-of-the-database"
    url = postgres_database.replace("postgres@", f"postgres:{secret}@")
    assert secret in url
    with running(data, environment={DATABASE_VARIABLE: url}) as up:
        ready = up.wait_ready()
        assert (data / "database-password").read_text().strip() == secret
        assert (data / "database-password").stat().st_mode & 0o777 == 0o600
        for path in data.rglob("*"):
            if path.is_file() and path.name != "database-password":
                assert secret.encode() not in path.read_bytes(), path
        for pid in ready["pids"].values():
            for name in ("cmdline", "environ"):
                assert secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), pid
        assert secret not in up.log.read_text()
        assert up.stop() == 0
    with running(data) as up:  # what was said once is kept
        assert get(up.wait_ready(), "/readyz")[0] == 200
        assert not (data / "fleetgate.db").exists()
    said = subprocess.run(
        [sys.executable, "-m", "gateway.command.app", "check-config", str(data / "gateway.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert said.returncode == 0 and secret not in said.stdout
    assert 'url = "postgresql://postgres@' in said.stdout


def test_a_second_machine_needs_the_keys_of_the_first(
    tmp_path: Path, postgres_database: str
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    database = ("--database", postgres_database)
    with running(first, *database) as up:
        ready = up.wait_ready()
        with running(second, *database, "--node", "node-2") as refused:
            assert refused.process.wait(30) == 1
            assert "copy the folder keys/ of its first machine" in refused.log.read_text()
            assert not (second / "keys").exists()
        carried = tmp_path / "carried"
        shutil.copytree(first / "keys", carried)
        with running(second, *database, "--node", "node-2", "--keys", str(carried)) as other:
            found = other.wait_ready()
            assert [one["name"] for one in found["gateways"]] == ["gateway-2"]
            assert found["admin_token"] is None
            token = ready["admin_token"]
            status = status_of(found["gateways"][0], token)
            assert {one["id"] for one in status["relays"]} == {"relay-1", "relay-2"}
            assert {one["name"] for one in status["nodes"]} == {"node-1", "node-2"}
            assert all(one["present"] for one in status["relays"])
            # Either relay may sign in at either node.
            lists = [data / "mosquitto" / "acl" for data in (first, second)]
            until_plain(
                lambda: all("user @relay-2" in path.read_text() for path in lists), within_s=20
            )
            assert other.stop() == 0
        assert relay_of(ready)["present"]
        assert up.stop() == 0


def test_up_waits_for_a_database_that_comes_up_later(tmp_path: Path) -> None:
    cluster = PostgresCluster()
    try:
        cluster.start()
        cluster.create("late")
        cluster.stop()
        with running(tmp_path / "data", "--database", cluster.url("late")) as up:
            until_plain(lambda: "Waiting for the database" in up.log.read_text(), within_s=20)
            assert "(database.url)" in up.log.read_text()
            cluster.start()
            assert get(up.wait_ready(), "/readyz")[0] == 200
            assert up.stop() == 0
    finally:
        cluster.close()


REFUSED = [
    (("--gateways", "2"), "several gateways need PostgreSQL"),
    (("--database", "mysql://h/d"), "database.url must be postgresql://"),
    (("--database", "postgresql://u@h"), "names no database"),
    (("--node", "west"), "mqtt.node must be node-"),
    (("--relay-id", "west"), "relay.id must be relay-"),
    (("--keys", "/nonexistent"), "/nonexistent"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with running(tmp_path / "data", *options) as up:
        assert up.process.wait(30) == 1
        assert words in up.log.read_text()
        assert "Traceback" not in up.log.read_text()


def test_an_sqlite_installation_is_not_left_behind(tmp_path: Path, postgres_database: str) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        up.wait_ready()
        # The database of a running gateway is not for a second one either.
        second = subprocess.run(
            [sys.executable, "-m", "gateway.command.gateway", "--config", data / "gateway.toml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode == 1
        assert "several gateways need PostgreSQL" in second.stderr
        assert up.stop() == 0
    with running(data, "--database", postgres_database) as refused:
        assert refused.process.wait(30) == 1
        assert "fleetgate backup" in refused.log.read_text()


def started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway.command.app", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def test_each_program_runs_alone_from_its_configuration_file(
    tmp_path: Path, postgres_database: str
) -> None:
    """For operators with a supervisor of their own: nothing here is `fleetgate up`."""
    http, devices, mqtt, relay = free_ports(4)
    file = tmp_path / "gateway.toml"
    file.write_text(
        f"[http]\nport = {http}\n[devices]\nport = {devices}\n[mqtt]\nport = {mqtt}\n"
        f'[relay]\nport = {relay}\n[database]\nurl = "{postgres_database}"\n'
    )
    folder = tmp_path / "mosquitto"
    running_now = []
    try:
        log = tmp_path / "mqtt-server.log"
        server = started(["mqtt-server", "--config", str(file)], log)
        running_now.append(server)
        until_plain(lambda: "Waiting for a gateway" in log.read_text(), within_s=20)
        for name in ("gateway", "relay"):
            words = [name, "--config", str(tmp_path / f"{name}.toml")]
            running_now.append(started(words, tmp_path / f"{name}.log"))
        token = json.loads(until_file(tmp_path / "admin.json"))["admin_token"]
        ready = {"http_url": f"http://127.0.0.1:{http}", "admin_token": token}
        until_plain(lambda: get(ready, "/readyz")[0] == 200, within_s=30)
        until_plain(lambda: relay_of(ready).get("lease_at"), within_s=20)
        assert Path(f"/proc/{server.pid}/comm").read_text().strip() == "mosquitto"
        # Started anew, it takes the old logins away and waits until the gateway sees that.
        written = canary(tmp_path)
        server.terminate()
        server.wait(10)
        again = started(["mqtt-server", "--config", str(file)], log)
        running_now.append(again)
        until_plain(
            lambda: (folder / "passwd").exists() and canary(tmp_path) != written, within_s=20
        )
        until_plain(lambda: get(ready, "/readyz")[0] == 200, within_s=30)
        for process in reversed(running_now):
            process.terminate()
        codes = [process.wait(15) for process in running_now]
        assert set(codes) <= {0, -signal.SIGTERM}, codes
    finally:
        for process in running_now:
            if process.poll() is None:
                process.kill()
                process.wait()


def until_file(path: Path) -> str:
    until_plain(path.exists, within_s=30)
    return path.read_text()
