"""Enforces the table of who may import whom, for our own packages and the libraries it names."""

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = frozenset({"wire", "agent", "broker", "gateway", "firmware_sim", "tests", "bench"})
PROGRAMS = ("wire", "agent", "broker", "gateway", "firmware_sim")

# Pure rooms hold no sockets, files, threads, clocks or dice: values in, values out.
IMPURE = frozenset(
    "asyncio http multiprocessing random select selectors socket sqlite3 ssl subprocess threading "
    "time".split()
)


@dataclass(frozen=True)
class Rule:
    """What one package may import beside itself and the standard library."""

    own: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    # Libraries that the package may load, but only from one of these modules.
    confined: dict[str, str] = field(default_factory=dict)
    banned_standard: frozenset[str] = frozenset()


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Distributions whose module is called otherwise.
OTHER_NAMES = {"pyjwt": "jwt"}


def declared_libraries() -> frozenset[str]:
    """Import names of what the server's distribution asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # What follows the name is a bound, or extras in brackets.
    names = {re.split(r"[\[>]", requirement)[0] for requirement in project["dependencies"]}
    return frozenset(OTHER_NAMES.get(name, name.replace("-", "_")) for name in names)


# The longest matching package decides.
TABLE = {
    "wire": Rule(banned_standard=IMPURE),
    "agent": Rule(
        own=words("wire"),
        libraries=words("aiomqtt paho"),
        confined={"serial": "agent.collectors.modem"},
    ),
    "broker": Rule(),
    "broker.connect": Rule(own=words("wire")),
    "broker.relay": Rule(
        own=words("wire"), libraries=words("aiomqtt paho jwt cryptography aiohttp uvloop")
    ),
    "gateway": Rule(own=words("wire"), libraries=declared_libraries()),
    "gateway.domain": Rule(own=words("wire"), banned_standard=IMPURE),
    "firmware_sim": Rule(
        own=words("wire agent"), libraries=words("aiomqtt paho mqtt5 aiohttp asyncssh pymodbus")
    ),
}

# Server libraries with one room each: another room that wants them asks that room.
ROOMS = {
    "typer": "gateway.command",
    "rich": "gateway.command",
    "alembic": "gateway.storage",
    "aiosmtplib": "gateway.people",
    "babel": "gateway.web",
    "segno": "gateway.web",
}


def rule_of(module: str) -> tuple[str, Rule]:
    package = max(
        (name for name in TABLE if module == name or module.startswith(name + ".")), key=len
    )
    return package, TABLE[package]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that a source names: in functions, under TYPE_CHECKING, by import_module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                # `from gateway import domain` names gateway.domain too.
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            target = node.args[0]
            if (
                name in {"import_module", "__import__", "run_module"}
                and isinstance(target, ast.Constant)
                and isinstance(target.value, str)
            ):
                yield node.lineno, target.value


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def findings(module: str, source: str) -> list[str]:
    """One sentence for each import of `module` that the table does not admit."""
    package, rule = rule_of(module)
    found = []
    for line, name in imported(ast.parse(source)):
        top = name.partition(".")[0]
        where = f"{module}:{line}: {package} may not import"
        if name.startswith("."):
            found.append(f"{module}:{line}: relative import {name}")
        elif top in OWN:
            allowed = rule.own | {package}
            if not any(inside(name, one) for one in allowed):
                found.append(f"{where} {name}")
        elif top in rule.confined:
            if not inside(module, rule.confined[top]):
                found.append(f"{where} {top} here, only in {rule.confined[top]}")
        elif top in sys.stdlib_module_names:
            if top in rule.banned_standard:
                found.append(f"{where} {top}: it is a pure room")
        elif top not in rule.libraries:
            found.append(f"{where} {top}")
        elif package == "gateway" and not inside(module, ROOMS.get(top, package)):
            found.append(f"{where} {top} here, only in {ROOMS[top]}")
    return found


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def all_findings(root: Path) -> tuple[int, list[str]]:
    """How many sources were read, and what is wrong with them."""
    sources = [path for program in PROGRAMS for path in sorted((root / program).rglob("*.py"))]
    found = [
        finding
        for path in sources
        for finding in findings(module_name(path, root), path.read_text(encoding="utf-8"))
    ]
    return len(sources), found


def test_every_package_keeps_to_its_row_of_the_table() -> None:
    read, found = all_findings(ROOT)
    assert read > 20
    assert not found, "\n" + "\n".join(found)


def test_every_program_has_sources_and_a_row() -> None:
    for program in PROGRAMS:
        assert list((ROOT / program).rglob("*.py")), program
        assert program in TABLE


VIOLATIONS = [
    # module                  source                                         named in the finding
    ("wire.topics", "import aiomqtt", "aiomqtt"),
    ("wire.topics", "import agent.spool", "agent.spool"),
    ("wire.heartbeat", "import socket", "socket"),
    ("wire.heartbeat", "from time import monotonic", "time"),
    ("agent.spool", "from gateway.domain import ledger", "gateway.domain"),
    ("agent.spool", "import msgspec", "msgspec"),
    ("agent.collectors.linux", "import serial", "serial"),
    ("agent.spool", "import importlib\nimportlib.import_module('aiohttp')", "aiohttp"),
    ("agent.spool", "def late():\n    import cryptography.x509", "cryptography"),
    ("broker.relay.splice", "import gateway", "gateway"),
    ("broker.relay.splice", "import sqlalchemy", "sqlalchemy"),
    ("broker.connect.main", "import aiohttp", "aiohttp"),
    ("broker.connect.main", "import broker.relay", "broker.relay"),
    ("gateway.domain.ledger", "import sqlalchemy", "sqlalchemy"),
    ("gateway.domain.ledger", "from gateway.storage import engine", "gateway.storage"),
    ("gateway.domain.ledger", "from gateway import storage", "gateway.storage"),
    ("gateway.domain.ledger", "import asyncio", "asyncio"),
    ("gateway.ingest.batches", "import agent", "agent"),
    ("gateway.ingest.batches", "import firmware_sim.fleet", "firmware_sim"),
    ("gateway.ingest.batches", "import broker.relay", "broker.relay"),
    ("gateway.ingest.batches", "from tests import mosquitto", "tests.mosquitto"),
    ("gateway.ingest.batches", "import requests", "requests"),
    ("gateway.ingest.batches", "import typer", "typer"),
    ("gateway.ingest.batches", "from . import receipts", "relative"),
    ("firmware_sim.fleet", "import gateway.domain", "gateway"),
    ("firmware_sim.fleet", "import bench", "bench"),
    ("firmware_sim.fleet", "from sqlalchemy import select", "sqlalchemy"),
]


def test_a_planted_violation_is_found_in_every_row() -> None:
    for module, source, named in VIOLATIONS:
        found = findings(module, source)
        assert len(found) == 1 and named in found[0], (module, source, found)
    assert {rule_of(module)[0] for module, _, _ in VIOLATIONS} >= set(TABLE) - {"broker"}


ADMITTED = [
    ("wire.topics", "import re, json, hashlib\nfrom wire.serials import check"),
    ("agent.link", "import aiomqtt, asyncio\nimport paho.mqtt.client\nfrom wire import topics"),
    ("agent.collectors.modem", "import serial"),
    ("broker.relay.splice", "import jwt, aiohttp\nfrom wire import topics"),
    ("gateway.domain.ledger", "from dataclasses import dataclass\nfrom gateway.domain import days"),
    ("gateway.storage.engine", "import sqlalchemy\nfrom gateway.domain import ledger"),
    ("gateway.command.app", "import typer"),
    ("firmware_sim.swarm", "import mqtt5\nimport agent.spool\nimport random, time"),
]


def test_what_the_table_admits_is_not_found() -> None:
    for module, source in ADMITTED:
        assert findings(module, source) == [], module


def test_a_violation_in_a_tree_of_files_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "gateway" / "domain"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import sqlite3\n")
    planted = """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from gateway.storage.engine import Store
        """
    (folder / "ledger.py").write_text(textwrap.dedent(planted))
    read, found = all_findings(tmp_path)
    assert read == 2
    assert [finding.partition(":")[0] for finding in found] == [
        "gateway.domain",
        "gateway.domain.ledger",
    ]
