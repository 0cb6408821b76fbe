"""What `fleetgate up` makes in the data directory before anything runs, and what it refuses."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.command import installation, ports, server_account
from gateway.command.configuration import ConfigurationError, load, write_gateway_toml
from gateway.command.data_directory import (
    DataDirectoryBusy,
    DataDirectoryError,
    acquire,
    prepare_mqtt_logins,
    read_mqtt_logins,
)
from gateway.command.installation import Installation, SetUpError, UpOptions, prepare

ROOT = Path(__file__).parents[2]


def options(data: Path, **addresses: str) -> UpOptions:
    asked = {
        name: ports.parse(name, addresses.get(name, ":0"), installation.USUAL_PORTS[name])
        for name in installation.LISTENERS
    }
    data.mkdir(exist_ok=True)
    return UpOptions(data=data, asked=asked)


def prepared(data: Path, **addresses: str) -> Installation:
    return prepare(options(data, **addresses), set())


def test_a_second_preparation_keeps_ports_keys_and_logins(tmp_path: Path) -> None:
    first = prepared(tmp_path / "data")
    kept = {
        name: (tmp_path / "data" / name).read_bytes()
        for name in ("keys/master.key", "keys/ca.pem", "mqtt-logins.json", "ports.json")
    }
    second = prepared(tmp_path / "data")
    assert second.configuration == first.configuration == load(first.configuration_file)
    assert kept == {name: (tmp_path / "data" / name).read_bytes() for name in kept}


def test_what_the_mqtt_server_needs_belongs_to_it_and_nothing_else_does(tmp_path: Path) -> None:
    made = prepared(tmp_path / "data")
    data = tmp_path / "data"
    ids = made.account.ids or (os.geteuid(), os.getegid())
    for path in (made.configuration.mqtt.directory, *made.configuration.mqtt.directory.iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == ids, path
        assert not path.stat().st_mode & 0o077, path
    for path in (data, data / "keys", *(data / "keys").iterdir(), data / "gateway.toml"):
        assert path.stat().st_uid == os.geteuid(), path
        assert not path.stat().st_mode & 0o007 or path.name in ("ca.pem", "server.pem"), path
    assert (data / "keys").stat().st_mode & 0o777 == 0o700


def test_stale_logins_never_meet_a_starting_server(tmp_path: Path) -> None:
    mqtt = prepared(tmp_path / "data").configuration.mqtt
    for path in (mqtt.password_file, mqtt.acl_file, mqtt.pid_file):
        path.write_text("stale")
    prepared(tmp_path / "data")
    for path in (mqtt.password_file, mqtt.acl_file, mqtt.pid_file):
        assert not path.exists(), path


def test_a_machine_without_mosquitto_is_told_the_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    with pytest.raises(SetUpError, match="apt-get install mosquitto"):
        prepared(tmp_path / "data")


def test_off_loopback_without_certificate_is_refused_unless_behind_a_proxy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(ConfigurationError, match="off loopback without a certificate"):
        prepared(data, http="0.0.0.0:0")
    data.joinpath("gateway.toml").write_text("[http]\nbehind_proxy = true\n")
    made = prepared(data, http="0.0.0.0:0")
    assert made.configuration.http.behind_proxy
    assert load(data / "gateway.toml").http.host == "0.0.0.0"


def test_names_found_on_an_open_address_are_not_kept_for_loopback(tmp_path: Path) -> None:
    data = tmp_path / "data"
    found = prepared(data, mqtt="0.0.0.0:0").configuration.mqtt.public_hosts
    assert found
    assert prepared(data).configuration.mqtt.public_hosts == ()
    by_hand = load(data / "gateway.toml")
    text = write_gateway_toml(by_hand).read_text()
    data.joinpath("gateway.toml").write_text(
        text.replace("public_hosts = []", 'public_hosts = ["fleet.example.org"]')
    )
    for address in ("0.0.0.0:0", ":0"):
        made = prepared(data, mqtt=address).configuration
        assert made.mqtt.public_hosts == made.devices.public_hosts == ("fleet.example.org",)


def test_a_moved_clock_is_for_loopback_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(installation.TEST_CLOCK_VARIABLE, str(tmp_path / "clock"))
    prepared(tmp_path / "data")
    with pytest.raises(SetUpError, match="only when everything is on loopback"):
        prepared(tmp_path / "data", mqtt="0.0.0.0:0")


def test_without_its_own_user_the_server_stays_with_ours_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root chooses a user for the MQTT server")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    made = prepared(closed / "data")
    assert made.account.name == ""
    assert "cannot reach" in "".join(made.notes)
    assert made.configuration.mqtt.directory.stat().st_uid == 0
    assert "\nuser root\n" in (made.configuration.mqtt.directory / "mosquitto.conf").read_text()
    monkeypatch.setattr(server_account, "SERVER_USER", "no-such-user")
    assert "there is no user" in "".join(prepared(tmp_path / "data").notes)


def test_a_port_that_the_servers_user_may_not_bind_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives the MQTT server a user of its own")
    with tempfile.TemporaryDirectory(prefix="fleetgate-test-") as folder:
        Path(folder).chmod(0o711)
        limit = Path(folder) / "limit"
        limit.write_text("65535\n")
        monkeypatch.setattr(installation, "UNPRIVILEGED_PORT_FILE", limit)
        with pytest.raises(SetUpError, match=r"sysctl -w net\.ipv4\.ip_unprivileged_port_start"):
            prepared(Path(folder) / "data")


def test_a_folder_of_others_is_not_closed_to_them(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    prepared(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_the_trial_is_made_as_the_other_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can try as another user")
    assert server_account._try(Path("/root"), pwd.getpwnam("nobody")[2:4])


HOLDER = """
import sys, time
from pathlib import Path
from gateway.command.data_directory import acquire
lock = acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_names_its_living_holder_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataDirectoryBusy, match=rf"process {holder.pid}$"):
            acquire(tmp_path)
        holder.kill()
    acquire(tmp_path).release()


