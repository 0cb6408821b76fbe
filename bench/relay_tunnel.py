"""Our own tunnel, whole: gateway, MQTT server, relay, a real agent, `fleetgate connect`."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from bench.bad_network import bad_network
from bench.installation import Running, running
from bench.tunnel_figures import Tunnel

SERIAL = "1290000001"
STOP_S_MAX = 10.0
ONLINE_S_MAX = 30.0
OPENS_PER_S = 100_000  # what one person opens is limited; what is measured here is not


@contextmanager
def fleetgate(folder: Path, behind_port: int, latency_ms: float) -> Iterator[Tunnel]:
    """The relay stands beside the visitor; the device is as far away as asked.

    Raises `RuntimeError` with the words of whoever did not start.
    """
    with ExitStack() as parts:
        system, relay_port = parts.enter_context(installation(folder, latency_ms))
        yield parts.enter_context(device(system, relay_port, folder, SERIAL, behind_port))


@contextmanager
def installation(folder: Path, latency_ms: float = 0.0) -> Iterator[tuple[Running, int]]:
    """Gateway, MQTT server and relay, and the port at which visitors reach that."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        relay_port = place.getsockname()[1]
    data = folder / "data"
    data.mkdir()
    with ExitStack() as parts:
        settings = ["[relay]", f"opens_per_s = {OPENS_PER_S}"]
        if latency_ms:
            far = parts.enter_context(bad_network(relay_port, latency_ms))
            settings.append(f"public_port = {far.port}")
        (data / "gateway.toml").write_text("\n".join(settings) + "\n")
        yield parts.enter_context(running(data, relay_port=relay_port)), relay_port


@contextmanager
def device(
    system: Running, relay_port: int, folder: Path, serial: str, behind_port: int
) -> Iterator[Tunnel]:
    """A company of its own with one device, and a visitor's program with a session to it."""
    company = system.call("POST", "/api/v1/companies", {"name": f"Bench {serial}"})["id"]
    system.call("POST", "/api/v1/credits/grants", {"company_id": company, "credits": 1})
    wanted = {"serial": serial, "company_id": company, "activate": True}
    system.call("POST", "/api/v1/devices", wanted)
    own = folder / serial
    own.mkdir()
    with ExitStack() as parts:
        agent = parts.enter_context(_agent(system, own, serial, behind_port))
        port, visitor = parts.enter_context(_visitor(system, own, serial, behind_port, relay_port))
        yield Tunnel(
            "127.0.0.1", port, (system.ready["pids"]["relay"],), (agent.pid,), (visitor.pid,)
        )


@contextmanager
def _agent(
    system: Running, folder: Path, serial: str, behind_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    join = system.call("POST", f"/api/v1/devices/{serial}/join")["join"]
    configuration = folder / "agent.toml"
    values: dict[str, object] = {
        "state_dir": str(folder / "agent"),
        "spool_dir": str(folder / "spool"),
        "serial": serial,
        "lan_mac": "02:00:00:00:00:01",
        "join": join,
        "allow": [f"router:{behind_port}"],
        "opens_per_s": OPENS_PER_S,
    }
    configuration.write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    )
    words = [sys.executable, "-m", "agent", "run", "--config", str(configuration)]
    with _process(words, folder / "agent.log") as process:
        _until_online(system, serial, folder / "agent.log")
        yield process


def _until_online(system: Running, serial: str, log_path: Path) -> None:
    ending_s = time.monotonic() + ONLINE_S_MAX
    while time.monotonic() < ending_s:
        found = system.call("GET", f"/api/v1/devices/{serial}")
        if found["presence"]["state"] == "online":
            return
        time.sleep(0.05)
    raise RuntimeError(f"the device did not come online:\n{log_path.read_text()}")


@contextmanager
def _visitor(
    system: Running, folder: Path, serial: str, behind_port: int, relay_port: int
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    words = [sys.executable, "-m", "broker.connect", "--json", "--protocol", "tcp"]
    words += ["--relay", f"127.0.0.1:{relay_port}", f"{serial}:{behind_port}"]
    environment = {
        "FLEETGATE_URL": system.ready["http_url"],
        "FLEETGATE_TOKEN": system.ready["admin_token"],
    }
    with _process(words, folder / "connect.log", environment, output=True) as process:
        assert process.stdout is not None
        said = _first_line(process.stdout)
        if not said:
            raise RuntimeError(f"no way in:\n{(folder / 'connect.log').read_text()}")
        answer: dict[str, Any] = json.loads(said)
        yield answer["ports"][0]["port"], process


def _first_line(pipe: IO[bytes]) -> bytes:
    """What comes later must not fill the pipe."""
    line = pipe.readline()
    threading.Thread(target=pipe.read, daemon=True).start()
    return line


@contextmanager
def _process(
    words: list[str],
    log_path: Path,
    environment: dict[str, str] | None = None,
    *,
    output: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            words,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output else log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
