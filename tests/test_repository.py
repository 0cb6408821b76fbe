"""Looks at every committed text for what must not be in it, and at the files a repository owes."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT_BYTES_MAX = 2_000_000
# What a checkout grows by itself.
GROWN = frozenset({"build", "dist", "data", "packaging/agent/dist", "gateway/web/vendor"})
# Other hidden files and folders belong to tools.
HIDDEN_KEPT = frozenset({".ci", ".github", ".gitignore", ".dockerignore"})

# Written with a bar inside, since this file is a committed text itself.
REGISTRIES = (
    "py|pi.org python|hosted.org npm|js.com npm|js.org crates|.io proxy.go|lang.org deb.deb|ian.org"
)
PLACES = "/wo|rk/ /ro|ot/"


def whole(barred: str) -> str:
    return barred.replace("|", "")


BANNED = {
    "a path of somebody's machine": re.compile(
        r"(?<!\w)(?:" + "|".join(whole(PLACES).split()) + "|/home" + "/[a-z]+/)"
    ),
    "the host of a package registry": re.compile(
        "|".join(map(re.escape, whole(REGISTRIES).split())), re.IGNORECASE
    ),
    "a private key": re.compile("-----BEGIN " + "[A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}|\bAKIA[0-9A-Z]{16}|\bxox[abp]-\w{10,}"),
    "a password in an address": re.compile(r"\b[a-z+]+://[^\s/:@{}<>$]+:[^\s/:@{}<>$]+@[a-z0-9]"),
}


def committed_texts() -> Iterator[tuple[str, str]]:
    for folder, below, names in os.walk(ROOT):
        here = Path(folder)
        below[:] = sorted(one for one in below if is_kept(here / one))
        for path in sorted(here / one for one in names if is_kept(here / one)):
            if path.is_symlink() or path.stat().st_size > TEXT_BYTES_MAX:
                continue
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # an image, or recorded bytes


def is_kept(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    if path.name.startswith("."):
        return path.name in HIDDEN_KEPT
    return name not in GROWN and path.name not in {"__pycache__", "node_modules"}


def banned(name: str, text: str) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {what}: {hit.group()}"
        for what, pattern in BANNED.items()
        # Tests plant such addresses, to see them refused.
        if not (name.startswith("tests/") and what == "a password in an address")
        for hit in pattern.finditer(text)
    ]


def test_no_committed_text_holds_secrets_or_names_of_one_machine() -> None:
    texts = dict(committed_texts())
    assert {"pyproject.toml", "Makefile", "README.md", ".ci/run"} <= set(texts)
    found = [finding for name, text in texts.items() for finding in banned(name, text)]
    assert not found, "\n" + "\n".join(found)


def test_what_is_planted_is_found() -> None:
    planted = {
        "a path of somebody's machine": whole("cd /wo|rk/main"),
        "the host of a package registry": whole("https://py|pi.org/simple"),
        "a private key": whole("-----BEGIN EC PRIV|ATE KEY-----"),
        "a token": "AKIA" + "A" * 16,
        "a password in an address": whole("mqtt:|//joe:hunter2@example.org"),
    }
    assert set(planted) == set(BANNED)
    for what, text in planted.items():
        found = banned("planted", text)
        assert len(found) == 1 and what in found[0], what


def test_the_licence_is_apache_everywhere() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    for path in (ROOT / "pyproject.toml", ROOT / "packaging/agent/pyproject.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8"))["project"]["license"] == "Apache-2.0"


def test_the_files_a_repository_owes_are_there_and_say_something() -> None:
    owed = "README.md CONTRIBUTING.md CHANGELOG.md SECURITY.md docs/out_of_scope.md Dockerfile"
    for name in owed.split():
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > 5, name


def test_both_distributions_have_one_version_and_the_changelog_knows_it() -> None:
    versions = {
        tomllib.loads((ROOT / name).read_text(encoding="utf-8"))["project"]["version"]
        for name in ("pyproject.toml", "packaging/agent/pyproject.toml")
    }
    assert len(versions) == 1
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{versions.pop()}]" in changelog or "[Unreleased]" in changelog


def test_ci_runs_the_command_of_make_test() -> None:
    command = "-m pytest -n 4 --dist loadfile --no-loadscope-reorder -m 'not long'"
    for name in (".ci/run", "Makefile"):
        assert command in (ROOT / name).read_text(encoding="utf-8"), name
    for name in (".ci/run", "packaging/system-packages", "packaging/pages/fetch"):
        assert (ROOT / name).stat().st_mode & 0o111, f"{name} is not executable"


def test_whatever_runs_tests_or_measurements_installs_what_only_they_need() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needs = dict(re.findall(r"^([a-z-]+): (.*)$", makefile, re.MULTILINE))
    for target in ("test", "test-long", "bench"):
        assert "test-packages" in needs[target].split(), target
    # Two at a time would wait for the lock of the package manager in vain.
    assert needs["test-packages"] == "system-packages"
    for name in (".ci/run", "Makefile"):
        assert "packaging/system-packages tests" in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_lock_pins_every_direct_dependency_at_or_above_its_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements-test.lock").read_text(encoding="utf-8")
    pinned = dict(line.lower().split("==") for line in lock.splitlines() if "==" in line)
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    assert wanted
    for requirement in wanted:
        named, _, bound = requirement.partition(">=")
        name = named.partition("[")[0]  # without extras
        # Names are compared as the index normalises them.
        exact = pinned.get(name) or pinned.get(name.replace("-", "_"))
        assert exact, f"{name} is not in the lock: make lock"
        assert as_numbers(exact) >= as_numbers(bound), requirement


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
