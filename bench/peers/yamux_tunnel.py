"""A reverse tunnel over yamux, as frp has it: Debian's Go and library, and a program of ours."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.bad_network import bad_network
from bench.peers.started import started
from bench.tunnel_figures import Absent, Tunnel

BUILD_S_MAX = 120.0
INSTALL = "apt-get install golang-go golang-github-hashicorp-yamux-dev"
LIBRARIES = Path("/usr/share/gocode")
LIBRARY = "src/github.com/hashicorp/yamux"
SOURCE = Path(__file__).parent / "yamux" / "main.go"


@contextmanager
def yamux_tunnel(folder: Path, behind_port: int, latency_ms: float) -> Iterator[Tunnel]:
    """TLS on the device's side, as ours has it. Raises `Absent` when Go or yamux is missing."""
    program = _built(folder)
    with ExitStack() as parts:
        relay = parts.enter_context(started([program, "relay"]))
        port, visitors_port = relay.ports
        if latency_ms:
            port = parts.enter_context(bad_network(port, latency_ms)).port
        words = [program, "device", f"127.0.0.1:{port}", f"127.0.0.1:{behind_port}"]
        device = parts.enter_context(started(words))
        yield Tunnel("127.0.0.1", visitors_port, (relay.pid,), (device.pid,))


def version() -> str:
    """As it is shown beside the figures. Raises `Absent`."""
    done = subprocess.run([_go(), "version"], capture_output=True, text=True, check=True)
    return f"yamux 6 MiB, {done.stdout.split()[2]}"


def _go() -> str:
    path = shutil.which("go")
    if path is None or not (LIBRARIES / LIBRARY).exists():
        raise Absent(f"Go and yamux are not installed: {INSTALL}")
    return path


def _built(folder: Path) -> str:
    made = folder / "yamux-tunnel"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(LIBRARIES),
        "GOCACHE": str(folder / "go-cache"),
    }
    subprocess.run(
        [_go(), "build", "-o", str(made), str(SOURCE)],
        env=environment,
        check=True,
        timeout=BUILD_S_MAX,
    )
    return str(made)
