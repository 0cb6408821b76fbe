"""One gateway's life at its MQTT node: connect, prove it closed, take messages, probe the pipe."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gateway.clock import Clock
from gateway.domain.presence import PROBE_INTERVAL_MS, advanced, standstill_ms
from gateway.ingest.batch import RECEIPT_EVERY, Terms, spread_s
from gateway.ingest.intake import Intake
from gateway.ingest.relay_desk import RelayDesk
from gateway.ingest.session import Login, Session, SessionLost, open_session
from gateway.jobs import presence
from gateway.mqtt_server.connection import MqttError
from gateway.mqtt_server.probe import ProbeSettings, prove_closed
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from wire import topics

log = logging.getLogger(__name__)

RECONNECT_S_FIRST = 0.2
RECONNECT_S_MAX = 5.0
PROVE_EVERY_S = 3_600.0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Which node this is, and how its gateway signs in."""

    name: str
    gateway: str
    share_group: str
    login: Login
    proof: ProbeSettings


class Node:
    """Owns the session; the intake and the sender use it while it lasts."""

    def __init__(
        self,
        settings: NodeSettings,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        clock_ms: int,
        heard_at_ms: int | None,
        on_connected: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._on_connected = on_connected
        self._clock_ms = clock_ms
        self._heard_at_ms = heard_at_ms  # by an earlier process
        self._still_until_ms = 0
        self._last_probe_ms: int | None = None
        self._devices = 0
        self.session: Session | None = None
        self.relay_desk = RelayDesk(store, clock, telemetry)
        self.intake = Intake(
            store, clock, telemetry, self._terms, self._probe_came_back, self.relay_desk
        )

    def devices(self) -> int:
        """How many devices of this node are connected, roughly."""
        return self._devices

    def _terms(self) -> Terms:
        return Terms(self._settings.name, self._clock_ms, RECEIPT_EVERY, spread_s(self._devices))

    async def run(self) -> None:
        """Connects again and again until cancelled; an unsafe MQTT server ends the gateway."""
        wait_s = RECONNECT_S_FIRST
        while True:
            try:
                await self._one_session()
            except (SessionLost, MqttError) as error:
                if self._telemetry.mqtt_closed_proof_ms:
                    log.warning("MQTT session lost, will retry error=%s", error)
                    self._telemetry.failed(self._clock.wall_ms(), "mqtt_session_lost", str(error))
                else:
                    # At a start the MQTT server comes after us: it waits for its password file.
                    log.info("MQTT server not there yet, will retry error=%s", error)
                if self._telemetry.mqtt_connected:
                    wait_s = RECONNECT_S_FIRST
            finally:
                self._telemetry.mqtt_connected = False
                self.intake.attach(None)
                self.session = None
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RECONNECT_S_MAX)

    async def _one_session(self) -> None:
        session = await open_session(self._settings.login, self.intake.deliver)
        try:
            taken = (
                topics.heartbeat("+"),
                topics.presence("+"),
                topics.answer("+"),
                topics.relay_event("+"),
            )
            group = self._settings.share_group
            filters = [topics.shared(topic, group) for topic in taken]
            filters.append(topics.probe(self._settings.gateway))
            self.intake.attach(session)
            await session.start(filters)
            await self._prove()
            self.session = session
            self._telemetry.mqtt_connected = True
            self._on_connected()
            log.info("MQTT session open node=%s", self._settings.name)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.until_lost(), name="keep alive")
                tasks.create_task(self._probe_forever(session), name="probe")
                tasks.create_task(self._prove_forever(), name="proof")
        except* (SessionLost, MqttError) as group:
            raise SessionLost("; ".join(str(error) for error in group.exceptions)) from group
        finally:
            session.close()

    async def _prove(self) -> None:
        await prove_closed(self._settings.proof)
        self._telemetry.mqtt_closed_proof_ms = self._clock.wall_ms()

    async def _prove_forever(self) -> None:
        while True:
            await asyncio.sleep(PROVE_EVERY_S)
            await self._prove()

    async def _probe_forever(self, session: Session) -> None:
        topic = topics.probe(self._settings.gateway)
        while True:
            sent = [self._clock.wall_ms(), self._clock.boot_ms(), time.monotonic()]
            session.send([(topic, json.dumps(sent).encode())])
            await asyncio.sleep(PROBE_INTERVAL_MS / 1000)

    def _probe_came_back(self, payload: bytes) -> None:
        """Advances the node's clock: its devices could have been heard until this probe."""
        wall_ms, boot_ms, monotonic_s = json.loads(payload)
        delay_ms = max(self._clock.boot_ms() - boot_ms, self.intake.behind_ms())
        if delay_ms > PROBE_INTERVAL_MS:
            # What devices sent meanwhile is still under way, or not stored: this is deafness too.
            return
        if self._last_probe_ms is not None:
            gap_ms = boot_ms - self._last_probe_ms
        else:
            gap_ms = 0 if self._heard_at_ms is None else wall_ms - self._heard_at_ms
        self._still_until_ms = max(self._still_until_ms, boot_ms + standstill_ms(gap_ms))
        if boot_ms >= self._still_until_ms:
            self._clock_ms = advanced(self._clock_ms, self._last_probe_ms, boot_ms)
        self._last_probe_ms = boot_ms
        telemetry = self._telemetry
        telemetry.probe_at_ms = wall_ms
        telemetry.probe_round_trip_ms = (time.monotonic() - monotonic_s) * 1000
        telemetry.node_clock_ms = self._clock_ms

    async def watch_presence(self) -> None:
        """Keeps the node's clock and sweeps at each step of it, until cancelled."""
        swept_ms = -1
        while True:
            await asyncio.sleep(PROBE_INTERVAL_MS / 5_000)
            clock_ms = self._clock_ms
            if clock_ms == swept_ms:
                continue  # deaf: presence stands still
            try:
                await self._sweep(clock_ms)
            except StoreBusy:
                continue  # the next second does it
            swept_ms = clock_ms

    async def _sweep(self, clock_ms: int) -> None:
        name, probe_ms = self._settings.name, self._telemetry.probe_at_ms

        def work(changes: int, tx: Transaction) -> int:
            if not changes:
                presence.save_clock(tx, name, clock_ms, probe_ms)
            return presence.sweep(tx, name, clock_ms)

        changes = 0
        while found := await self._store.write(partial(work, changes), lane=Lane.JOBS):
            changes += found
        self._devices = await self._store.read(partial(presence.online, name=name))
