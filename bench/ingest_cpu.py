"""CPU per heartbeat of the gateway's ingest: decode, one transaction a batch, receipts."""

import random
import statistics
import time
from contextlib import closing
from pathlib import Path

import mqtt5
from sqlalchemy import Connection, insert, text

from bench.prototype import Prototype
from gateway.command.gateway import tune_collector
from gateway.ingest.batch import BATCH_MESSAGES_MAX, RECEIPT_EVERY, Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.storage.latest_values import NOTHING
from gateway.storage.migrate import migrate
from gateway.storage.schema import company, company_path, device, device_latest, device_live
from gateway.storage.store import sqlite_engine
from gateway.storage.transaction import Transaction
from wire.fields import Value
from wire.heartbeat import Message, Sample, encode_message, new_run
from wire.topics import parse_device_topic

DEVICES = 5_000
BATCHES = 60
WARM_UP = 12  # the first round carries full samples and new runs
DAY_MS = 86_400_000
START_MS = 1_780_000_000_000
# What changes from one sample to the next on a moving LTE router.
DELTA = (1, 9, 10, 23, 24)
FULL: dict[int, Value] = {
    1: 100_000,
    2: 42,
    3: 246_000,
    4: 130_000,
    7: 412,
    9: -71,
    10: -101,
    11: -11,
    12: 9,
    13: "LT BITE GSM",
    14: "LTE",
    15: "Registered, home",
    16: "Connected",
    17: "1234567",
    19: "LTE B3",
    20: 1,
    23: 45_844_315_341,
    24: 1_658_175_509,
    27: "10.66.12.7",
    29: "RUTX11",
    30: "RUTX11",
    31: "RUTX_R_00.07.06.1",
}


def prepare(path: Path) -> None:
    """A company with active devices, as the gateway itself would have made them."""
    migrate(path)
    engine = sqlite_engine(path, writing=True)
    with engine.begin() as connection:
        connection.execute(
            insert(company),
            {
                "id": 1,
                "name": "Bench",
                "name_key": "bench",
                "plan": "block",
                "use_parent_credits": False,
                "grace_days": 3,
                "extend_unheard": False,
                "reference": "",
                "created_at": START_MS,
            },
        )
        connection.execute(insert(company_path), {"ancestor_id": 1, "descendant_id": 1, "depth": 0})
        connection.execute(insert(device), [_device(number) for number in range(DEVICES)])
        connection.execute(insert(device_live), [_live(number) for number in range(DEVICES)])
        connection.execute(
            insert(device_latest),
            [{"device_id": number + 1, "latest": NOTHING} for number in range(DEVICES)],
        )
    engine.dispose()


def _device(number: int) -> dict[str, object]:
    return {
        "id": number + 1,
        "serial": serial(number),
        "company_id": 1,
        "registered": True,
        "name": f"router {number}",
        "tags": "[]",
        "notes": "",
        "reference": "",
        "registered_at": START_MS,
        "first_heard_at": START_MS,
        "start": "on_contact",
        "auto_extend": True,
        "state": "active",
        "reason": "paid",
        "period_start": START_MS,
        "period_end": START_MS + 30 * DAY_MS,
        "payer_id": 1,
    }


def _live(number: int) -> dict[str, object]:
    return {
        "device_id": number + 1,
        "node": "node-1",
        "last_day": START_MS // DAY_MS,
        "interval_s": 60,
        "presence": "online",
        "late_at": 0,
        "offline_at": 0,
        "need_full": True,
        "command_n": 0,
        "recent": NOTHING,
        "supersessions": 0,
        "supersessions_since": 0,
        "commanded_at": 0,
        "repeats": 0,
        "lost": 0,
        "dropped": 0,
        "ignored_fields": 0,
        "malformed": 0,
    }


def serial(number: int) -> str:
    """Ten digits, as Teltonika's."""
    return f"{1_100_000_000 + number}"


