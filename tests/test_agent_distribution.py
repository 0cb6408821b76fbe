"""The agent is a small distribution of its own and drags nothing of the server onto a router."""

import json
import subprocess
import sys
import textwrap
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging" / "agent"
# What a router has: aiomqtt and what that loads itself.
ON_THE_DEVICE = ("aiomqtt", "paho")
NEVER_LOADED = frozenset(
    "gateway broker firmware_sim aiohttp cryptography serial msgspec sqlalchemy mqtt5 typer".split()
)
PROGRAM_S_MAX = 50


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PROGRAM_S_MAX)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_apart(source: str, *paths: Path, cwd: Path) -> str:
    """Runs a source in a fresh interpreter that finds the standard library and these paths only."""
    opening = f"import sys\nsys.path[:0] = {[str(path) for path in paths]!r}\n"
    # -I ignores the environment and the current folder, -S leaves site-packages out.
    return run(sys.executable, "-I", "-S", "-c", opening + textwrap.dedent(source), cwd=cwd)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder through which nothing but the device's libraries can be reached."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in ON_THE_DEVICE:
        spec = find_spec(name)
        assert spec is not None and spec.submodule_search_locations, name
        (folder / name).symlink_to(spec.submodule_search_locations[0])
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", str(folder), str(PACKAGING)),
        cwd=folder,
    )
    (built,) = folder.glob("fleetgate_agent-*.whl")
    return built


def agent_sources() -> list[Path]:
    return [path for path in (ROOT / "agent").rglob("*.py") if path.name != "__init__.py"]


def test_there_is_an_agent_to_distribute() -> None:
    assert agent_sources()
    assert (ROOT / "agent" / "__main__.py").exists()


def test_the_wheel_holds_agent_and_wire_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("agent", "wire")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected
    assert held == expected
    assert {Path(name).suffix for name in held} <= {".py", ".typed"}


def test_the_wheel_asks_for_aiomqtt_and_brings_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist()}
    asked = [line for line in texts["METADATA"].splitlines() if line.startswith("Requires-Dist:")]
    always = [line for line in asked if "extra ==" not in line]
    assert len(always) == 1 and always[0].startswith("Requires-Dist: aiomqtt")
    extras = [line for line in asked if line not in always]
    assert len(extras) == 1 and "pyserial" in extras[0] and "modem" in extras[0]
    assert "fleetgate-agent = agent.__main__:main" in texts["entry_points.txt"]


def test_the_installed_wheel_starts_with_the_devices_libraries_alone(
    wheel: Path, libraries: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
        *("--target", str(installed), str(wheel)),
        cwd=tmp_path,
    )
    said = run_apart(
        """
        import runpy
        sys.argv = ["fleetgate-agent", "--help"]
        runpy.run_module("agent", run_name="__main__", alter_sys=True)
        """,
        installed,
        libraries,
        cwd=tmp_path,
    )
    assert "usage:" in said
    for command in ("join", "run", "sample", "status", "check"):
        assert command in said


def test_importing_all_of_the_agent_loads_no_library_of_the_server(tmp_path: Path) -> None:
    # The whole environment can be reached here, so what is not loaded was not asked for.
    loaded = json.loads(
        run(
            *(sys.executable, "-c"),
            textwrap.dedent(
                """
                import importlib, json, pkgutil, sys
                import agent
                names = [m.name for m in pkgutil.walk_packages(agent.__path__, "agent.")]
                for name in names:
                    importlib.import_module(name)
                json.dump({"imported": names, "loaded": sorted(sys.modules)}, sys.stdout)
                """
            ),
            cwd=ROOT,
        )
    )
    assert len(loaded["imported"]) >= len(agent_sources())
    tops = {name.partition(".")[0] for name in loaded["loaded"]}
    assert not tops & NEVER_LOADED
    assert "agent" in tops and "wire" in tops


def test_every_module_of_the_agent_can_be_imported_on_a_device(
    libraries: Path, tmp_path: Path
) -> None:
    said = run_apart(
        """
        import importlib, pkgutil
        import agent
        for module in pkgutil.walk_packages(agent.__path__, "agent."):
            importlib.import_module(module.name)
            print(module.name)
        """,
        *(copied(tmp_path), libraries),
        cwd=tmp_path,
    )
    assert len(said.split()) >= len(agent_sources()) > 0


def copied(folder: Path) -> Path:
    """A folder that shows `agent` and `wire` of the checkout, and not what lies beside them."""
    shown = folder / "shown"
    shown.mkdir()
    for name in ("agent", "wire"):
        (shown / name).symlink_to(ROOT / name)
    return shown
