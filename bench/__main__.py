"""Runs every measurement and prints one table, as text and as JSON: `make bench`."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    activation,
    extension,
    fairness,
    history,
    importing,
    ingest_cpu,
    nodes,
    offered_load,
    pages,
    relay_scale,
    relay_stalled,
    starting,
    statement,
    tunnel_gates,
)
from bench.engines import ENGINES, NAMES
from bench.row import Row
from gateway.jobs.retention import KeptDays

INGEST_US_MAX = {"sqlite": 25, "postgresql": 40}


def ingest_rows(folder: Path) -> list[Row]:
    """CPU per heartbeat beside the bare prototype, batch by batch in turn."""
    return [_ingest_row(folder, engine, gate) for engine, gate in INGEST_US_MAX.items()]


def _ingest_row(folder: Path, engine: str, us_max: int) -> Row:
    found = ingest_cpu.measure(folder / f"ingest-{engine}", engine)
    parts = ", ".join(f"{name} {found[name]:.1f}" for name in ("decode", "transaction", "receipts"))
    return Row(
        f"gateway CPU per heartbeat, {NAMES[engine]}, batches of 500",
        f"{found['total']:.1f} µs ({parts})",
        f"bare prototype {found['prototype']:.1f} µs, ratio {found['ratio']:.2f}"
        + (f"; database server {found['server']:.1f} µs" if found["server"] else ""),
        f"≤ {us_max} µs",
        found["total"] <= us_max,
    )


def load_rows(folder: Path) -> list[Row]:
    """20,000 a second through the real MQTT server with TLS, generator included."""
    found = offered_load.measure(folder)
    percent = found["committed_within_2_s_percent"]
    cpu = ", ".join(
        f"{name} {found[f'{name}_cpu_us']:.0f}" for name in ("gateway", "mosquitto", "generator")
    )
    return [
        Row(
            f"offered {found['offered_per_s']:,.0f} heartbeats/s over TLS: committed and "
            "receipted within 2 s",
            f"{percent:.2f} % of {found['sent']:,}",
            f"receipt after {found['receipt_ms_p50']:.0f} ms (p50), "
            f"{found['receipt_ms_p99']:.0f} ms (p99)",
            "≥ 99 % at 20,000/s",
            percent >= 99 and found["offered_per_s"] >= 0.99 * offered_load.OFFERED_PER_S,
        ),
        Row("CPU per heartbeat at that load", cpu + " µs", "", "", None),
        Row(
            "saturation: heartbeats committed a second, generator on the same 2 cores",
            f"{found['saturation_per_s']:,.0f}/s",
            f"counting subscriber {found['counting_subscriber_per_s']:,.0f}/s",
            "",
            None,
        ),
    ]


def activation_rows(folder: Path) -> list[Row]:
    """A person's activation, many at once."""
    return [_activation_row(folder, engine) for engine in ENGINES]


def _activation_row(folder: Path, engine: str) -> Row:
    found = activation.measure(folder / f"activation-{engine}", engine)
    return Row(
        f"gateway CPU per activation, {NAMES[engine]}, 200 callers at once",
        f"{found.cpu_us:.0f} µs",
        f"{found.a_second:,.0f} a second, {found.a_commit:.0f} a commit"
        + (f"; database server {found.server_cpu_us:.0f} µs" if found.server_cpu_us else ""),
        "≤ 600 µs",
        found.cpu_us <= 600,
    )


def extension_rows(folder: Path) -> list[Row]:
    """A fleet whose periods end together."""
    return [_extension_row(folder, engine) for engine in ENGINES]


def _extension_row(folder: Path, engine: str) -> Row:
    found = extension.measure(folder / f"extension-{engine}", engine)
    return Row(
        f"{extension.DEVICES:,} devices extended at once, {NAMES[engine]}, beside "
        f"{extension.HEARTBEATS_PER_S:,} heartbeats/s",
        f"{found.seconds:.1f} s, a batch of heartbeats waited {found.batch_ms_max:.0f} ms at most",
        f"median {found.batch_ms_median:.0f} ms; CPU a device {found.cpu_us:.0f} µs"
        + (f", database server {found.server_cpu_us:.0f} µs" if found.server_cpu_us else ""),
        f"≤ {extension.SECONDS_MAX} s, ≤ 1 s",
        found.seconds <= extension.SECONDS_MAX
        and found.batch_ms_max <= 1_000
        and not found.overflowed,
    )


def history_rows(folder: Path) -> list[Row]:
    """A month of a smaller fleet, lived through; the long tests have 2,000 devices."""
    return [_history_row(folder, engine) for engine in ENGINES]


def _history_row(folder: Path, engine: str) -> Row:
    devices, days = 200, 30
    found = history.live(
        folder / f"history-{engine}", engine, devices=devices, days=days, kept=KeptDays()
    )
    plots = ", ".join(f"{name} {took_ms:.0f} ms" for name, took_ms in found.plots_ms.items())
    return Row(
        f"plots of one device, {NAMES[engine]}, {days} days of {devices} devices",
        plots,
        f"{found.rolled_up_per_s:,.0f} samples rolled up a second, hour by hour;"
        f" {found.bytes_after / 2**20:,.0f} MiB",
        "≤ 300 ms",
        max(found.plots_ms.values()) <= 300,
    )


def start_row(folder: Path) -> list[Row]:
    """`fleetgate up` until everything answers."""
    first_s, later_s = starting.measure(folder)
    return [
        Row(
            "`fleetgate up` to ready, second start",
            f"{later_s:.2f} s",
            f"first start {first_s:.2f} s",
            "≤ 3 s",
            later_s <= 3,
        )
    ]


MEASUREMENTS: dict[str, Callable[[Path], list[Row]]] = {
    "ingest": ingest_rows,
    "load": load_rows,
    "activation": activation_rows,
    "extension": extension_rows,
    "fairness": fairness.rows,
    "history": history_rows,
    "import": importing.rows,
    "nodes": nodes.rows,
    "pages": pages.rows,
    "relay": relay_scale.rows,
    "stalled": relay_stalled.rows,
    "start": start_row,
    "statement": statement.rows,
    "tunnel": tunnel_gates.rows,
}


def main() -> int:
    """Exit code 1 when a gate is not met."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    console = Console(width=150)
    rows: list[Row] = []
    for name in options.names or MEASUREMENTS:
        console.print(f"measuring {name} …")
        with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as folder:
            rows += MEASUREMENTS[name](Path(folder))
    table = Table(
        title=f"{os.cpu_count()} cores, {platform.python_implementation()} "
        f"{platform.python_version()}"
    )
    for heading in ("what", "figure", "beside it", "budget", "met"):
        table.add_column(heading)
    for row in rows:
        verdict = {True: "yes", False: "NO", None: ""}[row.met]
        table.add_row(row.what, row.figure, row.peer, row.budget, verdict)
    console.print(table)
    options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
