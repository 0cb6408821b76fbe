"""The simulator's arithmetic: shares, histograms, the journal, the packets of the swarm."""

import asyncio
import json
from pathlib import Path

import mqtt5
import pytest

from firmware_sim.__main__ import main
from firmware_sim.fleet import shares
from firmware_sim.journal import JournalFile
from firmware_sim.profiles import FIRST_SERIAL
from firmware_sim.swarm import Latencies
from firmware_sim.swarm_device import SwarmDevice
from firmware_sim.world import World
from wire.heartbeat import Message, Receipt, encode_receipt, parse_message

SHARES = [
    # routers  processes  shares
    (25, 1, [(0, 25)]),
    (25, 2, [(0, 13), (13, 12)]),
    (2, 4, [(0, 1), (1, 1)]),
]


def test_routers_are_shared_out_evenly() -> None:
    for routers, processes, expected in SHARES:
        assert shares(routers, processes) == expected


def test_percentiles_of_a_histogram() -> None:
    latencies = Latencies()
    assert latencies.percentile_ms(99) == 0
    for milliseconds in range(100):
        latencies.add(milliseconds / 1_000 + 0.0001)
    latencies.add(500.0)
    assert latencies.percentile_ms(50) == 51
    assert latencies.max_s == 500.0
    assert latencies.within(2.0) == 100 and latencies.count == 101


def test_the_journal_is_lines_that_two_processes_can_write(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first, second = JournalFile(path), JournalFile(path)
    first.made("1100000001", "r" * 11, 1, 5)
    second.receipted("1100000001", "r" * 11, [1, 2], 6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"event": event, "serial": "1100000001", "run": "r" * 11, "number": number, "at": at}
        for event, number, at in (("made", 1, 5), ("receipted", 1, 6), ("receipted", 2, 6))
    ]
    assert (first.made_count, second.receipted_count) == (1, 2)
    first.close()
    second.close()


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None: ...


async def test_swarm_heartbeats_are_real_ones_and_follow_receipts() -> None:
    settled: list[tuple[int, float]] = []
    device = SwarmDevice(
        World(1, FIRST_SERIAL), "password", lambda _, numbers: settled.extend(numbers)
    )
    wire = Wire()
    device.connection_made(wire)

    def sent(*, ask: bool = False) -> Message:
        size = device.send(1.0, ask=ask)
        packet, read = mqtt5.read(memoryview(wire.written[-1]))
        assert size == read == len(wire.written[-1])
        assert isinstance(packet, mqtt5.PublishPacket)
        assert packet.topic == f"fg1/d/{device.serial}/hb"
        return parse_message(json.loads(packet.payload))

    def receive(receipt: Receipt) -> None:
        packet = mqtt5.PublishPacket("fg1/c/x/ok", encode_receipt(receipt)).write()
        for position in range(len(packet)):
            device.data_received(packet[position : position + 1])

    first, second = sent(), sent()
    assert (first.base, first.ask, second.base, second.ask) == (0, True, 0, False)
    assert len(first.samples[0].values) > 25
    receive(Receipt(device.run, 2, (), 1, 4))
    third = sent()
    assert (third.base, third.low, len(third.samples[0].values)) == (2, 3, 5)
    sent()
    receive(Receipt(device.run, 2, ((4, 4),), 1, 4, full=True))
    assert [number for number, _ in settled] == [1, 2, 4]
    fifth = sent(ask=True)
    assert (fifth.base, fifth.low, fifth.ask) == (0, 3, True)
    assert device.unreceipted == 2


def test_wrong_use_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [],
        ["fleet"],
        ["fleet", "--join", "fg1:abc"],
        ["swarm"],
        ["swarm", "--plain-mqtt", "x"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2, words
    capsys.readouterr()
