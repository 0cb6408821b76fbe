"""`fleetgate admin` as a process, against a server of the tests."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.api_server import ApiServer

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "gateway.command.app", "admin"]


async def admin(
    server: ApiServer | None,
    *words: str,
    typed: str = "",
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    data = [] if server is None else ["--data", str(server.admin_socket.parent)]
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *words,
        *data,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate(typed.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()
