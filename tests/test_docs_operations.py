"""`docs/operations.md`: every file on it is one that the programs take."""

import re
import tomllib
from pathlib import Path

import pytest

from broker.relay import configuration as relay_toml
from gateway.command.app import application, up
from gateway.command.configuration import load
from tests.contract.tables import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n# ([^\n]+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = [(name, text) for kind, name, text in BLOCKS if kind == "toml"]
UNITS = [(name, text) for kind, name, text in BLOCKS if kind == "ini"]
COMMANDS = {
    one.name or getattr(one.callback, "__name__", "") for one in application.registered_commands
}


def test_the_page_shows_files_of_one_machine_two_and_many() -> None:
    names = [name for name, _ in FILES]
    assert len(names) == len(set(names)) == 5
    assert len(UNITS) == 4


@pytest.mark.parametrize(("name", "text"), FILES, ids=[name for name, _ in FILES])
def test_each_file_is_taken_as_it_stands(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name.rpartition("/")[2]
    path.write_text(text)
    if path.name == "relay.toml":
        assert relay_toml.load(path).id == "relay-1"
    else:
        assert load(path).http.public_url == "https://fleet.example.org"


def test_what_nodes_must_share_is_the_same_in_their_files() -> None:
    of_nodes = [tomllib.loads(text) for name, text in FILES if name.startswith("node-")]
    assert len(of_nodes) == 3
    for section, key in (
        ("mqtt", "public_hosts"),
        ("devices", "public_hosts"),
        ("database", "url"),
    ):
        assert len({str(one[section][key]) for one in of_nodes}) == 1
    assert len({one["mqtt"]["login"] for one in of_nodes}) == 3


@pytest.mark.parametrize(("name", "text"), UNITS, ids=[name.split()[0] for name, _ in UNITS])
def test_each_unit_starts_a_command_that_there_is(name: str, text: str) -> None:
    (line,) = re.findall(r"^ExecStart=/opt/fleetgate/bin/fleetgate (\S+) (.*)$", text, re.MULTILINE)
    assert line[0] in COMMANDS
    assert ("--config" in line[1]) == (line[0] != "up")


def test_every_option_that_the_page_names_exists() -> None:
    """Of `fleetgate up`; typer knows them by the parameters of the function."""
    known = {f"--{name.replace('_', '-')}" for name in up.__annotations__}
    for line in re.findall(r"fleetgate up (.*)$", PAGE, flags=re.MULTILINE):
        for option in re.findall(r"--[a-z-]+", line.split("`")[0]):
            assert option in known, option
