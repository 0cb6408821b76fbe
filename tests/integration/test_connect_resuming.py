"""`fleetgate connect` over breaks of its own network and of the device's, with a real relay."""

import asyncio
from pathlib import Path

import pytest

from firmware_sim.network import FaultProxy
from tests.relay_rig import fact
from tests.resuming_rig import expected
from tests.whole_way import WholeWay, whole_way

MIB = 1 << 20
LIMIT_S = 60.0


async def line(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readline(), LIMIT_S)


async def download(local: int, size: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", local)
    writer.write(b"get %d\n" % size)
    got = await asyncio.wait_for(reader.readexactly(size), LIMIT_S)
    writer.close()
    return got


async def upload(local: int, size: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", local)
    writer.write(b"put %d\n" % size + expected(size))
    said = await line(reader)
    writer.close()
    return said


async def broken(way: WholeWay, network: FaultProxy, how: str) -> None:
    """One break, until somebody has dialled again."""
    made = network.connections_made
    getattr(network, how)()
    if how == "cut":
        session = way.there.session
        gone = (
            (lambda: not session.usage().visitors)
            if network is way.network
            else (lambda: session.link is None)
        )
        await fact(gone)
    else:
        await fact(lambda: network.connections_made > made)
    network.mend()


@pytest.mark.parametrize("how", ["cut", "reset_all", "black_hole"])
async def test_what_is_open_survives_a_break_of_the_persons_own_network(
    tmp_path: Path, how: str
) -> None:
    async with whole_way(tmp_path) as (way, running, local):
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"before\n")
        assert await line(reader) == b"before\n"
        getting = asyncio.create_task(download(local, 16 * MIB))
        putting = asyncio.create_task(upload(local, 8 * MIB))
        await fact(lambda: way.there.session.usage().from_device > MIB)
        await broken(way, way.network, how)
        writer.write(b"after\n")
        assert await line(reader) == b"after\n"
        assert await getting == expected(16 * MIB)
        assert await putting == b"%d same\n" % (8 * MIB)
        assert way.tickets == 1  # the secret does
        assert way.there.session.usage().opened == 3
        assert running.process.returncode is None
        writer.close()


async def test_both_sides_break_at_once(tmp_path: Path) -> None:
    async with whole_way(tmp_path) as (way, _, local):
        getting = asyncio.create_task(download(local, 16 * MIB))
        await fact(lambda: way.there.session.usage().from_device > MIB)
        way.network.cut()
        way.there.network.cut()
        await fact(lambda: way.there.session.link is None)
        await fact(lambda: not way.there.session.usage().visitors)
        way.there.network.mend()
        way.network.mend()
        assert await getting == expected(16 * MIB)
        assert way.there.session.usage().opened == 1


async def test_a_visitor_that_is_forgotten_begins_with_a_new_ticket(tmp_path: Path) -> None:
    async with whole_way(tmp_path) as (way, _, local):
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"before\n")
        assert await line(reader) == b"before\n"
        way.network.cut()
        await fact(lambda: not way.there.session.usage().visitors)
        way.rig.clock.moved_s += 61
        way.rig.lease()
        way.rig.relay.sessions.sweep()
        assert not way.there.session.callers()
        way.network.mend()
        with pytest.raises(ConnectionResetError):
            await line(reader)
        assert await download(local, 1_000) == expected(1_000)
        assert way.tickets == 2
        writer.close()


async def test_a_session_that_ends_meanwhile_ends_the_program(tmp_path: Path) -> None:
    async with whole_way(tmp_path) as (way, running, _):
        way.network.cut()
        await fact(lambda: not way.there.session.usage().visitors)
        way.there.session.end("closed")
        way.network.mend()
        await running.says("somebody closed it")
        assert await running.ends() == 1
