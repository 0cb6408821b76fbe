"""What a relay's many links cost; `make bench` has the figures of 2,000."""

import asyncio
from pathlib import Path

import pytest

from bench import relay_stalled
from bench.bad_network import resident_bytes
from bench.relay_scale import (
    IDLE_LINK_KIB_MOST,
    LINKS,
    SESSION_MIB_MOST,
    SESSIONS,
    joined,
    measure,
    part,
    relay_alone,
)
from tests.conftest import SummaryRow

FEW = 300


def test_an_idle_link_takes_little_memory(tmp_path: Path) -> None:
    async def grown(links: int) -> float:
        # Connections made before have brought the memory that all share.
        devices = [await joined(relay, relay.mint.session()) for _ in range(20)]
        before = resident_bytes(relay.pid)
        devices += [await joined(relay, relay.mint.session()) for _ in range(links)]
        after = resident_bytes(relay.pid)
        await part(devices)
        return (after - before) / links

    with relay_alone(tmp_path) as relay:
        assert asyncio.run(grown(FEW)) <= IDLE_LINK_KIB_MOST * 1024


@pytest.mark.timeout(150)
def test_readers_that_stop_after_a_fast_transfer_cost_their_session_little(tmp_path: Path) -> None:
    assert relay_stalled.measure(tmp_path, 5).session_bytes <= SESSION_MIB_MOST * 2**20


@pytest.mark.long
@pytest.mark.timeout(180)
def test_many_links_and_sessions_at_work(tmp_path: Path, summary_row: SummaryRow) -> None:
    found = measure(tmp_path)  # it raises where a link was lost, or other bytes came back
    assert found.idle_link_bytes <= IDLE_LINK_KIB_MOST * 1024
    assert found.session_bytes <= SESSION_MIB_MOST * 2**20
    summary_row(
        "idle links, and sessions at work",
        f"{LINKS:,}, {SESSIONS}",
        f"{found.idle_link_bytes / 1024:.0f} KiB a link, {found.session_bytes / 2**20:.1f} MiB"
        " a session",
    )
