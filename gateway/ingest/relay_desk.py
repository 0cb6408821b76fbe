"""Between the relays and the store: takes their states, and sends the leases they live by."""

import asyncio
import logging
import re
from collections import deque
from functools import partial
from typing import NamedTuple

from sqlalchemy import select

from gateway.clock import Clock
from gateway.ingest.session import Session
from gateway.mqtt_server.configuration import PACKET_SIZE_MAX_BYTES
from gateway.operations.relays import lease_for, take_state
from gateway.storage.schema import relay
from gateway.storage.store import Lane, Store, StoreBusy, StoreClosed
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from wire.heartbeat import WireError
from wire.relay_control import (
    HAPPENINGS_MAX,
    LEASE_EVERY_S,
    LEASE_LOST_S,
    USAGES_MAX,
    Lease,
    State,
    as_many,
    decode_state,
    encode,
)
from wire.topics import relay_command, relay_event

log = logging.getLogger(__name__)

STATES_WAITING_MAX = 64
RELAYS_MAX = 64
# What waits while nothing can be stored is merged, but not without end.
MERGED_USAGES_MAX = 4 * USAGES_MAX
MERGED_HAPPENINGS_MAX = 4 * HAPPENINGS_MAX
PAUSE_S = 0.05  # many changes at once make one lease
RETRY_S_FIRST = 0.2
RETRY_S_MAX = 5.0
# The MQTT server ends the connection of whoever sends more; the topic stands in a packet too.
LEASE_BYTES_MAX = PACKET_SIZE_MAX_BYTES - 256

_TOPIC = re.compile(relay_event("(relay-[a-z0-9-]{1,24})"))


class Waiting(NamedTuple):
    """A state that is not stored yet; its session is told of all the packets that are in it."""

    relay_id: str
    state: State
    session: Session | None
    packet_ids: tuple[int, ...]


class Seen(NamedTuple):
    """A relay that this process has heard."""

    epoch: str
    at_s: float


def relay_of(topic: str) -> str | None:
    """The relay that writes on this topic; the MQTT server lets no other login write there."""
    found = _TOPIC.fullmatch(topic)
    return found[1] if found else None


def merged(older: State, newer: State) -> State | None:
    """One state that says all that both say; None where that cannot be, or would be too much.

    Counts are absolute, so the newer ones stand; what is told in several states is put together.
    """
    if older.epoch != newer.epoch:
        return None
    usage = {one.session: one for one in (*older.usage, *newer.usage)}
    happened = {one.number: one for one in (*older.happened, *newer.happened)}
    if len(usage) > MERGED_USAGES_MAX or len(happened) > MERGED_HAPPENINGS_MAX:
        return None
    in_order = tuple(happened[number] for number in sorted(happened))
    return newer._replace(usage=tuple(usage.values()), happened=in_order)


def fitted(lease: Lease, turn: int) -> tuple[bytes, bool]:
    """The lease as large as may be sent, and whether revocations were left for the next.

    They come first and without a gap, as the relay answers with the highest number it has seen.
    Of the notes each `turn` begins with another one, so that all are said in time.
    """
    payload = encode(lease)
    if len(payload) <= LEASE_BYTES_MAX:
        return payload, False
    room = LEASE_BYTES_MAX - len(encode(lease._replace(revoked=(), notes=())))
    revoked, room = as_many(lease.revoked, room)
    start = turn % len(lease.notes) if lease.notes else 0
    notes, _ = as_many(lease.notes[start:] + lease.notes[:start], room)
    return encode(lease._replace(revoked=revoked, notes=notes)), len(revoked) < len(lease.revoked)


