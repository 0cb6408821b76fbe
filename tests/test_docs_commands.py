"""Every command that a page prints is one that the programs take."""

import re
import shlex
from functools import cache
from typing import Any

import pytest
import typer

from gateway.command import following
from gateway.command.admin import application as admin
from gateway.command.app import application
from tests.contract.tables import ROOT

PAGES = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^ *(fleetgate [^#\n]*)", re.MULTILINE)  # of a block: to be copied
MENTION = re.compile(r"`(fleetgate [^`]*)`")  # within a sentence: perhaps only its beginning
OPTION = re.compile(r"--[a-z-]+")


def printed(pattern: re.Pattern[str]) -> list[list[str]]:
    found = {one.strip() for page in PAGES for one in pattern.findall(page)}
    lines = [shlex.split(part) for line in sorted(found) for part in line.split(" && ")]
    ours = [words[1:] for words in lines if words[0] == "fleetgate"]
    # `connect` reads its words by itself.
    return [words for words in ours if words[:1] not in ([], ["connect"])]


@cache
def commands() -> dict[str, Any]:
    assert callable(following.follow_events)  # it has added its command to those of `admin`
    root: Any = typer.main.get_command(application)
    return {**root.commands, "admin": typer.main.get_command(admin)}


def found(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and what they give it; `KeyError` if there is none."""
    command, rest = commands()[words[0]], words[1:]
    while hasattr(command, "commands") and rest and rest[0].isascii() and rest[0][0].isalpha():
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize("words", printed(LINE), ids=" ".join)
def test_each_line_to_copy_is_taken(words: list[str]) -> None:
    command, rest = found(words)
    command.make_context(words[0], rest)


@pytest.mark.parametrize("words", printed(MENTION), ids=" ".join)
def test_each_command_in_a_sentence_exists_with_its_options(words: list[str]) -> None:
    command, rest = found(words)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert {word for word in rest if OPTION.fullmatch(word)} <= known | {"--help"}


def test_there_are_such_lines_and_a_wrong_one_fails() -> None:
    assert len(printed(LINE)) > 10 and len(printed(MENTION)) > 80
    command, rest = found(["verify", "--data", "data", "--heads", "1:a"])
    with pytest.raises(Exception, match="--heads"):
        command.make_context("verify", rest)
