"""Libraries of the pages: the lock, what set-up does without npm or its registry, and the wheel."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "packaging/pages"
VENDOR = Path("gateway/web/vendor")
DIGEST_CHARS = len("sha512-") + 88
# What the script calls besides npm; a PATH of these alone has no npm and no way to install one.
PROGRAMS = "sh cat cksum dirname env head id sed sort timeout mosquitto".split()


def checkout(folder: Path) -> Path:
    """As much of a checkout as the script needs, without what it has fetched here."""
    for name in ("packaging/system-packages", "packaging/pages"):
        ignored = shutil.ignore_patterns("node_modules")
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            target.parent.mkdir(parents=True)
            shutil.copy2(source, target)
    (folder / VENDOR.parent).mkdir(parents=True)
    return folder


def fetch(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "packaging/pages/fetch")],
        env={**environment, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def bare_path(folder: Path) -> Path:
    made = folder / "bin"
    made.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        if found is not None:
            (made / name).symlink_to(found)
    return made


def test_the_lock_holds_a_digest_of_everything_and_no_address() -> None:
    lock = json.loads((PAGES / "package-lock.json").read_text(encoding="utf-8"))
    wanted = json.loads((PAGES / "package.json").read_text(encoding="utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}
    named = {*wanted["dependencies"], *wanted["devDependencies"]}
    assert named <= {name.removeprefix("node_modules/") for name in packages}
    for name, one in packages.items():
        assert len(one["integrity"]) == DIGEST_CHARS and "resolved" not in one, name
        assert not one.get("hasInstallScript"), name


def test_without_npm_one_line_says_what_to_do_and_set_up_goes_on(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    done = fetch(folder, PATH=str(bare_path(tmp_path)))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 0 and "apt-get install npm, then make venv" in line
    assert not (folder / VENDOR).exists()


def test_without_its_registry_one_line_says_why_and_what_was_there_stays(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("no npm here: packaging/system-packages pages")
    folder = checkout(tmp_path / "checkout")
    (folder / VENDOR).mkdir()
    (folder / VENDOR / ".made").write_text("of another lock\n")
    done = fetch(
        folder,
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        npm_config_cache=str(tmp_path / "cache"),
        npm_config_registry="http://127.0.0.1:1/",
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 0 and "keep the libraries that they have" in line
    assert "ECONNREFUSED" in line and "then make venv" in line
    assert (folder / VENDOR / ".made").read_text() == "of another lock\n"


def test_the_wheel_holds_what_was_fetched_and_builds_without_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in ("wire", "agent", "broker", "gateway", "firmware_sim"):
        (source / package).mkdir(parents=True)
        (source / package / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, source / name)
    assert not any(name.startswith(f"{VENDOR}/") for name in wheel_of(source))
    (source / VENDOR).mkdir(parents=True)
    (source / VENDOR / "htmx.min.js").write_text("// fetched")
    assert f"{VENDOR}/htmx.min.js" in wheel_of(source)


def wheel_of(source: Path) -> list[str]:
    """Names of the files in a wheel that is made from a source distribution, as for a release."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (built,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()
