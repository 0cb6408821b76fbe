"""The `fleetgate` command line: what it teaches, and its exit codes."""

import os
import sys
from pathlib import Path

import pytest

from gateway.command import up as up_module
from gateway.command.app import main
from gateway.command.up_options import UpOptions

ROOT = Path(__file__).parents[2]
CODES = [
    (["up", "--http", "h:x"], 2, "--http h:x: the port is a number"),
    (["up", "--demo", "x"], 2, "unexpected extra argument"),
    (["up", "--demo", "1001"], 2, "1000"),
    (["up", "--what"], 2, "No such option"),
    (["check-config", "/no/such/gateway.toml"], 2, "No such file or directory"),
    (["check-config"], 2, "Missing argument"),
    (["what"], 2, "No such command"),
    (["up", "--help"], 0, "Port 0 means any free port"),
    (["relay"], 2, "Missing option '--config'"),
    (["relay", "--help"], 0, "relay.toml"),
    (["--help"], 0, "fleetgate up --demo"),
    (["--help"], 0, "connect"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), CODES)
def test_exit_codes_and_words(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    said = capsys.readouterr()
    assert words in " ".join((said.out + said.err).split())


def test_check_config_prints_the_effective_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[http]\nport = 1234\n")
    with pytest.raises(SystemExit) as ended:
        main(["check-config", str(path)])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "port = 1234\n" in said
    assert f'keys = "{tmp_path}/keys"\n' in said


@pytest.mark.parametrize("code", [0, 1])
def test_up_hands_its_options_on_and_its_exit_code_back(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[UpOptions] = []

    def run(options: UpOptions) -> int:
        handed.append(options)
        return code

    monkeypatch.setattr(up_module, "run", run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["up", "--demo", "--mqtt", "10.0.0.1:0", "--ready-file", "ready.json"])
    assert ended.value.code == code
    (options,) = handed
    assert options.data == tmp_path / "data"
    assert options.ready_file == tmp_path / "ready.json"
    assert options.demo_routers == 25
    assert (options.asked["mqtt"].host, options.asked["mqtt"].port) == ("10.0.0.1", 0)
    assert (options.asked["http"].host, options.asked["http"].port) == ("127.0.0.1", None)


PASSED_ON = [
    (["relay", "--config", "/d/relay.toml"], "broker.relay", ["--config", "/d/relay.toml"]),
    (["connect"], "broker.connect", []),
    (["connect", "--help"], "broker.connect", ["--help"]),
    (["connect", "--stdio", "1100000001:22"], "broker.connect", ["--stdio", "1100000001:22"]),
    (["connect", "1:22", "--", "--demo", "x"], "broker.connect", ["1:22", "--", "--demo", "x"]),
]


@pytest.mark.parametrize(("arguments", "module", "passed"), PASSED_ON)
def test_other_programs_take_this_ones_place(
    arguments: list[str], module: str, passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[list[str]] = []

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        assert path == sys.executable
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
        executed.append(words)
        raise SystemExit(0)  # what stands in for it does not return either

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        main(arguments)
    assert executed == [[sys.executable, "-P", "-m", module, *passed]]
