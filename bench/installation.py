"""A real installation for a measurement: `fleetgate up` on a temporary directory, and its API."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S_MAX = 60.0
STOP_S_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """What the ready file says, and how to ask the API."""

    data: Path
    ready: dict[str, Any]
    ready_after_s: float

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request with the operator's token. Raises `urllib.error.HTTPError`."""
        request = urllib.request.Request(
            self.ready["http_url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.ready['admin_token']}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def cpu_s(self, name: str) -> float:
        """CPU seconds that the child has used."""
        return cpu_s(self.ready["pids"][name])


def cpu_s(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(data: Path, *, relay_port: int = 0) -> Iterator[Running]:
    """Starts and stops an installation. Raises `RuntimeError` with its words when it cannot."""
    ready_file = data.with_name(f"{data.name}.ready.json")
    ports = {"http": 0, "mqtt": 0, "devices": 0, "relay": relay_port}
    any_port = [word for name, port in ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
    command = [sys.executable, "-m", "gateway.command.app", "up", "--data", str(data), *any_port]
    began_s = time.monotonic()
    log_path = data.with_name(f"{data.name}.log")
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready_file)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while not ready_file.exists():
            if process.poll() is not None or time.monotonic() - began_s > READY_S_MAX:
                raise RuntimeError(f"fleetgate up did not start:\n{log_path.read_text()}")
            time.sleep(0.01)
        took_s = time.monotonic() - began_s
        yield Running(data, json.loads(ready_file.read_text()), took_s)
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
