"""Collects messages into batches, has them stored, then sends the receipts."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import mqtt5
import msgspec
from sqlalchemy.exc import DBAPIError

from gateway.clock import Clock
from gateway.ingest.batch import (
    BATCH_MESSAGES_MAX,
    BATCH_WAIT_S,
    Incoming,
    Outcome,
    Terms,
    Unreadable,
    take_batch,
)
from gateway.ingest.session import Session
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.telemetry import Telemetry
from wire.commands import Answer, decode_answer
from wire.heartbeat import MESSAGE_BYTES_MAX, Message, WireError, parse_message
from wire.presence import Up, decode_up
from wire.topics import parse_device_topic, probe

log = logging.getLogger(__name__)

WAITING_MAX = 20_000  # at this many, messages are left for their devices to send again
PAUSE_AT = 8_000  # the MQTT server keeps what is not read, within its own limits
RESUME_AT = 2_000

PROBE_TOPICS = probe("")

_decode = msgspec.json.Decoder().decode


def read_payload(topic: str, leaf: str, payload: bytes) -> Message | Up | Answer | Unreadable:
    """The message, or why it is none."""
    try:
        if len(payload) > MESSAGE_BYTES_MAX:
            raise WireError(f"{len(payload)} bytes, limit {MESSAGE_BYTES_MAX}")
        if leaf == "hb":
            return parse_message(_decode(payload))
        return decode_up(payload) if leaf == "up" else decode_answer(payload)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return Unreadable(topic, payload[:MESSAGE_BYTES_MAX], str(error))


class Intake:
    """Between one MQTT session and the store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        terms: Callable[[], Terms],
        on_probe: Callable[[bytes], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._terms = terms
        self._on_probe = on_probe
        self._waiting: deque[tuple[Incoming, int | None]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._session: Session | None = None
        self._paused = False

    def attach(self, session: Session | None) -> None:
        """The session that receipts go out on; what came by an older one is never acknowledged."""
        self._session = session
        self._paused = False
        self._waiting = deque((message, None) for message, _ in self._waiting)

    def deliver(self, packet: mqtt5.PublishPacket) -> None:
        """Takes one message as it arrives; called by the session."""
        found = parse_device_topic(packet.topic)
        if found is None:
            # A service login has device topics of its own, which mean nothing: @probe writes there.
            if packet.topic.startswith(PROBE_TOPICS):
                self._on_probe(packet.payload)
            if packet.packet_id is not None and self._session is not None:
                self._session.acknowledge(packet.packet_id)
            return
        if len(self._waiting) >= WAITING_MAX:
            self._telemetry.overflowed += 1
            return
        serial, leaf = found
        body = read_payload(packet.topic, leaf, packet.payload)
        message = Incoming(serial, body, self._clock.wall_ms())
        self._waiting.append((message, packet.packet_id))
        waiting = len(self._waiting)
        if waiting == 1:
            self._arrived.set()
        if waiting >= BATCH_MESSAGES_MAX:
            self._full.set()
            if waiting >= PAUSE_AT and not self._paused and self._session is not None:
                self._paused = True
                self._session.pause()

    async def run(self) -> None:
        """Stores batch after batch until cancelled."""
        while True:
            await self._arrived.wait()
            if len(self._waiting) < BATCH_MESSAGES_MAX:
                try:
                    async with asyncio.timeout(BATCH_WAIT_S):
                        await self._full.wait()
                except TimeoutError:
                    pass  # a small batch: nobody waits longer than this
            batch = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MESSAGES_MAX))
            ]
            if not self._waiting:
                self._arrived.clear()
            if len(self._waiting) < BATCH_MESSAGES_MAX:
                self._full.clear()
            if self._paused and len(self._waiting) <= RESUME_AT and self._session is not None:
                self._paused = False
                self._session.resume()
            if batch:
                await self._store_batch(batch)

    async def _store_batch(self, batch: list[tuple[Incoming, int | None]]) -> None:
        session = self._session
        messages = [message for message, _ in batch]
        outcome = await self._write(messages)
        if outcome is not None:
            if session is not None and session is self._session:
                session.send(outcome.receipts)
                for _, packet_id in batch:
                    if packet_id is not None:
                        session.acknowledge(packet_id)
            self._count(outcome, messages)

    async def _write(self, messages: list[Incoming]) -> Outcome | None:
        try:
            return await self._store.write(
                partial(take_batch, batch=messages, terms=self._terms()), lane=Lane.INGEST
            )
        except (DBAPIError, StoreBusy) as error:
            # Nothing was kept and nothing is receipted: the devices send it again.
            kind = type(error).__name__
            log.error("batch not stored messages=%d error=%s", len(messages), kind)
            self._telemetry.failed(self._clock.wall_ms(), "batch_not_stored", kind)
            return None
        except Exception as error:
            # A bug that one message met must not cost the others of its batch.
            if len(messages) > 1:
                return await self._one_by_one(messages)
            log.exception("message not stored serial=%s", messages[0].serial)
            self._telemetry.failed(self._clock.wall_ms(), "message_not_stored", repr(error))
            return None

    async def _one_by_one(self, messages: list[Incoming]) -> Outcome:
        total = Outcome()
        for message in messages:
            outcome = await self._write([message])
            if outcome is not None:
                total.receipts += outcome.receipts
                for name in _COUNTED:
                    setattr(total, name, getattr(total, name) + getattr(outcome, name))
        return total

    def _count(self, outcome: Outcome, messages: list[Incoming]) -> None:
        telemetry, now_ms = self._telemetry, self._clock.wall_ms()
        telemetry.took(now_ms, len(messages))
        telemetry.batches += 1
        telemetry.batch_ms = now_ms - messages[0].arrival_ms
        telemetry.batch_ms_max = max(telemetry.batch_ms_max, telemetry.batch_ms)
        telemetry.ingest_waiting = len(self._waiting)
        telemetry.receipts += len(outcome.receipts)
        telemetry.samples_stored += outcome.stored
        telemetry.samples_repeated += outcome.repeated
        telemetry.samples_lost += outcome.lost
        telemetry.malformed += outcome.malformed
        telemetry.unknown_devices += outcome.unknown
        telemetry.ignored_fields += outcome.ignored_fields
        telemetry.unserved += outcome.unserved


_COUNTED = ("stored", "repeated", "lost", "malformed", "unknown", "ignored_fields", "unserved")
