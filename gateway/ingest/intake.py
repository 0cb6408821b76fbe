"""Collects messages into batches, has them stored, then sends the receipts."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple

import mqtt5
import msgspec

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
from gateway.ingest.decoding import decode_message
from gateway.ingest.relay_desk import RelayDesk, relay_of
from gateway.ingest.session import Session
from gateway.storage.store import Lane, Store, StoreBusy, StoreClosed
from gateway.telemetry import Telemetry
from wire.commands import Answer, decode_answer
from wire.heartbeat import MESSAGE_BYTES_MAX, Message, WireError
from wire.presence import Up, decode_up
from wire.topics import parse_device_topic, probe

log = logging.getLogger(__name__)

BATCHES_UNDER_WAY_MAX = 4  # the writer joins what waits in one commit, so that the disk is no limit
WAITING_MAX = 20_000  # at this many, messages are left for their devices to send again
PAUSE_AT = 8_000  # the MQTT server keeps what is not read, within its own limits
RESUME_AT = 2_000
PAUSE_AT_BYTES = 32 * 1024 * 1024  # as received; decoded, a message is up to ten times as large
RETRY_S_FIRST = 0.2
RETRY_S_MAX = 5.0

PROBE_TOPICS = probe("")


class Waiting(NamedTuple):
    """A message that is not stored yet; `packet_id` where its session is to be told."""

    message: Incoming
    packet_id: int | None
    size_bytes: int


def read_payload(topic: str, leaf: str, payload: bytes) -> Message | Up | Answer | Unreadable:
    """The message, or why it is none."""
    try:
        if len(payload) > MESSAGE_BYTES_MAX:
            raise WireError(f"{len(payload)} bytes, limit {MESSAGE_BYTES_MAX}")
        if leaf == "hb":
            return decode_message(payload)
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
        relay_desk: RelayDesk,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._terms = terms
        self._on_probe = on_probe
        self._relay_desk = relay_desk
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._storing: list[int] = []  # the oldest arrival of each batch under way
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._session: Session | None = None
        self._paused = False

    def attach(self, session: Session | None) -> None:
        """The session that receipts go out on; what came by an older one is never acknowledged."""
        self._session = session
        self._relay_desk.attach(session)
        self._paused = False
        self._waiting = deque(one._replace(packet_id=None) for one in self._waiting)

    @property
    def idle(self) -> bool:
        """Whether all that came is stored and receipted."""
        return not (self._waiting or self._storing)

    def behind_ms(self) -> int:
        """For how long the oldest message has waited that is not stored yet."""
        oldest = [*self._storing, *(one.message.arrival_ms for one in islice(self._waiting, 1))]
        return max(0, self._clock.wall_ms() - min(oldest)) if oldest else 0

    def deliver(self, packet: mqtt5.PublishPacket) -> None:
        """Takes one message as it arrives; called by the session."""
        found = parse_device_topic(packet.topic)
        if found is None:
            relay_id = relay_of(packet.topic)
            if relay_id is not None:
                self._relay_desk.deliver(relay_id, packet.payload, packet.packet_id)
                return
            # A service login has device topics of its own, which mean nothing: @probe writes there.
            if packet.topic.startswith(PROBE_TOPICS):
                self._on_probe(packet.payload)
            if packet.packet_id is not None and self._session is not None:
                self._session.acknowledge(packet.packet_id)
            return
        if len(self._waiting) >= WAITING_MAX and packet.packet_id is None:
            # One that waits to be acknowledged is bounded by the session, and must be.
            self._telemetry.overflowed += 1
            return
        serial, leaf = found
        body = read_payload(packet.topic, leaf, packet.payload)
        message = Incoming(serial, body, self._clock.wall_ms())
        self._waiting.append(Waiting(message, packet.packet_id, len(packet.payload)))
        self._waiting_bytes += len(packet.payload)
        waiting = len(self._waiting)
        if waiting == 1:
            self._arrived.set()
        if waiting >= BATCH_MESSAGES_MAX:
            self._full.set()
            much = waiting >= PAUSE_AT or self._waiting_bytes >= PAUSE_AT_BYTES
            if much and not self._paused and self._session is not None:
                self._paused = True
                self._session.pause()

    async def run(self) -> None:
        """Stores batch after batch until cancelled; the next is collected while some are stored."""
        under_way = asyncio.Semaphore(BATCHES_UNDER_WAY_MAX)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await under_way.acquire()
                batch = await self._next_batch()
                # By the session it came by, and not by one that takes over before it is stored.
                tasks.create_task(self._store_batch(batch, self._session, under_way), name="batch")

    async def _next_batch(self) -> list[Waiting]:
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
            self._waiting_bytes -= sum(one.size_bytes for one in batch)
            if not self._waiting:
                self._arrived.clear()
            if len(self._waiting) < BATCH_MESSAGES_MAX:
                self._full.clear()
            if self._paused and len(self._waiting) <= RESUME_AT and self._session is not None:
                self._paused = False
                self._session.resume()
            if batch:
                return batch

    async def _store_batch(
        self, batch: list[Waiting], session: Session | None, under_way: asyncio.Semaphore
    ) -> None:
        messages = [one.message for one in batch]
        arrival_ms = messages[0].arrival_ms
        self._storing.append(arrival_ms)
        try:
            outcome = await self._stored(messages)
        finally:
            self._storing.remove(arrival_ms)
            under_way.release()
        if session is not None and session is self._session:
            session.send(outcome.receipts)
            for one in batch:
                if one.packet_id is not None:
                    session.acknowledge(one.packet_id)
        self._count(outcome, messages)

    async def _stored(self, messages: list[Incoming]) -> Outcome:
        """Returns when they are committed, however long the database cannot.

        To give up would cost nothing but time, as the devices send again what was not receipted;
        but what is never acknowledged would fill the session's window for good.
        """
        wait_s = RETRY_S_FIRST
        while True:
            try:
                return await self._store.write(
                    partial(take_batch, batch=messages, terms=self._terms()), lane=Lane.INGEST
                )
            except StoreClosed:
                raise
            except StoreBusy as error:
                log.error("batch not stored yet messages=%d error=%s", len(messages), error)
                self._telemetry.failed(self._clock.wall_ms(), "batch_not_stored", str(error))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is one message's
                return await self._without_the_bad(messages, error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_S_MAX)

    async def _without_the_bad(self, messages: list[Incoming], error: Exception) -> Outcome:
        """A bug that one message met must not cost the others: it is found by halving."""
        total = Outcome()
        if len(messages) == 1:
            log.error("message not stored serial=%s", messages[0].serial, exc_info=error)
            self._telemetry.failed(self._clock.wall_ms(), "message_not_stored", repr(error))
            return total
        middle = len(messages) // 2
        for half in (messages[:middle], messages[middle:]):
            outcome = await self._stored(half)
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
