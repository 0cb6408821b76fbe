"""`fleetgate up` as an operator meets it: the whole server side, started, struck and stopped."""

import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.supervised import lives, processes_naming, until_plain

ROOT = Path(__file__).parents[2]
READY_S_MAX = 40.0
READY_KEYS = {
    "http_url",
    "mqtt_host",
    "mqtt_port",
    "devices_host",
    "devices_port",
    "relay_host",
    "relay_port",
    "ca_file",
    "admin_email",
    "admin_password",
    "admin_token",
    "pids",
    "gateways",
}


class Up:
    """One running `fleetgate up`."""

    def __init__(self, data: Path, *options: str, environment: dict[str, str] | None = None):
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        self.ready_file = data.parent / f"{data.name}-ready.json"
        self.log = data.parent / f"{data.name}-up.log"
        words = ["up", "--data", str(data), "--ready-file", str(self.ready_file)]
        for name in ("--http", "--mqtt", "--devices", "--relay"):
            if name not in options:
                words += [name, "127.0.0.1:0"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.command.app", *words, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def wait_ready(self) -> dict[str, Any]:
        until_plain(
            lambda: self.ready_file.exists() or self.process.poll() is not None,
            within_s=READY_S_MAX,
        )
        assert self.process.poll() is None, self.log.read_text()
        return self.ready()

    def ready(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.ready_file.read_text())
        return content

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@contextmanager
def running(data: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Up]:
    up = Up(data, *options, environment=environment)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        # Whatever the test did, nothing of it may outlive it.
        until_plain(lambda: not processes_naming(str(data)))


def get(ready: dict[str, Any], path: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        ready["http_url"] + path,
        headers={
            "Accept": "application/json",
            "Authorization": f"Bearer {ready['admin_token']}",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def answers_tls(host: str, port: int, ca_file: str, name: str = "") -> bool:
    context = ssl.create_default_context(cafile=ca_file)
    with (
        socket.create_connection((host, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name or host) as wrapped,
    ):
        return wrapped.version() in ("TLSv1.2", "TLSv1.3")


def listening_addresses(pids: set[int]) -> set[tuple[str, int]]:
    """Local TCP addresses on which these processes listen, from the kernel's tables."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                address, _, port = words[1].partition(":")
                found.add((address, int(port, 16)))
    return found


def test_first_and_second_start_answer_and_keep_what_agents_know(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kept: list[dict[str, Any]] = []
    for _ in range(2):
        with running(data) as up:
            ready = up.wait_ready()
            assert set(ready) == READY_KEYS
            assert set(ready["pids"]) == {"gateway", "mosquitto", "relay"}
            assert up.ready_file.stat().st_mode & 0o777 == 0o600
            assert get(ready, "/readyz")[0] == 200
            assert get(ready, "/healthz")[0] == 200
            assert answers_tls(ready["mqtt_host"], ready["mqtt_port"], ready["ca_file"])
            assert answers_tls(ready["devices_host"], ready["devices_port"], ready["ca_file"])
            relay_address = ready["relay_host"], ready["relay_port"]
            assert answers_tls(*relay_address, ready["ca_file"], name="link.fleetgate")
            pids = set(ready["pids"].values())
            assert {port for _, port in listening_addresses(pids)} == {
                int(ready["http_url"].rpartition(":")[2]),
                ready["mqtt_port"],
                ready["devices_port"],
                ready["relay_port"],
            }
            assert ready["relay_host"] == "127.0.0.1"
            (relay,) = json.loads(get(ready, "/status")[1])["relays"]
            assert relay["id"] == "relay-1" and relay["present"] and relay["lease_at"]
            # 0100007F is 127.0.0.1 as the kernel writes it.
            assert {address for address, _ in listening_addresses(pids)} == {"0100007F"}
            assert up.stop() == 0
            assert not up.ready_file.exists()
            assert not processes_naming(str(data))
            (only,) = ready.pop("gateways")
            assert only.pop("pid") == ready.pop("pids")["gateway"]
            kept.append({**ready, "gateway": only})
    assert kept[0] == kept[1]


def test_a_second_up_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        ready = up.wait_ready()
        second = Up(data)
        assert second.process.wait(20) == 1
        assert f"in use by another `fleetgate up`, process {up.process.pid}" in up.log.read_text()
        assert up.ready() == ready
        assert get(ready, "/readyz")[0] == 200


def test_killing_up_leaves_no_process_and_the_next_start_waits_for_that(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        ready = up.wait_ready()
        up.process.kill()
        up.process.wait()
        with running(data) as again:
            until_plain(lambda: not lives(ready["pids"]["gateway"]))
            until_plain(lambda: not lives(ready["pids"]["mosquitto"]))
            second = again.wait_ready()
            assert second["mqtt_port"] == ready["mqtt_port"]
            again.process.kill()
            again.process.wait()
            until_plain(lambda: not processes_naming(str(data)))
            assert not lives(second["pids"]["mosquitto"])


def test_killing_up_ends_an_mqtt_server_that_runs_as_its_own_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives the MQTT server a user of its own")
    # Not below pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="fleetgate-test-") as folder:
        Path(folder).chmod(0o711)
        with running(Path(folder) / "data") as up:
            pid = up.wait_ready()["pids"]["mosquitto"]
            assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam("mosquitto").pw_uid
            up.process.kill()
            up.process.wait()
            until_plain(lambda: not processes_naming(folder))
            assert not lives(pid)


def relay_of(ready: dict[str, Any]) -> dict[str, Any]:
    """What the gateway says of its relay; nothing while it is away itself."""
    status, body = get(ready, "/status")
    relays: list[dict[str, Any]] = json.loads(body)["relays"] if status == 200 else []
    return relays[0] if relays else {}


@pytest.mark.parametrize("child", ["gateway", "mosquitto", "relay"])
def test_a_killed_child_is_back_and_told_in_the_ready_file(child: str, tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        before = up.wait_ready()
        lease_at = relay_of(before)["lease_at"]
        os.kill(before["pids"][child], signal.SIGKILL)
        until_plain(lambda: up.ready()["pids"][child] != before["pids"][child])
        after = up.ready()
        for other in {"gateway", "mosquitto", "relay"} - {child}:
            assert after["pids"][other] == before["pids"][other]
        until_plain(lambda: get(after, "/readyz")[0] == 200, within_s=20)
        # Whichever of them it was, the relay's lease is renewed again, by itself.
        until_plain(lambda: (relay_of(after).get("lease_at") or "") > lease_at, within_s=20)
        assert up.stop() == 0


def test_the_gateway_is_ready_while_the_relay_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        ready = up.wait_ready()
        assert f"http://*.localhost:{ready['relay_port']}" in up.log.read_text()
        os.kill(ready["pids"]["relay"], signal.SIGSTOP)
        until_plain(lambda: not relay_of(ready)["present"], within_s=30)
        assert get(ready, "/readyz")[0] == 200
        os.kill(ready["pids"]["relay"], signal.SIGCONT)
        until_plain(lambda: relay_of(ready)["present"], within_s=20)


def test_what_a_relay_is_started_with_opens_none_of_the_gateways_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        ready = up.wait_ready()
        opened = set()
        for link in Path(f"/proc/{ready['pids']['relay']}/fd").iterdir():
            try:
                opened.add(os.readlink(link))
            except FileNotFoundError:
                continue
        words = Path(f"/proc/{ready['pids']['relay']}/cmdline").read_bytes().split(b"\0")
        assert words[-3:-1] == [b"--config", str(data / "relay.toml").encode()]
        own = {name for name in opened if name.startswith(str(data))}
        assert own <= {str(data / "logs" / "relay.log"), str(data / "lock")}, own
        # Its own folder is all it needs: it comes up without the keys of the installation.
        (data / "keys").rename(data / "keys-elsewhere")
        os.kill(ready["pids"]["relay"], signal.SIGKILL)
        seen_at = relay_of(ready)["epoch_at"]
        until_plain(lambda: relay_of(ready).get("epoch_at") != seen_at, within_s=20)
        (data / "keys-elsewhere").rename(data / "keys")


def test_a_stopped_child_is_left_alone(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        before = up.wait_ready()
        os.kill(before["pids"]["gateway"], signal.SIGSTOP)
        # The other child is struck so that there is a fact to wait for meanwhile.
        os.kill(before["pids"]["mosquitto"], signal.SIGKILL)
        until_plain(lambda: up.ready()["pids"]["mosquitto"] != before["pids"]["mosquitto"])
        assert up.ready()["pids"]["gateway"] == before["pids"]["gateway"]
        os.kill(before["pids"]["gateway"], signal.SIGCONT)
        until_plain(lambda: get(before, "/readyz")[0] == 200, within_s=20)
        assert up.ready()["pids"]["gateway"] == before["pids"]["gateway"]


def test_an_explicit_busy_port_is_refused_by_its_option(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with running(tmp_path / "data", "--mqtt", f"127.0.0.1:{port}") as up:
            assert up.process.wait(20) == 1
            assert f"--mqtt 127.0.0.1:{port}: address in use" in up.log.read_text()


def test_a_deep_data_directory_works_although_its_sockets_names_would_not_fit(
    tmp_path: Path,
) -> None:
    data = tmp_path / ("deep" * 20) / ("er" * 40)
    with running(data) as up:
        ready = up.wait_ready()
        assert len(str(data)) > 160
        assert get(ready, "/readyz")[0] == 200
        assert up.stop() == 0


def test_a_demo_fleet_is_online_and_spends_its_credits_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    routers = 3
    for _ in range(2):
        with running(data, "--demo", str(routers)) as up:
            began_s = time.monotonic()
            ready = up.wait_ready()
            assert time.monotonic() - began_s < READY_S_MAX
            status = json.loads(get(ready, "/status")[1])
            assert status["devices"]["online"] == routers, up.log.read_text()
            companies = json.loads(get(ready, "/api/v1/companies?limit=500")[1])["items"]
            (demo,) = [company for company in companies if company["name"] == "Demo"]
            credits = json.loads(get(ready, f"/api/v1/companies/{demo['id']}/credits")[1])
            assert credits["credits"] == 25
            assert up.stop() == 0
