"""The agent's configuration file, and its command line."""

import json
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.configuration import KEYS, configuration_of, identity_of, read_configuration
from agent.errors import ConfigurationError
from agent.intervals import Intervals

INVALID: list[tuple[dict[str, object], str]] = [
    ({"sampling": 5}, "did you mean sampling_s?"),
    ({"statedir": "/x"}, "did you mean state_dir?"),
    ({"zzzzzz": 1}, "known are state_dir"),
    ({"sampling_s": "5"}, "sampling_s: must be of type int"),
    ({"sampling_s": True}, "sampling_s: must be of type int"),
    ({"sampling_s": 0}, "sampling_s: must be 1 to 86400"),
    ({"sending_s": 86_401}, "sending_s: must be 1 to 86400"),
    ({"spool_limit": 3}, "spool_limit: must be 10 to"),
    ({"allow": "router:80"}, "allow: must be of type list"),
    ({"allow": ["router:80", 7]}, "allow: 7: must be like"),
    ({"allow": ["router:80", "plc:80"]}, "allow: 'plc:80'"),
    ({"opens_per_s": 0}, "opens_per_s: must be 1 to"),
    ({"collector": "magic"}, "collector: must be one of auto, rutos_local, linux, modem"),
    ({"collector": "modem", "modem_port": "COM3"}, "modem_port: must be auto, or the path"),
    ({"collector": "modem", "modem_baud": 115_201}, "modem_baud: must be one of 9600"),
    ({"modem_port": "/dev/ttyUSB2"}, 'modem_port: is for collector = "modem" alone'),
    ({"serial": "a b"}, "serial: must be 6 to 32"),
]


def test_what_is_wrong_is_named() -> None:
    for body, said in INVALID:
        with pytest.raises(ConfigurationError) as caught:
            configuration_of(body)
        assert said in str(caught.value), body


def test_every_key_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'state_dir = "/a"\nspool_dir = "/b"\ncollector = "modem"\njoin = "fg1:x"\n'
        'serial = "1100000001"\nlan_mac = "00:1E:42:00:00:01"\nsampling_s = 5\nsending_s = 30\n'
        'spool_limit = 100\nallow = ["router:22", "192.168.1.0/24:80,443"]\nopens_per_s = 9\n'
        'modem_port = "/dev/ttyUSB2"\nmodem_baud = 9600\n'
    )
    configuration = read_configuration(file)
    assert (configuration.state_dir, configuration.spool_dir) == (Path("/a"), Path("/b"))
    assert configuration.intervals == Intervals(5, 30)
    assert configuration.allow == ("router:22", "192.168.1.0/24:80,443")
    assert configuration.opens_per_s == 9 and configuration.collector == "modem"
    assert (configuration.modem_port, configuration.modem_baud) == ("/dev/ttyUSB2", 9_600)
    assert configuration.spool_limit == 100 and configuration.join == "fg1:x"
    assert identity_of(configuration) == ("1100000001", "00:1e:42:00:00:01")
    assert all(key in file.read_text() for key in KEYS)


def test_each_state_directory_has_a_spool_of_its_own() -> None:
    spools = {configuration_of({}, state_dir=Path(p)).spool_dir for p in ("/a/b", "/a/c", "/")}
    assert len(spools) == 3


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_configuration(tmp_path / "none.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(
        f'state_dir = "{tmp_path}/flash"\nspool_dir = "{tmp_path}/memory"\n'
        'serial = "1100000001"\nlan_mac = "00:1e:42:00:00:01"\n'
    )
    return file


def test_sample_shows_values_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["uptime"] > 0
    assert main(["sample"]) == 0
    assert "time since the system started" in capsys.readouterr().out


def test_without_joining_the_commands_say_what_to_do(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "check", "run"):
        assert main([command, "--config", str(file)]) == 1
        said = capsys.readouterr()
        assert ("fleetgate-agent" in said.out + said.err) or command == "status", command
    assert main(["join", "--config", str(file), "--once", "fg1:AAAA"]) in (1, 2)
    assert "copy the whole text" in capsys.readouterr().err


def test_check_tells_whether_values_are_read(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", str(file)]) == 1
    assert "by collector auto" in capsys.readouterr().out
    with file.open("a") as more:
        more.write('collector = "modem"\nmodem_port = "/dev/null"\n')
    assert main(["check", "--config", str(file)]) == 1
    assert "no modem answers at modem_port = /dev/null" in capsys.readouterr().out


def test_a_wrong_configuration_ends_with_two(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("sampling = 5\n")
    assert main(["status", "--config", str(file)]) == 2
    assert "sampling_s" in capsys.readouterr().err


def test_the_help_teaches_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "fleetgate-agent join fg1:" in said and all(key in said for key in KEYS)
