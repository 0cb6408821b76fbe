"""CPU per heartbeat of the gateway's ingest: decode, one transaction a batch, receipts."""

import asyncio
import random
import statistics
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import mqtt5

from bench.bulk_fleet import NODE, BulkFleet
from bench.engines import Database, new_database
from bench.heartbeats import Reports, incoming
from bench.prototype import Prototype
from gateway.command.gateway import tune_collector
from gateway.ingest.batch import BATCH_MESSAGES_MAX, RECEIPT_EVERY, Terms, take_batch
from gateway.storage.store import Lane, Store
from tests.databases import store_of

DEVICES = 5_000
BATCHES = 60
WARM_UP = 12  # the first round carries full samples and new runs
DAY_MS = 86_400_000
START_MS = 1_780_000_000_000


class Gateway:
    """The gateway's own way from the packets of a batch to the receipts' bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.receipts = 0

    async def take(self, packets: list[bytes], now_ms: int) -> dict[str, float]:
        """CPU seconds by part, of all threads of this process."""
        begin = time.process_time()
        batch = [incoming(data, now_ms) for data in packets]
        decoded = time.process_time()
        terms = Terms(NODE, now_ms, RECEIPT_EVERY, 50)
        work = partial(take_batch, batch=batch, terms=terms)
        outcome = await self._store.write(work, lane=Lane.INGEST)
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


def measure(folder: Path, engine: str, *, seed: int = 1) -> dict[str, float]:
    """µs of CPU per heartbeat, median over batches; the prototype takes the same packets in turn.

    Batch by batch in turn, so that a slow moment of the machine meets both.
    """
    tune_collector()
    with new_database(engine, folder) as database:
        return asyncio.run(_measure(folder, database, random.Random(seed)))


async def _measure(folder: Path, database: Database, rng: random.Random) -> dict[str, float]:
    now_ms = START_MS
    store = store_of(database.address, lambda: now_ms)
    ours: dict[str, list[float]] = {"decode": [], "transaction": [], "receipts": [], "total": []}
    peers: list[float] = []
    try:
        fleet = BulkFleet(DEVICES, START_MS, START_MS + 30 * DAY_MS, START_MS)
        await store.write(fleet.add)
        database.settle()
        reports, gateway = Reports(rng, fleet), Gateway(store)
        server_s = 0.0
        with closing(Prototype(folder / "prototype.db")) as prototype:
            for number in range(WARM_UP + BATCHES):
                packets = [packet.write() for packet in reports.packets(BATCH_MESSAGES_MAX)]
                now_ms = START_MS + 1_000 + number * 5_000
                if number == WARM_UP:
                    server_s = database.server_cpu_s()
                spent = await gateway.take(packets, now_ms)
                spent["total"] = sum(spent.values())
                peer = prototype.take(packets, now_ms)
                if number >= WARM_UP:
                    peers.append(peer)
                    for name, seconds in spent.items():
                        ours[name].append(seconds)
        server_s = database.server_cpu_s() - server_s
        held = await store.read(lambda tx: tx.fetch("SELECT count(*) FROM heartbeat")[0][0])
    finally:
        store.close()
    assert held == (WARM_UP + BATCHES) * BATCH_MESSAGES_MAX
    assert gateway.receipts > 0
    row = {name: _us(seconds) for name, seconds in ours.items()}
    row["server"] = server_s * 1e6 / (BATCHES * BATCH_MESSAGES_MAX)
    ratios = [ours_s / peer_s for ours_s, peer_s in zip(ours["total"], peers, strict=True)]
    return {**row, "prototype": _us(peers), "ratio": statistics.median(ratios)}


def _us(seconds: list[float]) -> float:
    """Per heartbeat, in the median batch."""
    return statistics.median(seconds) * 1e6 / BATCH_MESSAGES_MAX
