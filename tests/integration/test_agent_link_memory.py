"""How much memory a session costs the device while it carries as much as it can."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.conftest import SummaryRow
from tests.linked_device import Device, linked_device, serving
from tests.model_relay import Visitor, until
from wire.link import Link
from wire.session_commands import open_args

MEBIBYTE = 1024 * 1024
SESSION_BYTES_MAX = 12 * MEBIBYTE
TRANSFER_BYTES = 64 * MEBIBYTE
STREAMS = 40
STALLED = 200
PIECE = bytes(range(256)) * 256


async def many_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends as much as the eight digits say, then takes the rest."""
    size = int(await reader.readexactly(8))
    for _ in range(size // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()
    writer.write_eof()
    while await reader.read(256 * 1024):
        pass


def resident_bytes(pid: int, row: str = "VmRSS") -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = (one for one in text.splitlines() if one.startswith(f"{row}:"))
    return int(line.split()[1]) * 1024


async def carry(device: Device, link: Link, size: int) -> None:
    """So many bytes to the device and from it, at once."""
    visitor = device.relay.open(link, Visitor(keep=False))
    assert visitor.stream is not None
    await visitor.send(b"%08d" % size)
    for _ in range(size // len(PIECE)):
        await visitor.send(PIECE)
    visitor.stream.finish()
    await until(lambda: visitor.finished, within_s=50)
    assert visitor.count == size


@contextlib.asynccontextmanager
async def child_of(device: Device) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.session_child", str(device.keys.ca_certificate)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        assert await child.stdout.readline() == b"ready\n"
        yield child
        child.stdin.close()
        assert await child.wait() == 0
        assert device.relay.sides[0].ended == "agent_stopping"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def told(child: asyncio.subprocess.Process, device: Device, target: str) -> Link:
    assert child.stdin is not None
    child.stdin.write(json.dumps(open_args(device.order(target))).encode() + b"\n")
    return await device.relay.link()


async def test_a_session_costs_no_more_than_promised(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    async with (
        linked_device(tmp_path) as device,
        serving(many_bytes) as target,
        child_of(device) as child,
    ):
        before = resident_bytes(child.pid)
        link = await told(child, device, target)
        await carry(device, link, TRANSFER_BYTES)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(STREAMS):
                tasks.create_task(carry(device, link, MEBIBYTE))
        grown = resident_bytes(child.pid) - before
        peak = resident_bytes(child.pid, "VmHWM") - before
        summary_row(
            "memory of one session", f"{grown / MEBIBYTE:.1f} MiB", f"peak {peak / MEBIBYTE:.1f}"
        )
        assert grown <= SESSION_BYTES_MAX
        assert peak <= SESSION_BYTES_MAX


async def test_stalled_targets_cost_no_more_than_promised(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    released = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await released.wait()

    async with (
        linked_device(tmp_path) as device,
        serving(stall, limit=4_096) as target,
        child_of(device) as child,
    ):
        before = resident_bytes(child.pid)
        link = await told(child, device, target)
        visitors = [device.relay.open(link) for _ in range(STALLED)]
        async with asyncio.TaskGroup() as tasks:
            fillers = [tasks.create_task(one.send(bytes(10 * MEBIBYTE))) for one in visitors]
            streams = [one.stream for one in visitors if one.stream is not None]
            await until(lambda: all(one.sent == one.allowed for one in streams), within_s=40)
            grown = resident_bytes(child.pid) - before
            for filler in fillers:
                filler.cancel()
        released.set()
        summary_row(f"{STALLED} stalled targets", f"{grown / MEBIBYTE:.1f} MiB")
        assert grown <= SESSION_BYTES_MAX
