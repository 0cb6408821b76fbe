"""The watches of the suite bite: each is shown a test that it must fail, in a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent

CASES = [
    # name                 body                                                 said in the failure
    ("a_task_is_left", "    loop().create_task(asyncio.sleep(30))", "left behind"),
    ("the_loop_is_blocked", "    await asyncio.sleep(0)\n    time.sleep(1.5)", "stood still"),
    ("all_is_well", "    await asyncio.sleep(0.01)", None),
    ("a_warning_is_given", "    import warnings\n    warnings.warn('old')", "UserWarning: old"),
]


def run_pytest(folder: Path, *arguments: str) -> str:
    """A whole pytest with this suite's configuration, on planted tests outside the checkout."""
    (folder / "conftest.py").write_text(
        "from pathlib import Path\n"
        "import tests.conftest\n"
        "from tests.conftest import *\n"
        f"tests.conftest.UNIT_TESTS = Path({str(folder)!r})\n"
    )
    # Wide enough for the reasons in the closing lines.
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "COLUMNS": "200"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(folder)),
            *(*arguments, str(folder)),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.stdout + done.stderr


def test_the_watches_fail_what_they_must_and_nothing_else(tmp_path: Path) -> None:
    opening = "import asyncio\nimport time\nfrom asyncio import get_running_loop as loop\n\n"
    tests = [f"async def test_{name}() -> None:\n{body}\n" for name, body, _ in CASES]
    (tmp_path / "test_planted.py").write_text(opening + "\n\n".join(tests))
    said = run_pytest(tmp_path)
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    for name, _, reason in CASES:
        lines = [line for line in failed if f"test_{name}" in line]
        if reason is None:
            assert not lines, said
        else:
            assert len(lines) == 1 and reason in lines[0], said


def test_skips_say_why_and_long_tests_wait_to_be_asked(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(
        "import pytest\n\n\n"
        "def test_skipped() -> None:\n    pytest.skip('no engine here')\n\n\n"
        "@pytest.mark.long\n"
        "def test_long(summary_row) -> None:\n"
        "    summary_row('kill rounds', 30, 'lost 0, doubled 0')\n"
    )
    short = run_pytest(tmp_path, "-m", "not long")
    assert "no engine here" in short
    assert "1 skipped, 1 deselected" in short.splitlines()[-1]
    long = run_pytest(tmp_path, "-m", "long").splitlines()
    assert "1 passed, 1 deselected" in long[-1]
    assert long[-2].split() == ["kill", "rounds", "30", "lost", "0,", "doubled", "0"]


def test_an_unknown_marker_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(
        "import pytest\n\n\n@pytest.mark.lnog\ndef test_x() -> None: ...\n"
    )
    assert "'lnog' not found" in run_pytest(tmp_path)
