"""The bad network of the simulator: what it does to bytes that arrive, and its limits."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from firmware_sim.network import FaultProxy
from firmware_sim.network.faults import QUEUE_S_MAX, READ_BYTES_MAX, Faults
from tests.integration.echo_network import REST_S, Echo, dialled, echo_server, echoed, until

SOME_BYTES = 3_000_000
FEW_BYTES = 40_000


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as made:
        yield made


@pytest.fixture
async def network(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", echo.port, rng=Random(7)) as made:
        yield made


async def round_trip_s(port: int) -> float:
    async with dialled(port) as (reader, writer):
        began_s = time.monotonic()
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        return time.monotonic() - began_s


def both(network: FaultProxy) -> Iterator[Faults]:
    yield network.to_server
    yield network.to_client


def test_settings_change_both_ways() -> None:
    faults = Faults(latency_ms=5, slice_bytes=1)
    faults.clear()
    assert faults == Faults()


def test_a_narrow_link_has_a_short_queue() -> None:
    faults, now_s, entered = Faults(bandwidth_bytes_s=100_000), 10.0, 0
    while room := faults.room(now_s):
        entered += room
        assert faults.due_s(now_s, room, Random(1)) == pytest.approx(now_s + entered / 100_000)
    assert entered / 100_000 == pytest.approx(QUEUE_S_MAX, rel=0.2)
    later_s = faults.room_at_s(now_s)
    assert now_s < later_s <= now_s + QUEUE_S_MAX
    assert faults.room(later_s) > 0
    assert Faults().room(now_s) == READ_BYTES_MAX


FAULTS: dict[str, tuple[int, dict[str, float]]] = {
    "none": (SOME_BYTES, {}),
    "latency": (SOME_BYTES, {"latency_ms": 20}),
    "jitter": (SOME_BYTES, {"latency_ms": 5, "jitter_ms": 5}),
    "bandwidth": (200_000, {"bandwidth_bytes_s": 1_000_000}),
    "slices": (FEW_BYTES, {"slice_bytes": 7}),
    "slices with pauses": (300, {"slice_bytes": 3, "slice_pause_ms": 1}),
    "everything": (
        FEW_BYTES,
        {
            "latency_ms": 10,
            "jitter_ms": 10,
            "bandwidth_bytes_s": 500_000,
            "slice_bytes": 900,
            "slice_pause_ms": 0.5,
        },
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_bytes_arrive_whole_and_in_order(name: str, network: FaultProxy) -> None:
    count, settings = FAULTS[name]
    for faults in both(network):
        for setting, value in settings.items():
            setattr(faults, setting, value)
    data = Random(name).randbytes(count)
    answers = await asyncio.gather(*(echoed(network.port, data) for _ in range(3)))
    assert all(answer == data for answer in answers)
    for faults in both(network):
        assert (faults.taken_bytes, faults.delivered_bytes) == (3 * count, 3 * count)
        assert (faults.swallowed_bytes, faults.in_flight_bytes) == (0, 0)
    await until(lambda: network.connections == 0)
    assert network.connections_made == 3


async def test_small_pieces_keep_their_order_under_jitter(network: FaultProxy) -> None:
    network.to_server.latency_ms = network.to_server.jitter_ms = 3
    async with dialled(network.port) as (reader, writer):
        for number in range(200):
            writer.write(number.to_bytes(2, "big"))
            await asyncio.sleep(0)
        answer = await reader.readexactly(400)
    assert answer == b"".join(number.to_bytes(2, "big") for number in range(200))


async def test_one_seed_makes_one_story() -> None:
    faults = Faults(latency_ms=50, jitter_ms=20)
    first, second = (
        [faults.due_s(0.0, 1, rng) for _ in range(5)] for rng in (Random(3), Random(3))
    )
    assert first == second
    assert all(0.030 <= due_s <= 0.070 for due_s in first) and len(set(first)) == 5


async def test_latency_is_what_was_asked_for(network: FaultProxy) -> None:
    quick_s = min([await round_trip_s(network.port) for _ in range(5)])
    network.to_server.latency_ms, network.to_client.latency_ms = 60, 40
    slow_s = min([await round_trip_s(network.port) for _ in range(5)])
    assert 0.098 <= slow_s - quick_s <= 0.130
    network.to_client.clear()
    assert 0.055 <= min([await round_trip_s(network.port) for _ in range(3)]) <= 0.095


async def test_latency_does_not_limit_throughput(network: FaultProxy) -> None:
    network.to_server.latency_ms = network.to_client.latency_ms = 50
    data = bytes(20_000_000)
    began_s = time.monotonic()
    assert len(await echoed(network.port, data)) == len(data)
    # A network that waited for each 256 KiB would need 4 s and more.
    assert time.monotonic() - began_s < 3.0


async def test_bandwidth_is_kept_and_can_be_lifted(network: FaultProxy) -> None:
    network.to_server.bandwidth_bytes_s = 400_000
    began_s = time.monotonic()
    await echoed(network.port, bytes(200_000))
    taken_s = time.monotonic() - began_s
    assert 0.45 <= taken_s <= 0.9
    network.to_server.bandwidth_bytes_s = 1
    async with asyncio.timeout(5), dialled(network.port) as (reader, writer):
        writer.write(b"x" * 1_000)
        await until(lambda: network.to_server.taken_bytes > 200_000)
        network.to_server.clear()
        assert len(await reader.readexactly(1_000)) == 1_000


async def test_slices_come_one_at_a_time(network: FaultProxy) -> None:
    network.to_client.slice_bytes, network.to_client.slice_pause_ms = 2, 20
    async with dialled(network.port) as (reader, writer):
        writer.write(b"abcdef")
        assert [await reader.read(100) for _ in range(3)] == [b"ab", b"cd", b"ef"]


async def test_the_network_stops_reading_at_its_limit(echo: Echo) -> None:
    limit = 1_000_000
    async with FaultProxy("127.0.0.1", echo.port, in_flight_bytes_max=limit) as network:
        network.to_server.latency_ms = 60_000
        with socket.create_connection(("127.0.0.1", network.port)) as client:
            client.setblocking(False)
            sent = 0

            def stuck() -> bool:
                nonlocal sent
                try:
                    sent += client.send(bytes(1_000_000))
                except BlockingIOError:
                    return network.to_server.in_flight_bytes >= limit
                return False

            await until(stuck)
            in_flight = network.to_server.in_flight_bytes
            assert limit <= in_flight < limit + READ_BYTES_MAX
            await asyncio.sleep(REST_S)
            assert network.to_server.in_flight_bytes == in_flight
            assert not stuck() or sent > in_flight


async def test_a_limit_smaller_than_the_path_still_moves_everything(echo: Echo) -> None:
    async with FaultProxy("127.0.0.1", echo.port, in_flight_bytes_max=100_000) as network:
        network.to_server.latency_ms = network.to_client.latency_ms = 2
        data = Random(2).randbytes(SOME_BYTES)
        assert await echoed(network.port, data) == data


async def test_more_connections_than_allowed_are_refused(echo: Echo) -> None:
    async with FaultProxy("127.0.0.1", echo.port, connections_max=2) as network:
        async with dialled(network.port), dialled(network.port):
            await until(lambda: network.connections == 2)
            async with dialled(network.port) as (reader, _):
                assert await reader.read() == b""
            assert (network.connections_made, network.connections_refused) == (2, 1)
        await until(lambda: network.connections == 0)
        assert await echoed(network.port, b"room again") == b"room again"


async def test_who_roams_comes_from_another_address_each_time() -> None:
    seen: list[tuple[str, int]] = []

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(look, "127.0.0.1", 0)
    async with (
        server,
        FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1], roaming=True) as network,
    ):
        for _ in range(300):
            async with dialled(network.port) as (reader, _):
                assert await reader.read() == b""
    assert len({host for host, _ in seen}) == 300
    assert "127.0.0.1" not in dict(seen)


async def test_leaving_closes_everything_at_once(echo: Echo) -> None:
    async with FaultProxy("127.0.0.1", echo.port) as network:
        network.to_client.latency_ms = 60_000
        reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
        writer.write(bytes(SOME_BYTES))
        await until(lambda: network.to_client.in_flight_bytes > 0)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", network.port)
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass  # its last bytes were not read
    writer.close()
    assert network.connections == 0
