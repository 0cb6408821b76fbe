"""The shell of a simulated router: a closed list of commands, none of which runs a program."""

import hashlib
import json
import os
import shlex
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from firmware_sim.lan.facts import RouterFacts

OK, FAILED, NOT_FOUND = 0, 1, 127
READ_CHARS = 65_536


class Reader(Protocol):
    """What commands read."""

    async def read(self, n: int = -1) -> str: ...


class Writer(Protocol):
    """Where commands write."""

    def write(self, data: str) -> None: ...

    async def drain(self) -> None: ...


_Command = Callable[["Shell", list[str], Reader, Writer], Awaitable[int]]


class Shell:
    """Runs lines for one router; the exit code of each is returned."""

    def __init__(self, facts: RouterFacts, files: Path) -> None:
        self.facts = facts
        self.files = files

    @property
    def prompt(self) -> str:
        """As BusyBox would write it."""
        return f"root@{self.facts.hostname}:~# "

    @property
    def greeting(self) -> str:
        """What an interactive visitor reads first."""
        facts = self.facts
        return (
            f"\n{facts.model}, firmware {facts.firmware}, serial {facts.serial}\n"
            "A simulated router: `help` lists its commands; files come and go with scp and sftp.\n"
            "\n"
        )

    async def run(self, line: str, stdin: Reader, stdout: Writer, stderr: Writer) -> int:
        """Runs one line."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            stderr.write(f"ash: syntax error: {error}\n")
            return FAILED
        if not words:
            return OK
        command = _COMMANDS.get(words[0])
        if command is None:
            stderr.write(f"ash: {words[0]}: not found\n")
            return NOT_FOUND
        code = await command(self, words[1:], stdin, stdout)
        if code != OK:
            stderr.write(f"{words[0]}: usage: {_USAGES[words[0]]}\n")
        return code


async def _help(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    stdout.write("".join(f"{usage}\n" for usage in sorted(_USAGES.values())) + "exit\n")
    return OK


async def _echo(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    stdout.write(" ".join(words) + "\n")
    return OK


async def _uptime(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    values = shell.facts.read()
    up_s, load = _number(values, "uptime"), _number(values, "load_1min") / 100
    days, rest_s = divmod(up_s, 86_400)
    clock = f"{rest_s // 3_600}:{rest_s % 3_600 // 60:02d}"
    stdout.write(f" up {days} days, {clock}, load average: {load:.2f}, {load:.2f}, {load:.2f}\n")
    return OK


async def _ubus(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    if words != ["call", "system", "board"]:
        return FAILED
    facts = shell.facts
    board = {
        "hostname": facts.hostname,
        "system": "simulated",
        "model": facts.model,
        "serial": facts.serial,
        "release": {"distribution": "RutOS (simulated)", "version": facts.firmware},
    }
    stdout.write(json.dumps(board, indent="\t") + "\n")
    return OK


async def _gsmctl(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    values = shell.facts.read()
    fields = {"-q": ("rssi", "rsrp", "sinr", "rsrq"), "-o": ("operator",), "-t": ("network_type",)}
    if len(words) != 1 or words[0] not in fields:
        return FAILED
    named = words[0] == "-q"
    for name in fields[words[0]]:
        value = values.get(name, "N/A")
        stdout.write(f"{name.upper()}: {value}\n" if named else f"{value}\n")
    return OK


async def _cat(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    if words == ["/etc/version"]:
        stdout.write(f"{shell.facts.firmware}\n")
        return OK
    if words:
        return FAILED
    while data := await stdin.read(READ_CHARS):
        stdout.write(data)
        await stdout.drain()
    return OK


async def _sha256sum(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    if words:
        return FAILED
    digest = hashlib.sha256()
    while data := await stdin.read(READ_CHARS):
        digest.update(data.encode("latin-1"))
    stdout.write(f"{digest.hexdigest()}  -\n")
    return OK


async def _hostname(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    stdout.write(f"{shell.facts.hostname}\n")
    return OK


async def _ls(shell: Shell, words: list[str], stdin: Reader, stdout: Writer) -> int:
    if words:
        return FAILED
    for entry in sorted(os.scandir(shell.files), key=lambda one: one.name):
        name = os.fsencode(entry.name).decode("latin-1")
        stdout.write(f"{entry.stat(follow_symlinks=False).st_size:>12} {name}\n")
    return OK


def _number(values: Mapping[str, object], name: str) -> int:
    value = values.get(name, 0)
    return value if isinstance(value, int) else 0


_COMMANDS: dict[str, _Command] = {
    "cat": _cat,
    "echo": _echo,
    "gsmctl": _gsmctl,
    "help": _help,
    "hostname": _hostname,
    "ls": _ls,
    "sha256sum": _sha256sum,
    "ubus": _ubus,
    "uptime": _uptime,
}
_USAGES = {
    "cat": "cat [/etc/version]",
    "echo": "echo [WORD]...",
    "gsmctl": "gsmctl -q | -o | -t",
    "help": "help",
    "hostname": "hostname",
    "ls": "ls",
    "sha256sum": "sha256sum",
    "ubus": "ubus call system board",
    "uptime": "uptime",
}