class Fleet:
    """Makes the packets of devices that report in turn."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._runs = [new_run() for _ in range(DEVICES)]
        self._numbers = [0] * DEVICES
        self._next = 0

    def packets(self, count: int) -> list[mqtt5.PublishPacket]:
        """One heartbeat each of the next `count` devices."""
        made = []
        for _ in range(count):
            index = self._next
            self._next = (index + 1) % DEVICES
            number = self._numbers[index] + 1
            self._numbers[index] = number
            values: dict[int, Value] = dict(FULL)
            base = 0
            if number > 1:
                # Receipts come at numbers divisible by `every`; before the first: full ones.
                base = (number - 1) // RECEIPT_EVERY * RECEIPT_EVERY
                values = {id_: int(FULL[id_]) + self._delta(id_) for id_ in DELTA}
            run = self._runs[index]
            message = Message(
                run, run, 1, base, 1, 60, False, 0, None, [Sample(number, 12, values)]
            )
            made.append(mqtt5.PublishPacket(f"fg1/d/{serial(index)}/hb", encode_message(message)))
        return made

    def _delta(self, id_: int) -> int:
        return self._rng.randint(0, 9_999) if id_ in (1, 23, 24) else self._rng.randint(-5, 5)


class Gateway:
    """The gateway's own way from the packets of a batch to the receipts' bytes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.receipts = 0

    def take(self, packets: list[bytes], now_ms: int) -> dict[str, float]:
        """CPU seconds by part."""
        begin = time.process_time()
        batch = [_incoming(data, now_ms) for data in packets]
        decoded = time.process_time()
        with self._connection.begin():
            tx = Transaction(self._connection, now_ms, "00000000-0000-0000-0000-000000000000")
            outcome = take_batch(tx, batch, Terms("node-1", now_ms, RECEIPT_EVERY, 50))
        committed = time.process_time()
        sent = [mqtt5.PublishPacket(topic, body).write() for topic, body in outcome.receipts]
        end = time.process_time()
        self.receipts += len(sent)
        assert outcome.stored == len(packets)
        return {
            "decode": decoded - begin,
            "transaction": committed - decoded,
            "receipts": end - committed,
        }


def measure(folder: Path, *, seed: int = 1) -> dict[str, float]:
    """µs of CPU per heartbeat, median over batches; the prototype takes the same packets in turn.

    Batch by batch in turn, so that a slow moment of the machine meets both.
    """
    path = folder / "ingest.db"
    prepare(path)
    engine = sqlite_engine(path, writing=True)
    fleet = Fleet(random.Random(seed))
    tune_collector()
    ours: dict[str, list[float]] = {"decode": [], "transaction": [], "receipts": [], "total": []}
    peers: list[float] = []
    with engine.connect() as connection, closing(Prototype(folder / "prototype.db")) as prototype:
        gateway = Gateway(connection)
        for number in range(WARM_UP + BATCHES):
            packets = [packet.write() for packet in fleet.packets(BATCH_MESSAGES_MAX)]
            now_ms = START_MS + 1_000 + number * 5_000
            spent = gateway.take(packets, now_ms)
            spent["total"] = sum(spent.values())
            peer = prototype.take(packets, now_ms)
            if number >= WARM_UP:
                peers.append(peer)
                for name, seconds in spent.items():
                    ours[name].append(seconds)
        with connection.begin():
            held = connection.execute(text("SELECT count(*) FROM heartbeat")).scalar_one()
    engine.dispose()
    assert held == (WARM_UP + BATCHES) * BATCH_MESSAGES_MAX
    assert gateway.receipts > 0
    row = {name: _us(seconds) for name, seconds in ours.items()}
    ratios = [ours_s / peer_s for ours_s, peer_s in zip(ours["total"], peers, strict=True)]
    return {**row, "prototype": _us(peers), "ratio": statistics.median(ratios)}


def _us(seconds: list[float]) -> float:
    """Per heartbeat, in the median batch."""
    return statistics.median(seconds) * 1e6 / BATCH_MESSAGES_MAX


def _incoming(data: bytes, now_ms: int) -> Incoming:
    packet, _ = mqtt5.read(memoryview(data))
    assert isinstance(packet, mqtt5.PublishPacket)
    found = parse_device_topic(packet.topic)
    assert found is not None
    serial_, leaf = found
    return Incoming(serial_, read_payload(packet.topic, leaf, packet.payload), now_ms)
