"""A real `ssh -R` to a real sshd, made in a temporary directory, as whoever measures."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.bad_network import bad_network
from bench.tunnel_figures import Absent, Tunnel

START_S_MAX = 20.0
STOP_S_MAX = 10.0
# Debian's sshd wants this directory when it is started by root, and its unit makes it.
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
LogLevel ERROR
"""


@contextmanager
def openssh(folder: Path, behind_port: int, latency_ms: float) -> Iterator[Tunnel]:
    """sshd stands where a relay would, ssh where a device would; 0 ms is plain loopback.

    Raises `Absent` when the programs are not installed.
    """
    sshd, ssh = _program("sshd"), _program("ssh")
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    for name in ("host_key", "user_key"):
        words = [_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    configuration = folder / "sshd_config"
    configuration.write_text(_CONFIGURATION.format(port=port, folder=folder))
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with ExitStack() as parts:
        server = parts.enter_context(_running([sshd, "-D", "-e", "-f", str(configuration)], folder))
        _wait_for_port(port, server)
        if latency_ms:
            port = parts.enter_context(bad_network(port, latency_ms)).port
        device = parts.enter_context(
            _running(_device_words(ssh, folder, port, behind_port), folder)
        )
        visitors_port = _allocated_port(device, folder)
        yield Tunnel("127.0.0.1", visitors_port, _family(server.pid), (device.pid,))


def version() -> str:
    """As the program says it. Raises `Absent` when sshd or ssh is not installed."""
    _program("sshd")
    done = subprocess.run([_program("ssh"), "-V"], capture_output=True, text=True, check=True)
    return done.stderr.split(",")[0].split()[0].replace("_", " ")


def _program(name: str) -> str:
    # A plain user's PATH often lacks the place of sshd, which must be started by its whole path.
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise Absent(f"{name} is not installed")
    return path


def _device_words(ssh: str, folder: Path, port: int, behind_port: int) -> list[str]:
    options = {
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
    }
    words = [ssh, "-F", "none", "-N", "-T", "-p", str(port), "-i", str(folder / "user_key")]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "-R", f"127.0.0.1:0:127.0.0.1:{behind_port}", f"{getpass.getuser()}@127.0.0.1"]


@contextmanager
def _running(words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with _log(words[0], folder).open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


def _log(program: str, folder: Path) -> Path:
    return folder / f"{Path(program).name}.log"


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    ending_s = time.monotonic() + START_S_MAX
    while time.monotonic() < ending_s and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"sshd did not start, exit code {server.poll()}")


def _allocated_port(device: subprocess.Popen[bytes], folder: Path) -> int:
    ending_s, text = time.monotonic() + START_S_MAX, ""
    while time.monotonic() < ending_s and device.poll() is None:
        text = _log("ssh", folder).read_text()
        found = re.search(r"Allocated port (\d+) for remote forward", text)
        if found:
            return int(found[1])
        time.sleep(0.02)
    said = text + _log("sshd", folder).read_text()
    raise RuntimeError(f"ssh made no tunnel: {said}")


def _family(pid: int) -> tuple[int, ...]:
    """A process and all below it: sshd works in children."""
    pids = [pid]
    for one in pids:
        children = Path(f"/proc/{one}/task/{one}/children")
        if children.exists():
            pids += map(int, children.read_text().split())
    return tuple(pids)
