"""What `fleetgate up` makes in the data directory before anything runs, and what it refuses."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.x509 import IPAddress, SubjectAlternativeName, load_pem_x509_certificate

from gateway.command import installation, ports, server_account
from gateway.command.configuration import ConfigurationError, load, write_gateway_toml
from gateway.command.data_directory import (
    DataDirectoryBusy,
    DataDirectoryError,
    acquire,
    prepare_mqtt_logins,
    read_mqtt_logins,
)
from gateway.command.gateway import node_settings
from gateway.command.installation import Installation, prepare
from gateway.command.up_options import SetUpError, UpOptions
from gateway.join.ca import KeyFileError, KeyFiles
from gateway.join.ticket_keys import prepare_ticket_keys, read_ticket_keys
from gateway.mqtt_server.connection import TlsListener

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
        for name in (
            "keys/master.key",
            "keys/ca.pem",
            "keys/relay.key",
            "mqtt-logins.json",
            "ports.json",
            "relay.toml",
            "relay/ticket-keys.json",
        )
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
        public = ("ca.pem", "server.pem", "relay.pem")
        assert not path.stat().st_mode & 0o007 or path.name in public, path
    assert (data / "keys").stat().st_mode & 0o777 == 0o700


def test_the_relay_is_told_what_it_needs_and_nothing_that_makes_tickets(tmp_path: Path) -> None:
    made = prepared(tmp_path / "data")
    data = tmp_path / "data"
    told = tomllib.loads(made.relay_file.read_text())
    assert made.relay_file == data / "relay.toml"
    assert set(told) == {
        *("id", "host", "port", "domain", "gateway_url", "public_port", "behind_proxy"),
        *("link_certificate_file", "link_key_file"),
        *("visitors_certificate_file", "visitors_key_file", "ticket_keys_file"),
        *("mqtt_host", "mqtt_port", "mqtt_servers", "mqtt_ca_file", "mqtt_password_file"),
        *("opens_per_s", "session_mbit_s", "company_mbit_s", "log_format", "log_level"),
    }
    configuration = made.configuration
    assert (told["host"], told["port"]) == ("127.0.0.1", configuration.relay.port)
    assert (told["mqtt_host"], told["mqtt_port"]) == ("127.0.0.1", configuration.mqtt.port)
    assert (told["id"], told["domain"], told["public_port"]) == ("relay-1", "localhost", 0)
    assert told["gateway_url"] == configuration.http.url
    assert told["visitors_certificate_file"] == told["visitors_key_file"] == ""
    files = {Path(value) for key, value in told.items() if key.endswith("_file") and value}
    assert {path.parent for path in files} == {data / "relay"}
    assert files == set((data / "relay").iterdir())
    for path in (data / "relay", made.relay_file, *files):
        assert not path.stat().st_mode & 0o077, path
    # Its key pair is its own, its password that of its MQTT login, its ticket keys public ones.
    assert Path(told["link_key_file"]).read_bytes() == (data / "keys/relay.key").read_bytes()
    logins = read_mqtt_logins(configuration.mqtt.logins_file)
    assert Path(told["mqtt_password_file"]).read_text() == logins.password("@relay-1")
    (signing,) = read_ticket_keys(data / "keys" / "tickets")
    public = json.loads(Path(told["ticket_keys_file"]).read_text())
    assert public == {signing.kid: signing.public_pem}
    master = (data / "keys" / "master.key").read_bytes()
    private = (data / "keys" / "tickets" / f"{signing.kid}.key").read_bytes()
    for path in (made.relay_file, *files):
        content = path.read_bytes()
        assert master not in content and private not in content, path


def test_a_lost_ticket_key_is_replaced_and_a_newer_one_takes_over(tmp_path: Path) -> None:
    prepared(tmp_path / "data")
    folder = tmp_path / "data" / "keys" / "tickets"
    (first,) = read_ticket_keys(folder)
    assert (folder / f"{first.kid}.key").stat().st_mode & 0o777 == 0o600
    (folder / f"{first.kid}.key").rename(folder / "20000101-00000000.key")
    later = datetime(2030, 1, 31, tzinfo=UTC)
    assert [key.kid for key in prepare_ticket_keys(folder, later)] == ["20000101-00000000"]
    (folder / "20000101-00000000.key").unlink()
    with pytest.raises(KeyFileError, match="no key that signs tickets"):
        read_ticket_keys(folder)
    (made,) = prepare_ticket_keys(folder, later)
    assert made.kid.startswith("20300131-") and made.public_pem != first.public_pem
    prepared(tmp_path / "data")
    assert made.kid in (tmp_path / "data" / "relay" / "ticket-keys.json").read_text()
    (folder / f"{made.kid}.key").write_text("no key")
    with pytest.raises(KeyFileError, match=r"is not a private key"):
        read_ticket_keys(folder)


def test_what_an_operator_sets_for_the_relay_is_kept_and_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.joinpath("gateway.toml").write_text(
        '[http]\npublic_url = "https://fleet.example.org"\n'
        '[relay]\nid = "relay-west"\ndomain = "tunnel.example.net"\nbehind_proxy = true\n'
        'public_port = 443\npublic_hosts = ["192.0.2.7"]\n'
    )
    made = prepared(data, relay="0.0.0.0:0")
    told = tomllib.loads(made.relay_file.read_text())
    assert (told["id"], told["domain"], told["host"]) == (
        "relay-west",
        "tunnel.example.net",
        "0.0.0.0",
    )
    assert told["behind_proxy"] and told["public_port"] == 443
    assert told["gateway_url"] == "https://fleet.example.org"
    assert load(made.configuration_file).relay == made.configuration.relay
    assert "@relay-west" in read_mqtt_logins(made.configuration.mqtt.logins_file).passwords
    data.joinpath("gateway.toml").write_text("")
    with pytest.raises(ConfigurationError, match="off loopback without a certificate"):
        prepared(data, relay="0.0.0.0:0")
    # The relay itself takes addresses only.
    told = tomllib.loads(prepared(data, relay="localhost:0").relay_file.read_text())
    assert told["host"] == "127.0.0.1"


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


def test_the_gateway_finds_an_mqtt_server_that_listens_everywhere(tmp_path: Path) -> None:
    configuration = prepared(tmp_path / "data", mqtt="0.0.0.0:0").configuration
    keys = KeyFiles(configuration.data.keys)
    logins = read_mqtt_logins(configuration.mqtt.logins_file)
    dialled = node_settings(configuration, logins, keys).proof.listeners[1]
    assert isinstance(dialled, TlsListener)
    certificate = load_pem_x509_certificate(keys.server_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    # Its certificate is for the address that is dialled, which 0.0.0.0 is not.
    assert ip_address(dialled.host) in names.get_values_for_type(IPAddress)


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
