"""The lines that `fleetgate up --demo` offers for pasting are commands that exist."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.command import demo
from gateway.command.admin import application


def commands(data: Path, routers: int) -> list[list[str]]:
    lines = [line for line in demo.to_try(data, routers) if line.startswith("      ")]
    return [shlex.split(line) for line in lines]


def options_of(words: list[str]) -> dict[str, Any]:
    """What `fleetgate admin` reads from these words; it fails on those it does not know."""
    root: Any = typer.main.get_command(application)
    command = root.commands[words[0]].commands[words[1]]
    read: dict[str, Any] = command.make_context(words[1], words[2:]).params
    return read


@pytest.mark.parametrize("data", [Path("data"), Path("/tmp/my data%")])
def test_each_line_is_a_command_that_exists(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/fleetgate", "up", "--demo"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # where there is none
    page, machine, shell = commands(data, 25)
    for words, serial, target in (
        (page, "1100000001", None),
        (machine, "1100000002", "192.168.1.50:80"),
    ):
        assert words[:2] == [".venv/bin/fleetgate", "admin"]
        given = options_of(words[2:])
        assert (given["serial"], given["target"]) == (serial, target)
        assert (given["protocol"], given["data"]) == ("http", data)
    assert shell[0] == "ssh" and shell[-1] == "admin@1100000001"
    name, _, proxy = shell[2].partition("=")
    assert name == "ProxyCommand"
    words = shlex.split(proxy.replace("%%", "%"))
    assert words[:2] == [".venv/bin/fleetgate", "connect"]
    assert words[-2:] == ["--stdio", "%n:%p"]
    assert (str(data) in words) is (data != Path("data"))


def test_a_single_router_is_behind_both_examples() -> None:
    page, machine, _ = commands(Path("data"), 1)
    assert page[page.index("--serial") + 1] == machine[machine.index("--serial") + 1]
