"""One gateway's life at its MQTT node: connect, prove it closed, take messages, probe the pipe."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.clock import Clock
from gateway.domain.presence import PROBE_INTERVAL_MS
from gateway.file_lock import one_after_another
from gateway.ingest.batch import RECEIPT_EVERY, Terms, spread_s
from gateway.ingest.intake import Intake
from gateway.ingest.relay_desk import RelayDesk
from gateway.ingest.session import Login, Session, SessionLost, open_session
from gateway.jobs import presence
from gateway.mqtt_server.connection import MqttError
from gateway.mqtt_server.probe import ProbeSettings, prove_closed
from gateway.storage.locks import Tree
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.telemetry import Telemetry
from wire import topics

log = logging.getLogger(__name__)

RECONNECT_S_FIRST = 0.2
RECONNECT_S_MAX = 5.0
PROVE_EVERY_S = 3_600.0
PROOF_TURN_S_MAX = 10.0
LEAVE_S_MAX = 1.0  # whoever stops the gateway waits for this
LEAVE_LOOK_S = 0.01
TAKEN = (
    topics.heartbeat("+"),
    topics.presence("+"),
    topics.answer("+"),
    topics.relay_event("+"),
)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Which node this is, and how its gateway signs in."""

    name: str
    gateway: str
    share_group: str
    login: Login
    proof: ProbeSettings
    proof_lock: Path  # gateways of a node sign in as the same @probe, which only one can be


class Node:
    """Owns the session; the intake and the sender use it while it lasts."""

    def __init__(
        self,
        settings: NodeSettings,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        clock_ms: int,
        on_connected: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._on_connected = on_connected
        self._clock_ms = clock_ms
        self._heard = asyncio.Event()  # a probe came back that is not noted yet
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
        me = asyncio.current_task()
        assert me is not None
        async with asyncio.TaskGroup() as group:
            while True:
                # A task of its own: Python 3.11's TaskGroup may leave its owner marked as
                # cancelled, and the mark is looked at below.
                connected = await group.create_task(self._attempt(), name="MQTT session")
                if me.cancelling():
                    # The session was lost while it was cancelled; the error took its place.
                    raise asyncio.CancelledError
                if connected:
                    wait_s = RECONNECT_S_FIRST
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RECONNECT_S_MAX)

    async def _attempt(self) -> bool:
        """Connects and stays connected as long as it can; whether it ever was."""
        try:
            await self._one_session()
        except (SessionLost, MqttError) as error:
            if self._telemetry.mqtt_closed_proof_ms:
                log.warning("MQTT session lost, will retry error=%s", error)
                self._telemetry.failed(self._clock.wall_ms(), "mqtt_session_lost", str(error))
            else:
                # At a start the MQTT server comes after us: it waits for its password file.
                log.info("MQTT server not there yet, will retry error=%s", error)
        finally:
            connected = self._telemetry.mqtt_connected
            self._telemetry.mqtt_connected = False
            self.intake.attach(None)
            self.session = None
        return connected

    async def _one_session(self) -> None:
        session = await open_session(self._settings.login, self.intake.deliver)
        try:
            self.intake.attach(session)
            await session.start([*self._shared(), topics.probe(self._settings.gateway)])
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

    def _shared(self) -> list[str]:
        """What the gateways of the node take in turn."""
        return [topics.shared(topic, self._settings.share_group) for topic in TAKEN]

    async def leave(self) -> None:
        """Before a clean end: the others of the node take all from now on, and what came is kept.

        Else what is under way here would have to be sent again.
        """
        session = self.session
        if session is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await session.stop(self._shared())
                while not self.intake.idle:  # noqa: ASYNC110 - once in a life, for a moment
                    await asyncio.sleep(LEAVE_LOOK_S)
        except (TimeoutError, SessionLost) as error:
            log.info("left with messages under way error=%s", repr(error))

    async def _prove(self) -> None:
        async with one_after_another(self._settings.proof_lock, within_s=PROOF_TURN_S_MAX):
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
        """The node's devices could have been heard until this probe."""
        wall_ms, boot_ms, monotonic_s = json.loads(payload)
        delay_ms = max(self._clock.boot_ms() - boot_ms, self.intake.behind_ms())
        if delay_ms > PROBE_INTERVAL_MS:
            # What devices sent meanwhile is still under way, or not stored: this is deafness too.
            return
        telemetry = self._telemetry
        telemetry.probe_at_ms = wall_ms
        telemetry.probe_round_trip_ms = (time.monotonic() - monotonic_s) * 1000
        self._heard.set()

    async def watch_presence(self) -> None:
        """Advances the node's clock by the probes that came back, and sweeps at each step of it."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            try:
                await self._step()
            except StoreBusy:
                # Presence stands still; the next probe tells how long.
                log.info("presence put off: nothing can be stored")

    async def _step(self) -> None:
        name, store = self._settings.name, self._store
        clock_ms = await store.write(
            partial(presence.note_probe, name=name), lane=Lane.JOBS, tree=Tree.UNTOUCHED
        )
        self._clock_ms = self._telemetry.node_clock_ms = clock_ms
        while await store.read(partial(presence.anybody_silent, name=name, clock_ms=clock_ms)):
            # None: another gateway of the node is at it.
            if not await store.write(
                partial(presence.sweep, name=name, clock_ms=clock_ms), lane=Lane.JOBS
            ):
                break
        self._devices = await store.read(partial(presence.online, name=name))
