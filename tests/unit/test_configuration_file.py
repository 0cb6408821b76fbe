"""gateway.toml: strict reading, safe combinations, one page of documentation."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.command.configuration import (
    ConfigurationError,
    GatewayConfiguration,
    as_tables,
    as_toml,
    from_tables,
    load,
    reference_page,
    write_gateway_toml,
)
from gateway.domain.host_names import host_of

ROOT = Path(__file__).parents[2]


def test_an_empty_file_has_safe_values_and_absolute_paths(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("")
    configuration = load(path)
    assert configuration.loopback_only
    assert configuration.data.directory == tmp_path
    assert configuration.data.keys == tmp_path / "keys"
    assert configuration.mqtt.password_file == tmp_path / "mosquitto" / "passwd"
    assert configuration.mqtt.gateway == "gateway-1"
    assert configuration.database.url == ""
    assert configuration.http.url == "http://127.0.0.1:8080"
    relay = configuration.relay
    assert (relay.login, relay.domain, relay.tls) == ("@relay-1", "localhost", False)
    assert (relay.dial_hosts, relay.dial_port) == (("127.0.0.1",), 8885)


REFUSED = [
    ("[htp]", r"unknown section \[htp\] \(nearest known: http\)"),
    ("[http]\nprt = 1", r"unknown key http.prt \(nearest known: port\)"),
    ("[mqtt]\npublic_host = []", r"nearest known: public_hosts"),
    ("http = 1", r"http is a section"),
    ("[http]\nport = '1'", "http.port must be a whole number"),
    ("[http]\nport = true", "http.port must be a whole number"),
    ("[http]\nport = 70000", "between 0 and 65535"),
    ("[http]\nbehind_proxy = 1", "true or false"),
    ("[http]\nhost = ''", "http.host is empty"),
    ("[http]\nhost = '0.0.0.0'", "off loopback without a certificate"),
    ("[http]\nhost = 'fleet.example.org'", "off loopback without a certificate"),
    ("[http]\ncertificate_file = 'x.pem'", "belong together"),
    ("[http]\npublic_url = 'fleet.example.org'", "must begin with"),
    ("[devices]\npublic_hosts = ['a', 'b', 'c', 'd']", "more than 3 hosts"),
    ("[devices]\npublic_hosts = [1]", "a list of texts"),
    ("[mqtt]\nlogin = '0123456789'", "must be @gateway- and then"),
    ("[mqtt]\nnode = 'west'", "mqtt.node must be node-"),
    ("[mqtt]\ngateways = ['@gateway-1', '@gateway-1-2']", "several gateways need PostgreSQL"),
    ("[mqtt]\ngateways = ['@gateway-2']", "must name @gateway-1 and each gateway once"),
    ("[relay]\nmqtt_servers = ['node-2.example.org']", "write HOST:PORT"),
    ("[relay]\nmqtt_servers = ['::1:8883']", "write HOST:PORT"),
    ("[mqtt]\nsocket_name = 'a/b'", "plain file name"),
    ("[relay]\nid = 'r1'", "relay.id must be relay-"),
    ("[relay]\nid = 'relay-a b'", "relay.id must be relay-"),
    ("[relay]\nhost = 'fleet'\nbehind_proxy = true", "relay.host must be an IP address"),
    ("[relay]\nport = -1", "relay.port must be between"),
    ("[relay]\npublic_hosts = ['a', 'b', 'c', 'd']", "more than 3 hosts"),
    ("[relay]\nkey_file = 'x.key'", "belong together"),
    ("[relay]\ndomain = '10.0.0.1'", "relay.domain must be a host name"),
    ("[relay]\ndomain = 'Tunnel.example.net'", "in lower case"),
    ("[relay]\ndomain = '.example.net'", "relay.domain must be a host name"),
    ("[relay]\ndomain = ''", "relay.domain must be a host name"),
    ("[relay]\nhost = '0.0.0.0'\ndomain = 'tunnel.example.net'", "off loopback without a cert"),
    ("[relay]\nhost = '0.0.0.0'\nbehind_proxy = true", "relay.domain localhost leads every"),
    ("[log]\nformat = 'xml'", "log.format must be one of"),
    ("[mail]\nsecurity = 'ssl'", "mail.security must be one of starttls, tls, none"),
    ("[mail]\nport = 0", "mail.port must be between 1 and"),
    ("[mail]\ntimeout_s = 4", "mail.timeout_s must be from 5 to 120"),
    ("[mail]\npassword = 'secret'", r"unknown key mail.password \(nearest known: password_file"),
    ("[mail]\npassword_file = 'smtp'", "needs the name in mail.user"),
    ("[mail]\nhost = 'mail.example.org:25'\nfrom_address = 'a@b.c'", "port stands in mail.port"),
    ("[mail]\nhost = 'mail.example.org'", "mail.from_address must be the address"),
    ("[mail]\nhost = '127.0.0.1'\nfrom_address = 'a b@c.d'", "mail.from_address must be the"),
    (
        "[mail]\nhost = 'mail.example.org'\nfrom_address = 'a@b.c'\nsecurity = 'none'",
        "mail.security none would send links and passwords to mail.example.org in plain",
    ),
    (
        "[mail]\nhost = '::1'\nfrom_address = 'a@b.c'\nfrom_name = \"a\\nBcc: x\"",
        "mail.from_name must be one line",
    ),
    ("[database]\nurl = 'postgresql://u:secret@h/d'", "database.password_file"),
    ("[database]\nurl = 'mysql://u@h/d'", "must be postgresql://"),
    ("[database]\nurl = 'postgresql://u@h'", "names no database"),
    ("[http", "not TOML"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_is_wrong_is_named_with_its_key(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


SHARED = [
    ("http://localhost:8080", "localhost"),
    ("http://fleet.localhost", "localhost"),
    ("https://fleet.example.org", "relay.example.org"),
    ("https://fleet.example.org", "example.org"),
    ("https://example.org", "s.relay.example.org"),
    ("https://FLEET.Example.org.", "tunnel.example.org"),
    ("https://relay.example.org", "relay.example.org"),
    ("https://fleet.one.co.uk", "relay.other.co.uk"),  # refused to be safe: without the list
    ("http://desk", "tunnel.desk"),
]
APART = [
    ("http://127.0.0.1:8080", "localhost"),
    ("http://[::1]:8080", "localhost"),
    ("http://10.0.0.7", "tunnel.example.org"),
    ("https://fleet.example.org", "example.net"),
    ("https://fleet.example.org", "tunnel.notexample.org"),
    ("https://notexample.org", "example.org"),
    ("http://desk", "tunnel.lan"),
]


@pytest.mark.parametrize(("url", "domain"), SHARED)
def test_a_relay_that_could_share_cookies_with_the_gateway_is_refused(
    url: str, domain: str, tmp_path: Path
) -> None:
    tables = {"http": {"public_url": url}, "relay": {"domain": domain}}
    with pytest.raises(ConfigurationError, match="share the domain") as caught:
        from_tables(tables, tmp_path)
    # Whoever reads it sees both names.
    assert domain in str(caught.value)
    assert str(urlsplit(url).hostname) in str(caught.value)


@pytest.mark.parametrize(("url", "domain"), APART)
def test_a_relay_with_a_domain_of_its_own_is_taken(url: str, domain: str, tmp_path: Path) -> None:
    tables = {"http": {"public_url": url}, "relay": {"domain": domain}}
    assert from_tables(tables, tmp_path).relay.domain == domain


def test_a_relay_off_loopback_is_not_loopback_only(tmp_path: Path) -> None:
    relay = {"host": "0.0.0.0", "domain": "tunnel.example.net", "behind_proxy": True}
    made = from_tables({"relay": relay}, tmp_path)
    assert not made.loopback_only and made.relay.tls


@pytest.mark.parametrize(
    ("netloc", "host"),
    [
        ("LOCALHOST:8080", "localhost"),
        ("s-x.localhost.:1", "s-x.localhost"),
        ("[::1]:8080", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_header_is_read_as_a_name(netloc: str, host: str) -> None:
    assert host_of(netloc) == host


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml: No such file"):
        load(tmp_path / "absent.toml")


def test_off_loopback_is_taken_behind_a_proxy_or_with_a_certificate(tmp_path: Path) -> None:
    behind = from_tables({"http": {"host": "::", "behind_proxy": True}}, tmp_path)
    assert not behind.loopback_only
    served = from_tables(
        {"http": {"host": "10.0.0.1", "certificate_file": "a", "key_file": "b"}}, tmp_path
    )
    assert served.http.url == "https://10.0.0.1:8080"
    assert served.http.key_file == tmp_path / "b"


def test_what_is_written_is_read_back_and_moves_with_its_folder(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    tables = {
        "http": {"port": 0, "key_file": "/etc/k", "certificate_file": 'q"uote\\.pem'},
        "devices": {"public_hosts": ["fleet.example.org", "192.0.2.7"]},
        "mqtt": {"server_user": "mosquitto"},
    }
    configuration = from_tables(tables, before)
    path = write_gateway_toml(configuration)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path) == configuration
    after = before.rename(tmp_path / "after")
    moved = load(after / "gateway.toml")
    assert moved == from_tables(tables, after)
    assert moved.mqtt.directory == after / "mosquitto"


def test_effective_values_name_every_key() -> None:
    text = as_toml(as_tables(from_tables({}, Path("/srv"))))
    for name in GatewayConfiguration.sections:
        assert f"[{name}]" in text
    assert 'directory = "/srv/mosquitto"' in text


def test_the_documentation_is_what_the_program_says() -> None:
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == reference_page()
