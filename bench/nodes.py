"""CPU per heartbeat of all gateways together, with one node and with two, under the same load."""

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.installation import cpu_s
from bench.row import Row
from tests.scenario.several_nodes import SeveralNodes, several_nodes

DEVICES = 300
A_GATEWAY_PER_S = 1_500
SECONDS = 8
ROUNDS = 3
RATIO_MAX = 1.1
SWARM_S_MAX = 240
# Nodes and gateways of each. What is compared gives each gateway the same load: with half of it a
# gateway makes smaller transactions, which cost more for each heartbeat, on however many nodes.
ONE, TWO, TWO_OF_TWO = (1, 2), (2, 1), (2, 2)


@dataclass(frozen=True, slots=True)
class Laid:
    """An installation to which the load is offered."""

    nodes: SeveralNodes
    folder: Path
    join: str

    def gateways_cpu_s(self) -> float:
        """Of all gateways of all machines, so far."""
        return sum(
            cpu_s(one["pid"])
            for machine in self.nodes.machines
            for one in machine.facts()["gateways"]
        )

    def stored(self) -> int:
        ((count,),) = self.nodes.first.rows("SELECT count(*) FROM heartbeat")
        return int(count)

    def offer(self, *, rate: int, seconds: int) -> None:
        """Returns when it was sent, and 2 s have passed."""
        words = {
            "--devices": DEVICES,
            "--rate": rate,
            "--seconds": seconds,
            "--join": self.join,
            "--state": self.folder / "swarm",
        }
        given = [str(word) for pair in words.items() for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", "firmware_sim", "swarm", *given],
            capture_output=True,
            timeout=SWARM_S_MAX,
            check=True,
        )
        assert json.loads(done.stdout)["connected"] == DEVICES, done.stderr

    def cpu_us(self, gateways: int) -> float:
        """CPU of the gateways for each heartbeat that was stored."""
        before_s, before = self.gateways_cpu_s(), self.stored()
        rate = gateways * A_GATEWAY_PER_S
        self.offer(rate=rate, seconds=SECONDS)
        stored = self.stored() - before
        # Else the figure is of another load.
        assert stored >= 0.95 * rate * SECONDS, stored
        return (self.gateways_cpu_s() - before_s) * 1e6 / stored


def _laid(stack: ExitStack, folder: Path, nodes: int, gateways: int) -> Laid:
    made = stack.enter_context(several_nodes(folder, nodes=nodes, gateways=gateways))
    api = made.apis[0]
    company = api.company("Bench")
    api.grant(company, DEVICES)
    laid = Laid(made, folder, api.join_code(company, DEVICES))
    # Joining is not what is measured: the first, gentle run does it.
    laid.offer(rate=DEVICES, seconds=3)
    return laid


def measure(folder: Path) -> dict[tuple[int, int], float]:
    """µs for each layout, in turn, so that a slow moment of the machine meets all of them."""
    with ExitStack() as stack:
        laid = {
            layout: _laid(stack, folder / "{}-{}".format(*layout), *layout)
            for layout in (ONE, TWO, TWO_OF_TWO)
        }
        rounds = [
            {layout: one.cpu_us(layout[0] * layout[1]) for layout, one in laid.items()}
            for _ in range(ROUNDS)
        ]
    return {layout: statistics.median(each[layout] for each in rounds) for layout in laid}


def rows(folder: Path) -> list[Row]:
    """What a second node costs: with as many gateways in all, and with as many more."""
    found = measure(folder)
    return [_row(TWO, found), _row(TWO_OF_TWO, found)]


def _row(layout: tuple[int, int], found: dict[tuple[int, int], float]) -> Row:
    nodes, gateways = layout
    ratio = found[layout] / found[ONE]
    rate = nodes * gateways * A_GATEWAY_PER_S
    each = "a gateway" if gateways == 1 else f"{gateways} gateways"
    return Row(
        f"CPU of all gateways per heartbeat, two nodes with {each} each, PostgreSQL, "
        f"{rate:,} heartbeats/s in all",
        f"{found[layout]:.1f} µs, ratio {ratio:.2f}",
        f"one node with two gateways, {2 * A_GATEWAY_PER_S:,}/s: {found[ONE]:.1f} µs",
        f"≤ {RATIO_MAX} × one node",
        ratio <= RATIO_MAX,
    )
