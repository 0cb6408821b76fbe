"""The bare prototype beside which ingest is measured: decode, store, receipt, no rule at all."""

import json
import sqlite3
import time
from pathlib import Path

import mqtt5
import msgspec


class Prototype:
    """What any gateway must at least do for a heartbeat: it trusts everything it is told."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE run (serial TEXT PRIMARY KEY, run TEXT, upto INTEGER, at INTEGER);"
            "CREATE TABLE heartbeat (id INTEGER PRIMARY KEY, serial TEXT, number INTEGER,"
            " at INTEGER, fields BLOB);"
            "CREATE INDEX by_device ON heartbeat (serial, at);"
        )
        self._decode = msgspec.json.Decoder().decode

    def take(self, packets: list[bytes], now_ms: int) -> float:
        """CPU seconds for one batch."""
        begin = time.process_time()
        runs, rows, receipts = [], [], []
        for data in packets:
            packet, _ = mqtt5.read(memoryview(data))
            assert isinstance(packet, mqtt5.PublishPacket)
            serial = packet.topic.split("/")[2]
            message = self._decode(packet.payload)
            number, age_ms, fields = message[9][0]
            runs.append((serial, message[0], number, now_ms))
            rows.append((serial, number, now_ms - age_ms, msgspec.json.encode(fields)))
            if number % 4 == 0:
                body = json.dumps([message[0], number]).encode()
                receipts.append(mqtt5.PublishPacket(f"fg1/c/{serial}/ok", body).write())
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?)", runs)
        self._database.executemany(
            "INSERT INTO heartbeat (serial, number, at, fields) VALUES (?, ?, ?, ?)", rows
        )
        self._database.execute("COMMIT")
        return time.process_time() - begin

    def close(self) -> None:
        """Closes its database."""
        self._database.close()
