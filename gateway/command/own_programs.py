"""How a program of ours that is not for importing here is started: by its module's name."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import gateway


def own_packages() -> dict[str, str]:
    """Children find the same source tree as this process, also when it is not installed."""
    folder = str(Path(gateway.__file__).parents[1])
    earlier = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{earlier}" if earlier else folder}


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replaces this process by another program of ours; does not return.

    Its packages are not for importing here: each program loads only what its table allows.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: whatever folder a person stands in holds no module of ours.
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, **own_packages()})
