"""How long `fleetgate up` takes until everything answers."""

from pathlib import Path

from bench.installation import running

LATER_STARTS = 3


def measure(folder: Path) -> tuple[float, float]:
    """Seconds of the first start, and of the median later one."""
    data = folder / "start"
    taken = []
    for _ in range(1 + LATER_STARTS):
        with running(data) as server:
            taken.append(server.ready_after_s)
    return taken[0], sorted(taken[1:])[LATER_STARTS // 2]
