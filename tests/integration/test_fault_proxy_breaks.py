"""The bad network of the simulator: cuts, resets, black holes, and holds without a loss."""

import asyncio
import socket
from collections.abc import AsyncIterator
from random import Random

import pytest

from firmware_sim.network import FaultProxy
from tests.integration.echo_network import REST_S, Echo, dialled, echo_server, echoed, until

SOME_BYTES = 3_000_000


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as made:
        yield made


@pytest.fixture
async def network(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", echo.port, rng=Random(7)) as made:
        yield made


async def test_a_cut_ends_with_fin_and_refuses_until_mended(
    network: FaultProxy, echo: Echo
) -> None:
    async with dialled(network.port) as (reader, writer):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        network.to_client.latency_ms = 10_000
        writer.write(b"lost")
        await until(lambda: network.to_client.in_flight_bytes == 4)
        network.cut()
        assert await reader.read() == b""
        await until(lambda: echo.ended == 1)
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", network.port)
            network.cut()
        # The other side may still be talking, and is not reset for it.
        writer.write(b"?")
        await writer.drain()
    await until(lambda: network.connections == 0)
    assert network.to_client.in_flight_bytes == 0
    network.mend()
    network.to_client.clear()
    assert await echoed(network.port, b"after") == b"after"


async def test_a_side_that_does_not_hang_up_after_a_cut_is_closed(network: FaultProxy) -> None:
    async with dialled(network.port) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        network.cut()
        assert await reader.read() == b""
        await until(lambda: network.connections == 0)


async def test_a_reset_is_seen_as_one_on_both_sides(network: FaultProxy, echo: Echo) -> None:
    async with dialled(network.port) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        network.reset_all()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await until(lambda: echo.ended == 1)
    assert network.connections == 0
    assert await echoed(network.port, b"again") == b"again"


async def test_a_reset_at_a_byte(network: FaultProxy, echo: Echo) -> None:
    network.to_server.reset_after_bytes = 1_000
    async with dialled(network.port) as (reader, writer):
        writer.write(bytes(600))
        await reader.readexactly(600)
        writer.write(bytes(600))
        with pytest.raises(ConnectionResetError):
            await reader.read()
    assert network.to_server.delivered_bytes == 1_000


async def test_a_reset_of_one_side_reaches_the_other_behind_its_bytes(network: FaultProxy) -> None:
    network.to_client.latency_ms = 50

    async def say_and_reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last words")
        linger = b"\x01\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await asyncio.sleep(0.01)
        writer.transport.abort()

    server = await asyncio.start_server(say_and_reset, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as short:
        short.to_client.latency_ms = 50
        async with dialled(short.port) as (reader, _):
            assert await reader.readexactly(10) == b"last words"
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_a_server_that_refuses_is_seen_as_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as network, dialled(network.port) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_half_close_leaves_the_other_way_open(network: FaultProxy) -> None:
    async with dialled(network.port) as (reader, writer):
        network.to_client.latency_ms = 100
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"question"


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(REST_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_a_black_hole_swallows_and_never_answers(network: FaultProxy, echo: Echo) -> None:
    async with dialled(network.port) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        network.black_hole()
        async with dialled(network.port) as (late_reader, late_writer):
            for one in (writer, late_writer):
                one.write(bytes(1_000))
                one.write_eof()
            assert await is_silent(reader) and await is_silent(late_reader)
            assert network.to_server.swallowed_bytes == 2_000
            assert (echo.accepted, echo.got_bytes) == (1, 1)
            network.mend()
            for answer in (reader, late_reader):
                with pytest.raises(ConnectionResetError):
                    await answer.read()
    assert await echoed(network.port, b"again") == b"again"


async def test_a_black_hole_in_one_direction(network: FaultProxy, echo: Echo) -> None:
    async with dialled(network.port) as (reader, writer), dialled(network.port) as (idle, _):
        await until(lambda: echo.accepted == 2)
        network.black_hole(to_server=False)
        writer.write(b"heard")
        await until(lambda: network.to_client.swallowed_bytes == 5)
        assert echo.got_bytes == 5 and await is_silent(reader)
        network.mend()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        # This one lost nothing, and goes on.
        assert await is_silent(idle)


async def test_a_hold_loses_nothing(network: FaultProxy, echo: Echo) -> None:
    data = Random(1).randbytes(SOME_BYTES)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(echoed(network.port, data))
        await until(lambda: echo.got_bytes > 0)
        network.hold()
        held_at = network.to_server.delivered_bytes
        await asyncio.sleep(REST_S)
        assert network.to_server.delivered_bytes == held_at
        network.mend()
        assert await asking == data


@pytest.mark.parametrize("seed", range(3))
async def test_faults_that_change_all_the_time_keep_every_byte(
    network: FaultProxy, seed: int
) -> None:
    rng = Random(seed)
    data = [rng.randbytes(rng.choice([1, 1_000, SOME_BYTES])) for _ in range(6)]
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(echoed(network.port, one)) for one in data]
        for _ in range(40):
            for faults in (network.to_server, network.to_client):
                faults.latency_ms = rng.choice([0, 3, 30])
                faults.jitter_ms = rng.choice([0, 3])
                faults.bandwidth_bytes_s = rng.choice([0, 20_000_000])
                faults.slice_bytes = rng.choice([0, 0, 1_000])
            network.hold(to_server=rng.random() < 0.3, to_client=rng.random() < 0.3)
            await asyncio.sleep(rng.uniform(0, 0.02))
        network.mend()
        for faults in (network.to_server, network.to_client):
            faults.clear()
        answers = [await one for one in asking]
    assert [len(answer) for answer in answers] == [len(one) for one in data]
    assert answers == data
    await until(lambda: network.connections == 0)
    assert network.to_server.in_flight_bytes == network.to_client.in_flight_bytes == 0
