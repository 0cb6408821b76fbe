"""fleetgate-connect.pyz is one file that a bare Python runs, without any of our environment."""

import ast
import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.connect_world import END_S_MAX, SERIAL, TOKEN, world
from tests.integration.test_connect import target

ROOT = Path(__file__).parent.parent
PROGRAM_S_MAX = 50
# -I ignores the environment and the current folder, -S leaves site-packages out.
BARE = (sys.executable, "-I", "-S")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pyz") / "fleetgate-connect.pyz"
    builder = ROOT / "packaging" / "connect" / "build.py"
    subprocess.run([sys.executable, builder, made], check=True, timeout=PROGRAM_S_MAX)
    return made


def test_it_holds_connect_and_wire_and_nothing_else(built: Path) -> None:
    held = {name for name in zipfile.ZipFile(built).namelist() if not name.endswith("/")}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("broker/connect", "wire")
        for path in (ROOT / package).rglob("*.py")
    }
    assert held == expected | {"__main__.py", "broker/__init__.py"}


def test_the_same_sources_make_the_same_file(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    builder = ROOT / "packaging" / "connect" / "build.py"
    subprocess.run([sys.executable, builder, again], check=True, timeout=PROGRAM_S_MAX)
    assert again.read_bytes() == built.read_bytes()
    assert built.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_make_builds_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nconnect-pyz:")[2].splitlines()[1]
    assert recipe.split()[1:] == ["packaging/connect/build.py", "dist/fleetgate-connect.pyz"]


def test_nothing_but_the_standard_library_is_named(built: Path) -> None:
    archive = zipfile.ZipFile(built)
    for name in archive.namelist():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(archive.read(name))):
            if isinstance(node, ast.Import):
                tops = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                tops = {(node.module or "").partition(".")[0]}
            else:
                continue
            assert tops <= sys.stdlib_module_names | {"broker", "wire"}, name


def test_a_bare_python_shows_its_help(built: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*BARE, built, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S_MAX,
        check=True,
    )
    assert "ProxyCommand" in done.stdout
    done = subprocess.run(
        [*BARE, built], cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM_S_MAX
    )
    assert done.returncode == 2 and "name at least one TARGET" in done.stderr


async def test_a_bare_python_carries_bytes(built: Path, tmp_path: Path) -> None:
    async with world() as server, target() as port:
        process = await asyncio.create_subprocess_exec(
            *(*BARE, str(built), "--url", server.url, "--token", TOKEN),
            *("--stdio", f"{SERIAL}:{port}"),
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        got, _ = await asyncio.wait_for(process.communicate(b"there and back"), END_S_MAX)
        assert (process.returncode, got) == (0, b"there and back")