def test_service_logins_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "mqtt-logins.json"
    made = prepare_mqtt_logins(path, "@gateway-1")
    assert set(made.passwords) == {"@gateway-1", "@probe"}
    assert len(made.password("@probe")) >= 43
    assert made.password("@probe") not in repr(made)
    assert prepare_mqtt_logins(path, "@gateway-1") == made
    more = prepare_mqtt_logins(path, "@gateway-2")
    assert more.password("@gateway-1") == made.password("@gateway-1")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(DataDirectoryError, match="open to others"):
        read_mqtt_logins(path)


@pytest.mark.parametrize("content", ["", "[]", '{"@probe": 1}'])
def test_a_damaged_login_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mqtt-logins.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(DataDirectoryError, match=r"mqtt-logins\.json"):
        read_mqtt_logins(path)


def test_logs_are_trimmed_at_their_limit_and_shown_by_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.log"
    installation.trim_log(path)
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert installation.log_tail(path)[-1] == "line 999"
    assert len(installation.log_tail(path)) == 8
    with path.open("ab") as writer:
        installation.trim_log(path)
        assert path.stat().st_size > 0
        monkeypatch.setattr(installation, "LOG_BYTES_MAX", 100)
        installation.trim_log(path)
        writer.write(b"after\n")
    assert path.read_text() == "after\n"
    assert (tmp_path / "gateway.log.1").read_text().endswith("line 999\n")


def test_ports_are_what_the_gateway_is_told(tmp_path: Path) -> None:
    made = prepared(tmp_path / "data")
    saved = json.loads((tmp_path / "data" / "ports.json").read_text())
    assert saved == {name: chosen.port for name, chosen in made.chosen.items()}
    assert made.configuration.http.port == saved["http"]
    assert len(set(saved.values())) == 4
