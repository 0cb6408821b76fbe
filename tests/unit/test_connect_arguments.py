"""What the words on the command line of `fleetgate connect` mean."""

from pathlib import Path

import pytest

from broker.connect.arguments import (
    Options,
    UsageError,
    Wanted,
    check_url,
    parse,
    read_wanted,
)

S = "1100000001"
ENVIRONMENT = {"FLEETGATE_URL": "https://fleet.example/", "FLEETGATE_TOKEN": "t"}

MEANT = [
    (S, Wanted(S, "", "ssh")),
    (f"{S}:22", Wanted(S, "127.0.0.1:22", "ssh")),
    (f"{S}:80", Wanted(S, "127.0.0.1:80", "http")),
    (f"{S}:8291", Wanted(S, "127.0.0.1:8291", "tcp")),
    (f"{S}/plc", Wanted(S, "plc", "")),
    (f"{S}/Pumpe 3 Süd", Wanted(S, "Pumpe 3 Süd", "")),
    (f"{S}:192.168.1.50:443", Wanted(S, "192.168.1.50:443", "https")),
    (f"{S}:plc.lan:502", Wanted(S, "plc.lan:502", "tcp")),
    (f"{S}:[fd00::7]:3389", Wanted(S, "[fd00::7]:3389", "rdp")),
    (f"{S}:[fd00:0::8]:22", Wanted(S, "[fd00::8]:22", "ssh")),
    (f"{S}:Host:22", Wanted(S, "host:22", "ssh")),
    ("box-A_1:5900", Wanted("box-A_1", "127.0.0.1:5900", "vnc")),
]
WRONG = [
    "",
    "short",
    "has space1:22",
    f"{S}:",
    f"{S}/",
    f"{S}/a/b",
    f"{S}:0",
    f"{S}:65536",
    f"{S}:022",
    f"{S}:host",
    f"{S}:fd00::7:22",
    f"{S}:[fd00::7]",
    ":22",
    "/plc",
]


@pytest.mark.parametrize(("text", "wanted"), MEANT, ids=[one[0] for one in MEANT])
def test_a_target_is_understood_and_shown_again(text: str, wanted: Wanted) -> None:
    assert read_wanted(text) == wanted
    assert read_wanted(str(wanted), wanted.protocol) == wanted


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_target_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_wanted(text)
    assert text in str(caught.value)


def test_a_protocol_may_be_chosen() -> None:
    assert read_wanted(f"{S}:8443", "https").protocol == "https"
    assert read_wanted(S, "http") == Wanted(S, "", "http")
    with pytest.raises(UsageError, match="no usual port"):
        read_wanted(S, "tcp")


def options(*words: str) -> Options:
    return parse(words, ENVIRONMENT)


def test_several_targets_get_a_port_each() -> None:
    found = options(S, f"{S}:80", "--local", f"8080={S}:192.168.1.50:80", "--local", f"0={S}/plc")
    assert [one.local_port for one in found.wanted] == [0, 0, 8080, 0]
    assert found.url == "https://fleet.example" and found.token == "t"
    assert found.local_address == "127.0.0.1" and not found.stdio
    assert options("--local-port", "2222", S).wanted == (Wanted(S, "", "ssh", 2222),)


def test_the_command_line_goes_before_the_environment() -> None:
    found = options(S, "--url", "http://127.0.0.1:8080", "--token", "other", "--ca", "ca.pem")
    assert (found.url, found.token, found.ca) == ("http://127.0.0.1:8080", "other", Path("ca.pem"))
    assert found.relay is None and options(S, "--relay", "[::1]:8885").relay == ("::1", 8885)
    assert parse([S], {**ENVIRONMENT, "FLEETGATE_CA": "own.pem"}).ca == Path("own.pem")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--stdio", S, S),
        ("--stdio", "--local", f"1={S}"),
        ("--stdio", "--local-port", "2222", S),
        ("--local-port", "1", S, S),
        ("--local", S),
        ("--local", f"http={S}"),
        ("--local", f"65536={S}"),
        ("--local", f"80={S}", "--local", f"80={S}:80"),
        ("--minutes", "0", S),
        ("--minutes", "721", S),
        ("--reason", "x" * 201, S),
        ("--relay", "relay.example", S),
        (S,) * 51,
    ],
)
def test_what_does_not_go_together_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        options(*words)


def test_without_a_server_the_data_directory_of_this_machine_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FLEETGATE_URL"):
        parse([S, "--data", str(tmp_path)], {})
    (tmp_path / "admin.sock").touch()
    found = parse([S, "--data", str(tmp_path)], {})
    assert found.admin_socket == tmp_path / "admin.sock" and not found.url


@pytest.mark.parametrize("url", ["fleet.example", "ftp://fleet.example", "https://", "http://a:b"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(UsageError, match="write https"):
        check_url(url)


def test_the_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("ProxyCommand", "scp ", "curl ", "--local 2222=", "Exit codes"):
        assert word in text
    with pytest.raises(SystemExit) as ended:
        options("--no-such-option", S)
    assert ended.value.code == 2
