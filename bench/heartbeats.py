"""Heartbeats of a bulk fleet, as they come from the MQTT server."""

import random

import mqtt5

from bench.bulk_fleet import BulkFleet, reported, run_of, serial
from gateway.ingest.batch import RECEIPT_EVERY, Incoming
from gateway.ingest.intake import read_payload
from wire.fields import Value
from wire.heartbeat import Message, Sample, encode_message
from wire.topics import parse_device_topic

# What changes from one sample to the next on a moving LTE router, and around which value.
DELTA = {1: 100_000, 9: -71, 10: -101, 23: 45_844_315_341, 24: 1_658_175_509}


class Reports:
    """Makes the packets of a bulk fleet whose devices report in turn."""

    def __init__(self, rng: random.Random, fleet: BulkFleet) -> None:
        self._rng = rng
        self._runs = [run_of(id_) for id_ in range(1, fleet.devices + 1)]
        self._numbers = [reported(id_) for id_ in range(1, fleet.devices + 1)]
        self._next = 0

    def packets(self, count: int) -> list[mqtt5.PublishPacket]:
        """One heartbeat each of the next `count` devices."""
        made = []
        for _ in range(count):
            index = self._next
            self._next = (index + 1) % len(self._runs)
            number = self._numbers[index] + 1
            self._numbers[index] = number
            base = (number - 1) // RECEIPT_EVERY * RECEIPT_EVERY
            values: dict[int, Value] = {id_: self._value(id_) for id_ in DELTA}
            run = self._runs[index]
            message = Message(
                run, run, 1, base, base + 1, 60, False, 0, None, [Sample(number, 12, values)]
            )
            made.append(
                mqtt5.PublishPacket(f"fg1/d/{serial(index + 1)}/hb", encode_message(message))
            )
        return made

    def _value(self, id_: int) -> int:
        often = self._rng.randint(0, 9_999) if id_ in (1, 23, 24) else self._rng.randint(-5, 5)
        return DELTA[id_] + often


def incoming(data: bytes, now_ms: int) -> Incoming:
    """A message as the gateway's session hands it over."""
    packet, _ = mqtt5.read(memoryview(data))
    assert isinstance(packet, mqtt5.PublishPacket)
    found = parse_device_topic(packet.topic)
    assert found is not None
    serial_, leaf = found
    return Incoming(serial_, read_payload(packet.topic, leaf, packet.payload), now_ms)
