"""A simulated router's LAN for tests, and doors to it for clients that need a port."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from firmware_sim.lan.facts import RouterFacts
from firmware_sim.lan.lan import SimulatedLan

COMMAND_S_MAX = 20.0
HOSTNAME = "RUT241-0001"
FACTS = RouterFacts(
    "1100000001",
    HOSTNAME,
    "RUT241",
    "RUT2M_R_00.07.22.3",
    lambda: {"uptime": 90_000, "rssi": -70, "rsrp": -98, "sinr": 11, "operator": "LT <BITE>"},
)


@asynccontextmanager
async def lan_in(folder: Path) -> AsyncIterator[SimulatedLan]:
    """One router's network, ended afterwards."""
    made = SimulatedLan(folder, FACTS)
    try:
        yield made
    finally:
        await made.close()


async def connect(
    lan: SimulatedLan, address: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, protocol = await lan.dial(
        lambda: asyncio.StreamReaderProtocol(reader), address, port
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # one end is already gone
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def door_to(lan: SimulatedLan, address: str, port: int) -> AsyncIterator[int]:
    """A port of this machine that leads to a target of the LAN, for clients that need one."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await connect(lan, address, port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pump(reader, inner_writer))
                tasks.create_task(pump(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def output_of(*words: str, stdin: bytes = b"", code: int = 0) -> bytes:
    """What a program writes; both streams are shown when it fails."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(COMMAND_S_MAX):
            out, error = await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == code, (out, error)
    return out
