"""The MQTT server's files as text: configuration, access list, logins."""

import base64
from pathlib import Path

import pytest

from gateway.mqtt_server import acl, configuration, passwords
from gateway.mqtt_server.configuration import ServerSettings, UnsafeConfiguration
from gateway.mqtt_server.login_file import LoginFileError, signal_server

SETTINGS = ServerSettings(tls_host="127.0.0.1", tls_port=8883)

RULED = [
    "allow_anonymous false",
    "retain_available false",
    "max_packet_size 16384",
    "persistence false",
    "max_queued_messages 0",
    "max_queued_bytes 67108864",
    "memory_limit 1073741824",
    "max_connections 20000",
    "tls_version tlsv1.2",
    "listener 0 gateway.sock",
    "listener 8883 127.0.0.1",
    "pid_file mosquitto.pid",
]


def test_every_ruled_option_stands_in_the_configuration() -> None:
    lines = configuration.render(SETTINGS).splitlines()
    for option in RULED:
        assert lines.count(option) == 1, option
    listeners = sum(line.startswith("listener ") for line in lines)
    assert listeners == 2
    assert lines.count("use_username_as_clientid true") == listeners


def test_a_user_is_named_only_when_there_is_one() -> None:
    assert "\nuser " not in configuration.render(SETTINGS)
    named = ServerSettings(tls_host="127.0.0.1", tls_port=8883, user="mosquitto")
    assert "\nuser mosquitto\n" in configuration.render(named)


UNSAFE: list[tuple[str, dict[str, object]]] = [
    ("port", {"tls_port": 0}),
    ("port", {"tls_port": 65536}),
    ("address", {"tls_host": "127.0.0.1\nallow_anonymous true"}),
    ("address", {"tls_host": ""}),
    ("plain file name", {"acl_name": "a b"}),
    ("plain file name", {"socket_name": "../gateway.sock"}),
    ("plain file name", {"password_name": ""}),
    ("four", {"acl_name": "passwd"}),
    ("user name", {"user": "root\nallow_anonymous true"}),
    ("no limit", {"connections_max": 0}),
    ("no limit", {"memory_max_bytes": -1}),
    ("no limit", {"queue_max_bytes": 0}),
    ("all memory", {"queue_max_bytes": 2**30}),
]


@pytest.mark.parametrize(("words", "changes"), UNSAFE)
def test_unsafe_values_are_refused(words: str, changes: dict[str, object]) -> None:
    values: dict[str, object] = {"tls_host": "127.0.0.1", "tls_port": 8883, **changes}
    with pytest.raises(UnsafeConfiguration, match=words):
        ServerSettings(**values)  # type: ignore[arg-type]  # a table of wrong values


def test_the_access_list_has_exact_levels_and_nothing_for_the_probe() -> None:
    text = acl.render(gateways=["@gateway-1", "@gateway-2"], relays=["@relay-1"])
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("pattern")] == [
        "pattern write fg1/d/%u/hb",
        "pattern write fg1/d/%u/up",
        "pattern write fg1/d/%u/ans",
        "pattern read fg1/c/%u/ok",
        "pattern read fg1/c/%u/cmd",
    ]
    assert not [line for line in lines if "#" in line and not line.startswith("#")]
    assert f"user {acl.PROBE_LOGIN}" not in lines
    assert "topic readwrite fg1/probe/gateway-2" in lines
    assert "topic write fg1/relay/relay-1/ev" in lines


@pytest.mark.parametrize(
    "login",
    ["0123456789", "@probe", "@gateway-1\ntopic #", "@gateway-", "@gateway-1/x", "@gateway-+"],
)
def test_only_service_names_get_a_block(login: str) -> None:
    with pytest.raises(ValueError, match="not a service login"):
        acl.render(gateways=[login])


def test_an_access_list_needs_a_gateway() -> None:
    with pytest.raises(ValueError, match="without a gateway"):
        acl.render(gateways=[])


# Made by mosquitto_passwd 2.0.11 for the password `secret`.
KNOWN_HASH = (
    "$7$101$nDkLdPKBsZZsj9mo$8e6WTGr9J1h8VP+AQuYAgs/fvVtHrBxECWD7cbx+T1OkOQ0ZH7MapIEHgIIB7zp9Civ29"
    "/NoXPkTMnDbpDblkA=="
)


def test_a_hash_of_the_servers_own_tool_is_understood_and_made_alike() -> None:
    assert passwords.verify_password("secret", KNOWN_HASH)
    assert not passwords.verify_password("Secret", KNOWN_HASH)
    salt = base64.b64decode(KNOWN_HASH.split("$")[3])
    assert passwords.hash_password("secret", salt=salt) == KNOWN_HASH
    assert passwords.hash_password("secret") != passwords.hash_password("secret")


@pytest.mark.parametrize(
    "hashed", ["", "secret", "$6$abc$def", "$7$0$" + KNOWN_HASH[7:], KNOWN_HASH + "\n", "$7$101$$"]
)
def test_what_is_no_hash_matches_nothing(hashed: str) -> None:
    assert not passwords.verify_password("secret", hashed)


LOGINS = [
    ("1109876543", True),
    ("gateway-1", True),
    ("@gateway-1", True),
    ("@probe", True),
    ("@canary", True),
    ("short", False),
    ("x" * 33, False),
    ("a/b/c/d/e", False),
    ("abc+def", False),
    ("abc#def", False),
    ("abcdef:", False),
    ("abcdef\n", False),
    ("@Gateway", False),
    ("abc@def", False),
]


def test_logins_are_serials_or_services() -> None:
    for login, good in LOGINS:
        assert passwords.is_login(login) is good, login


def test_the_password_file_is_sorted_and_refuses_what_would_be_another_line() -> None:
    text = passwords.render([("serial-2", KNOWN_HASH), ("serial-1", KNOWN_HASH)])
    assert text == f"serial-1:{KNOWN_HASH}\nserial-2:{KNOWN_HASH}\n"
    for rows in (
        [("serial-1", KNOWN_HASH), ("serial-1", KNOWN_HASH)],
        [("serial\nx", KNOWN_HASH)],
        [("serial-1", KNOWN_HASH + "\nother")],
        [("serial-1", "plain")],
    ):
        with pytest.raises(ValueError, match=r"login|hash"):
            passwords.render(rows)


def test_the_password_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    passwords.write_file(path, [("serial-1", KNOWN_HASH)])
    passwords.write_file(path, [("serial-2", KNOWN_HASH)])
    assert path.read_text() == f"serial-2:{KNOWN_HASH}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="hash"):
        passwords.write_file(path, [("serial-3", "plain")])
    assert path.read_text() == f"serial-2:{KNOWN_HASH}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["passwd"]


def test_a_stranger_with_the_servers_old_process_number_is_not_signalled(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.pid"
    for content, words in (("1\n", "not the MQTT server"), ("x", "no MQTT server"), (None, "no")):
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        with pytest.raises(LoginFileError, match=words):
            signal_server(path)
