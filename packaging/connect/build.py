"""Makes fleetgate-connect.pyz, one file for a laptop: `python packaging/connect/build.py FILE`."""

import os
import shutil
import sys
import tempfile
import zipapp
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# The zip format knows no earlier time; the same sources make the same file.
MADE_S = 315_619_200
MAIN = '''"""Starts `fleetgate connect`."""

import sys

from broker.connect.__main__ import main

sys.exit(main())
'''


def stage(folder: Path) -> None:
    """A copy of what the program needs, and nothing else."""
    left_out = shutil.ignore_patterns("__pycache__", "py.typed")
    shutil.copytree(ROOT / "wire", folder / "wire", ignore=left_out)
    shutil.copytree(ROOT / "broker" / "connect", folder / "broker" / "connect", ignore=left_out)
    (folder / "broker" / "__init__.py").write_text('"""Holds `connect`."""\n', encoding="utf-8")
    (folder / "__main__.py").write_text(MAIN, encoding="utf-8")
    for path in sorted(folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (MADE_S, MADE_S))


def build(made: Path) -> None:
    """Writes the file, executable where files can be."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "staged"
        folder.mkdir()
        stage(folder)
        zipapp.create_archive(folder, made, interpreter="/usr/bin/env python3", compressed=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
