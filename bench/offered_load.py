"""Heartbeats offered through a real MQTT server with TLS, beside a subscriber that only counts."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.installation import Running, running
from gateway.command.installation import find_server_program
from gateway.mqtt_server.configuration import CONFIGURATION_NAME

DEVICES = 1_000
OFFERED_PER_S = 20_000
# Beyond saturation the generator only takes CPU from what it measures: the best of these counts.
SATURATION_PER_S = (25_000, 30_000, 40_000)
COUNTED_PER_S = 60_000
SECONDS = 10
SWARM_S_MAX = 240


def measure(folder: Path) -> dict[str, Any]:
    """The gate's figures, and both saturations."""
    data = folder / "load"
    with running(data) as server:
        join = _join_string(server)
        # Joining is not what is measured: the first, gentle run does it.
        _swarm(data, join, rate=DEVICES, seconds=3)
        before = server.cpu_s("gateway"), server.cpu_s("mosquitto")
        offered = _swarm(data, join, rate=OFFERED_PER_S, seconds=SECONDS)
        cpu = [server.cpu_s("gateway") - before[0], server.cpu_s("mosquitto") - before[1]]
        saturated = max(_committed_per_s(server, data, join, rate) for rate in SATURATION_PER_S)
    counted = _counted_per_s(data, join)
    sent = offered["sent"]
    return {
        "offered_per_s": offered["sent_per_s"],
        "sent": sent,
        "committed_within_2_s_percent": 100.0 * offered["receipted_within_2_s"] / sent,
        "receipt_ms_p50": offered["receipt_ms_p50"],
        "receipt_ms_p99": offered["receipt_ms_p99"],
        "gateway_cpu_us": cpu[0] * 1e6 / sent,
        "mosquitto_cpu_us": cpu[1] * 1e6 / sent,
        "generator_cpu_us": offered["cpu_us_per_heartbeat"],
        "saturation_per_s": saturated,
        "counting_subscriber_per_s": counted,
    }


def _join_string(server: Running) -> str:
    company = server.call("POST", "/api/v1/companies", {"name": "Bench"})["id"]
    server.call("POST", "/api/v1/credits/grants", {"company_id": company, "credits": DEVICES})
    code = {"uses": DEVICES, "register": True, "credits": DEVICES}
    return str(server.call("POST", f"/api/v1/companies/{company}/join-codes", code)["join"])


def _swarm_command(data: Path, join: str, *, rate: int, seconds: int) -> list[str]:
    return [
        *(sys.executable, "-m", "firmware_sim", "swarm", "--devices", str(DEVICES)),
        *("--rate", str(rate), "--seconds", str(seconds), "--join", join),
        *("--state", str(data.with_name("swarm"))),
    ]


def _swarm(data: Path, join: str, *, rate: int, seconds: int) -> dict[str, Any]:
    done = subprocess.run(
        _swarm_command(data, join, rate=rate, seconds=seconds),
        capture_output=True,
        text=True,
        timeout=SWARM_S_MAX,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _committed_per_s(server: Running, data: Path, join: str, rate: int) -> float:
    """How many a second are committed while so many are offered."""
    command = _swarm_command(data, join, rate=rate, seconds=SECONDS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        def committed() -> int:
            return int(server.call("GET", "/status")["ingest"]["heartbeats"])

        return _steepest_per_s(committed, process)


def _steepest_per_s(count: Any, process: subprocess.Popen[bytes]) -> float:
    """The highest rate over any 3 s while the process runs."""
    seen: list[tuple[float, int]] = []
    while process.poll() is None:
        seen.append((time.monotonic(), count()))
        time.sleep(0.5)
    best = 0.0
    for index, (at_s, number) in enumerate(seen):
        for later_s, later in seen[index + 1 :]:
            if later_s - at_s >= 3.0:
                best = max(best, (later - number) / (later_s - at_s))
                break
    return best


def _counted_per_s(data: Path, join: str) -> float:
    """The same load on the same MQTT server, taken by a subscriber that only counts."""
    with _mqtt_server_alone(data), _counter(data) as count:
        command = _swarm_command(data, join, rate=COUNTED_PER_S, seconds=SECONDS)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            return _steepest_per_s(count, process)


@contextmanager
def _mqtt_server_alone(data: Path) -> Iterator[None]:
    """The installation's own MQTT server, with its files, without the gateway."""
    process = subprocess.Popen(
        [find_server_program(), "-c", CONFIGURATION_NAME],
        cwd=data / "mosquitto",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def _counter(data: Path) -> Iterator[Any]:
    path = data.with_name("counted")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.counting_subscriber", str(data), str(path)]
    )
    try:
        while not path.exists():
            if process.poll() is not None:
                raise RuntimeError("the counting subscriber ended")
            time.sleep(0.05)
        yield lambda: int(path.read_text() or "0")
    finally:
        process.terminate()
        process.wait(15)