class RelayDesk:
    """Of one gateway: the states that reach it, and leases for every relay it has heard."""

    def __init__(self, store: Store, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._hint = asyncio.Event()
        self._session: Session | None = None
        self._seen: dict[str, Seen] = {}
        self._cut: set[str] = set()  # whose lease did not hold all that is to be said
        self._turn = 0

    def attach(self, session: Session | None) -> None:
        """The session that leases go out on; what came by an older one is never acknowledged."""
        self._session = session

    def hint(self) -> None:
        """A lease may have something new to say."""
        self._hint.set()

    def deliver(self, relay_id: str, payload: bytes, packet_id: int | None) -> None:
        """Takes one state as it arrives; it is acknowledged once it is stored."""
        packet_ids = () if packet_id is None else (packet_id,)
        telemetry = self._telemetry
        try:
            state = decode_state(payload)
        except (WireError, ValueError, RecursionError) as error:
            log.warning("relay state not readable relay=%s error=%s", relay_id, error)
            telemetry.relay_states_malformed += 1
            telemetry.failed(self._clock.wall_ms(), "relay_state_malformed", f"{relay_id}: {error}")
            self._acknowledge(self._session, packet_ids)
            return
        if not self._joined(relay_id, state, packet_ids):
            if len(self._waiting) >= STATES_WAITING_MAX:
                # The relay counts on from its start and repeats what happened: nothing is lost.
                telemetry.relay_states_overflowed += 1
                self._acknowledge(self._session, packet_ids)
                return
            self._waiting.append(Waiting(relay_id, state, self._session, packet_ids))
        self._arrived.set()

    def _joined(self, relay_id: str, state: State, packet_ids: tuple[int, ...]) -> bool:
        """Whether it could be joined with one of the same relay that waits already."""
        for index in reversed(range(len(self._waiting))):
            other = self._waiting[index]
            if other.relay_id != relay_id:
                continue
            both = merged(other.state, state)
            if both is None:
                return False
            earlier = other.packet_ids if other.session is self._session else ()
            self._waiting[index] = Waiting(relay_id, both, self._session, (*earlier, *packet_ids))
            return True
        return False

    async def run(self) -> None:
        """Stores one state after another until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                one = self._waiting.popleft()
                known = await self._stored(one)
                self._acknowledge(one.session, one.packet_ids)
                if known:
                    self._note(one)

    async def _stored(self, one: Waiting) -> bool:
        """Whether the relay is known; returns when it is committed, however long that takes."""
        wait_s = RETRY_S_FIRST
        telemetry = self._telemetry
        while True:
            try:
                known = await self._store.write(partial(_take, one), lane=Lane.INGEST)
            except StoreClosed:
                raise
            except StoreBusy as error:
                log.error("relay state not stored yet relay=%s error=%s", one.relay_id, error)
            except Exception as error:  # whatever it is, it is one state's
                log.error("relay state not stored relay=%s", one.relay_id, exc_info=error)
                telemetry.failed(self._clock.wall_ms(), "relay_state_not_stored", repr(error))
                return False
            else:
                telemetry.relay_states += known
                telemetry.relays_unknown += not known
                return known
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_S_MAX)

    def _note(self, one: Waiting) -> None:
        before = self._seen.get(one.relay_id)
        if before is None and len(self._seen) >= RELAYS_MAX:
            return
        now_s = asyncio.get_running_loop().time()
        self._seen[one.relay_id] = Seen(one.state.epoch, now_s)
        # A relay that has just started takes nobody in before its first lease.
        fresh = before is None or before.epoch != one.state.epoch
        if fresh or one.relay_id in self._cut:
            self._hint.set()

    def _acknowledge(self, session: Session | None, packet_ids: tuple[int, ...]) -> None:
        if session is not None and session is self._session:
            for packet_id in packet_ids:
                session.acknowledge(packet_id)

    async def lease_forever(self) -> None:
        """Sends leases every two seconds, and at each hint, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LEASE_EVERY_S):
                    await self._hint.wait()
            except TimeoutError:
                pass  # time for the next ones
            self._hint.clear()
            session = self._session
            if session is not None:
                await self._lease_all(session)
            await asyncio.sleep(PAUSE_S)

    async def _lease_all(self, session: Session) -> None:
        self._turn += 1
        now_s = asyncio.get_running_loop().time()
        for relay_id, seen in list(self._seen.items()):
            if now_s - seen.at_s > LEASE_LOST_S:
                del self._seen[relay_id]  # it has ended all its sessions, if it lives at all
                continue
            try:
                lease = await self._store.read(partial(lease_for, relay_id=relay_id))
            except StoreClosed:
                raise
            except StoreBusy as error:
                # Who cannot read the revocations must not renew what they end.
                log.warning("lease put off relay=%s error=%s", relay_id, error)
                continue
            if lease is None:
                continue
            payload, cut = fitted(lease, self._turn)
            (self._cut.add if cut else self._cut.discard)(relay_id)
            session.send([(relay_command(relay_id), payload)])
            self._telemetry.leases_at_ms[relay_id] = self._clock.wall_ms()


def _take(one: Waiting, tx: Transaction) -> bool:
    """Whether the relay is known; a stranger's state is left alone."""
    known = tx.scalar(select(relay.c.id).where(relay.c.id == one.relay_id)) is not None
    if known:
        take_state(tx, one.relay_id, one.state)
    return known
