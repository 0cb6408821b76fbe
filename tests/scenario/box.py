"""A real `fleetgate-agent run`, joined by hand with its own list, under strace if wanted."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.scenario.installation import ROOT, Installation, end_with_the_tests, until

_CONNECT = re.compile(r'connect\(\d+, \{sa_family=AF_INET6?, .*?htons\((\d+)\).*?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Box:
    """One agent that runs."""

    serial: str
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def dialled(self) -> set[tuple[str, int]]:
        """Every address that it connected to since its start, as the kernel saw it."""
        trace = (self.folder / "trace").read_text(errors="replace")
        assert "connect(" in trace
        return {(address, int(port)) for port, address in _CONNECT.findall(trace)}


@contextmanager
def a_box(
    installation: Installation, folder: Path, serial: str, allow: tuple[str, ...] = ()
) -> Iterator[Box]:
    """Joined and signed in; all that it connects to is on record."""
    api = installation.api
    company = api.company(f"Box {serial}")
    api.grant(company, 1)
    api.register(serial, company)
    join = api.done("POST", f"/devices/{serial}/join", {})["join"]
    folder.mkdir()
    configuration = folder / "agent.toml"
    lines = ["sampling_s = 1", "sending_s = 1", f'spool_dir = "{folder / "memory"}"']
    if allow:
        lines.append(f"allow = {list(allow)!r}")
    configuration.write_text("\n".join([*lines, ""]))
    own = ["--config", str(configuration), "--state-dir", str(folder / "state")]
    agent = [sys.executable, "-m", "agent"]
    subprocess.run([*agent, "join", *own, join], check=True, capture_output=True, timeout=30)
    strace = ["strace", "-D", "-f", "-qq", "-e", "trace=connect", "-o", str(folder / "trace")]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [*strace, *agent, "run", *own],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_the_tests,
        )
    try:
        until(lambda: api.device(serial)["presence"]["state"] == "online", "online", within_s=20)
        yield Box(serial, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
