"""Stock ssh and curl over a bad network: a shell and two long transfers, none connected twice."""

import asyncio
import hashlib
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import asyncssh
import pytest

from firmware_sim.network import FaultProxy
from tests.conftest import SummaryRow
from tests.relay_rig import fact
from tests.whole_way import WholeWay, whole_way

MB = 1_000_000
SIZE = 100 * MB
BETWEEN = 3 * MB  # moved between two breaks
SECONDS_MAX = 90.0
BYTES_PER_S = 15 * MB
LENGTHS_S = [0.1, 0.3, 1.0, 2.5, 4.0, 7.0, 10.0]
HOWS = ["cut", "reset", "black_hole", "hold"]

ssh_here = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh on this machine")


class Anybody(asyncssh.SSHServer):
    """What is looked at is the way, not the door."""

    def __init__(self, connected: list[int]) -> None:
        self._connected = connected

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connected.append(1)

    def begin_auth(self, username: str) -> bool:
        return False


async def serve(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """`get N` sends N bytes, `put` answers with their digest, and else there is a shell."""
    words = (process.command or "").split()
    if words[:1] == ["get"]:
        rng, left = Random(4), int(words[1])
        while left:
            data = rng.randbytes(min(left, MB))
            process.stdout.write(data)
            await process.stdout.drain()
            left -= len(data)
    elif words[:1] == ["put"]:
        digest = hashlib.sha256()
        while data := await process.stdin.read(65_536):
            digest.update(data)
        process.stdout.write(digest.hexdigest().encode())
    else:
        while line := await process.stdin.readline():
            process.stdout.write(b"shell says " + line)
    process.exit(0)


def spoken(size: int) -> bytes:
    """What `get` sends."""
    rng, parts = Random(4), []
    while size:
        parts.append(rng.randbytes(min(size, MB)))
        size -= len(parts[-1])
    return b"".join(parts)


@asynccontextmanager
async def ssh_target(connected: list[int]) -> AsyncIterator[str]:
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        server_factory=partial(Anybody, connected),
        process_factory=serve,
        encoding=None,
    )
    try:
        yield f"127.0.0.1:{server.get_port()}"
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def ssh(local: int, *command: str) -> AsyncIterator[Process]:
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
    words = [word for option in [*options, "LogLevel=ERROR"] for word in ("-o", option)]
    process = await asyncio.create_subprocess_exec(
        *("ssh", "-F", "none", "-T", *words, "-p", str(local), "root@127.0.0.1", *command),
        stdin=PIPE,
        stdout=PIPE,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Shell:
    """Types and reads, one line after the other."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        self._lines = 0

    def type(self) -> None:
        self._lines += 1
        self._to.write(b"line %d\n" % self._lines)

    async def read(self) -> None:
        said = await asyncio.wait_for(self._from.readline(), SECONDS_MAX)
        assert said == b"shell says line %d\n" % self._lines


def break_off(network: FaultProxy, how: str) -> None:
    if how == "reset":
        network.reset_all()
        network.cut()
    else:
        getattr(network, how)()


def moved(way: WholeWay) -> int:
    usage = way.there.session.usage()
    return usage.to_device + usage.from_device


def has_moved(way: WholeWay, total: int) -> bool:
    return moved(way) >= total


async def endure(way: WholeWay, shell: Shell, breaks: list[tuple[str, float, str]]) -> None:
    """Each break comes when something has moved since the last, and the shell answers after it."""
    for side, length_s, how in breaks:
        await fact(partial(has_moved, way, moved(way) + BETWEEN), SECONDS_MAX)
        network = way.network if side == "person" else way.there.network
        break_off(network, how)
        shell.type()
        await asyncio.sleep(length_s)  # so long the network is away
        network.mend()
        await shell.read()


async def transfers(
    way: WholeWay, local: int, size: int, breaks: list[tuple[str, float, str]]
) -> None:
    """A shell, a download and an upload, each with one ssh from beginning to end."""
    data = spoken(size)
    for network in (way.network, way.there.network):
        network.to_server.bandwidth_bytes_s = network.to_client.bandwidth_bytes_s = BYTES_PER_S
    async with (
        ssh(local) as typed,
        ssh(local, f"get {size}") as getting,
        ssh(local, "put") as putting,
    ):
        shell = Shell(typed)
        shell.type()
        await shell.read()
        down = asyncio.create_task(getting.communicate())
        up = asyncio.create_task(putting.communicate(data))
        await endure(way, shell, breaks)
        for network in (way.network, way.there.network):
            network.to_server.clear()
            network.to_client.clear()
        got, _ = await asyncio.wait_for(down, SECONDS_MAX)
        assert got == data
        said, _ = await asyncio.wait_for(up, SECONDS_MAX)
        assert said.decode() == hashlib.sha256(data).hexdigest()
        shell.type()
        await shell.read()
        assert typed.returncode is None


@ssh_here
async def test_a_shell_and_two_transfers_survive_breaks_on_both_sides(tmp_path: Path) -> None:
    breaks = [
        ("device", 0.2, "cut"),
        ("person", 0.1, "reset"),
        ("device", 0.1, "reset"),
        ("person", 0.5, "cut"),
    ]
    connected: list[int] = []
    async with (
        ssh_target(connected) as target,
        whole_way(tmp_path, target) as (way, _, local),
    ):
        await transfers(way, local, 20 * MB, breaks)
        assert way.tickets == 1
    assert len(connected) == 3


@ssh_here
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_hundred_megabytes_both_ways_and_a_shell_through_22_breaks(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    rng = Random(8)
    breaks = [
        (rng.choice(("device", "device", "person")), rng.choice(LENGTHS_S), HOWS[turn % len(HOWS)])
        for turn in range(20)
    ]
    breaks[7:7] = [("device", 55.0, "cut")]
    breaks[15:15] = [("device", 55.0, "black_hole")]
    connected: list[int] = []
    async with (
        ssh_target(connected) as target,
        whole_way(tmp_path, target) as (way, _, local),
    ):
        await transfers(way, local, SIZE, breaks)
        made = way.network.connections_made + way.there.network.connections_made
        assert way.tickets == 1
        assert way.there.session.usage().opened == 3
    assert len(connected) == 3
    summary_row("breaks of a link", len(breaks), f"{made} connections, 3 visitors, 200 MB exact")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_curl_downloads_through_breaks_and_asks_once(tmp_path: Path) -> None:
    asked: list[str] = []
    data = spoken(20 * MB)

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), MB):
            writer.write(data[start : start + MB])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, whole_way(tmp_path, target) as (way, _, local):
        for network in (way.network, way.there.network):
            network.to_client.bandwidth_bytes_s = BYTES_PER_S
        curl = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--fail", "--max-time", "60", "--output", str(tmp_path / "got")),
            f"http://127.0.0.1:{local}/",
        )
        try:
            for network in (way.there.network, way.network, way.there.network):
                await fact(partial(has_moved, way, moved(way) + BETWEEN), SECONDS_MAX)
                network.reset_all()
            assert await asyncio.wait_for(curl.wait(), SECONDS_MAX) == 0
        finally:
            if curl.returncode is None:
                curl.kill()
                await curl.wait()
    assert (tmp_path / "got").read_bytes() == data
    assert len(asked) == 1
