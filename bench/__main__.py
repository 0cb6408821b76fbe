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

from bench import activation, ingest_cpu, offered_load, starting, tunnel_gates
from bench.row import Row


def ingest_row(folder: Path) -> list[Row]:
    """CPU per heartbeat beside the bare prototype, batch by batch in turn."""
    found = ingest_cpu.measure(folder)
    parts = ", ".join(f"{name} {found[name]:.1f}" for name in ("decode", "transaction", "receipts"))
    return [
        Row(
            "gateway CPU per heartbeat, SQLite, batches of 500",
            f"{found['total']:.1f} µs ({parts})",
            f"bare prototype {found['prototype']:.1f} µs, ratio {found['ratio']:.2f}",
            "≤ 25 µs",
            found["total"] <= 25,
        )
    ]


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


def activation_row(folder: Path) -> list[Row]:
    """A person's activation, many at once."""
    cpu_us, shared = activation.measure(folder)
    return [
        Row(
            "CPU per activation, 200 callers at once",
            f"{cpu_us:.0f} µs",
            f"{shared:.0f} activations a commit",
            "≤ 600 µs",
            cpu_us <= 600,
        )
    ]


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
    "ingest": ingest_row,
    "load": load_rows,
    "activation": activation_row,
    "start": start_row,
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
