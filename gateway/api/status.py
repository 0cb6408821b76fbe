"""What /status tells an operator: does the system work, and what has it to do."""

import asyncio
import platform
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import func, select, text

from gateway.api.health import Check, Health
from gateway.api.mail_status import Mails, count_mails
from gateway.api.node_status import NodeFacts, NodeNow, count_nodes, node_now
from gateway.api.tunnel_status import Relay, Sessions, count_tunnels, relays_now
from gateway.clock import Clock
from gateway.clock_guard import Told
from gateway.domain.instants import instant_text
from gateway.operations.registry import Site
from gateway.storage.schema import (
    device,
    device_live,
    enrolment,
    installation,
    outbox,
    quarantine,
)
from gateway.storage.store import Store
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry

COUNTS_S = 1.0
# Counting a large fleet takes a while, and must not become the gateway's main work.
COUNTS_SHARE_MAX = 1 / 20
PRESENCES = ("online", "late", "offline", "never")
STATES = ("active", "unpaid", "off")
LEDGER_CHECKED_KEY = "ledger_checked_at"
TO_DO = "put the clock right, or, if it is right: fleetgate admin clock accept"
LEDGER_OK_KEY = "ledger_ok"


class Counts(msgspec.Struct):
    """What one look into the database found."""

    devices: dict[str, int]
    service: dict[str, int]
    outbox_unsent: int
    quarantine: int
    recovered: int
    ledger_checked_at: int | None
    ledger_ok: bool | None
    database_bytes: int
    nodes: list[NodeFacts]
    mails: Mails
    latency_ms: float = 0.0


class Mqtt(msgspec.Struct):
    """The MQTT server as the gateway meets it."""

    connected: bool
    closed_proven_at: str | None
    probe_at: str | None
    probe_round_trip_ms: float
    gateway: str  # which one answers this
    node: str
    node_clock_ms: int  # runs only while probes come back; presence is judged by it
    logins_wanted: int
    logins_written: int


class Ingest(msgspec.Struct):
    """From MQTT to the database."""

    rate_per_s: float
    lag_ms: float
    lag_ms_max: float
    waiting: int
    heartbeats: int
    samples_stored: int
    samples_repeated: int
    samples_lost: int
    receipts: int
    batches: int
    malformed: int
    quarantined: int
    unknown_devices: int
    ignored_fields: int
    unserved: int
    overflowed: int


class Database(msgspec.Struct):
    """The store."""

    size_bytes: int
    latency_ms: float
    commits: int
    waiting: int


class Outbox(msgspec.Struct):
    """What is still to be said to devices."""

    unsent: int
    sent: int


class RelayMessages(msgspec.Struct):
    """What relays sent to this gateway."""

    taken: int
    malformed: int
    overflowed: int
    unknown: int


class ClockState(msgspec.Struct):
    """Whether the clock decides about credits as always; `to_do` when it does not."""

    in_doubt: str | None
    in_doubt_since: str | None
    waiting_for: str | None  # after a start: lots do not expire until the clock is accepted
    waiting_since: str | None
    to_do: str | None


class HistoryLevels(msgspec.Struct):
    """How far the roll-up of history has come; it is some two hours behind on purpose."""

    rolled_up_to: str | None
    behind_s: int


class LedgerCheck(msgspec.Struct):
    """When the ledger was last checked against itself."""

    checked_at: str | None
    ok: bool | None


class LastError(msgspec.Struct):
    """Something that went wrong, without secrets."""

    at: str
    what: str


class Status(msgspec.Struct):
    """The whole."""

    ready: bool
    checks: list[Check]
    devices: dict[str, int]
    service: dict[str, int]
    mqtt: Mqtt
    nodes: list[NodeNow]
    ingest: Ingest
    database: Database
    outbox: Outbox
    mail: Mails
    sessions: Sessions
    links: int
    streams: int
    relays: list[Relay]
    relay_messages: RelayMessages
    ledger: LedgerCheck
    history: HistoryLevels
    quarantine: int
    recovered: int  # devices that a restored backup did not know, to be released
    clock_in_doubt: str | None
    clock: ClockState
    jobs: dict[str, str]
    errors: dict[str, int]
    last_errors: list[LastError]
    versions: dict[str, str]
    at: str
    uptime_s: int


@dataclass(slots=True)
class StatusFacts:
    """Puts together what telemetry, checks and counts say; counts are kept for a moment."""

    store: Store
    site: Site
    telemetry: Telemetry
    clock: Clock
    health: Health
    gateway: str
    _counts: Counts | None = None
    _good_until_s: float = 0.0
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def counts(self) -> Counts:
        """Devices by state and what waits; all who watch share one look."""
        loop = asyncio.get_running_loop()
        async with self._counting:
            if self._counts is None or loop.time() >= self._good_until_s:
                asked_s = loop.time()
                await self.store.read(lambda tx: tx.scalar(text("SELECT 1")))
                answered_s = loop.time()
                counts = await self.store.read(partial(_count, mail=self.site.mail))
                counts.latency_ms = round((answered_s - asked_s) * 1000, 2)
                cost_s = loop.time() - answered_s
                self._good_until_s = loop.time() + max(COUNTS_S, cost_s / COUNTS_SHARE_MAX)
                self._counts = counts
        return self._counts

    async def status(self) -> Status:
        """The document behind the page and the JSON."""
        counts = await self.counts()
        # Few rows, and whoever waits for a relay wants to know at once.
        tunnels = await self.store.read(count_tunnels)
        readiness = await self.health.readiness()
        telemetry, now_ms = self.telemetry, self.clock.wall_ms()
        relays = relays_now(tunnels.relays, telemetry.leases_at_ms, now_ms)
        return Status(
            ready=readiness.ready,
            checks=readiness.checks,
            devices=counts.devices,
            service=counts.service,
            mqtt=self._mqtt(),
            nodes=[node_now(facts, now_ms) for facts in counts.nodes],
            ingest=self._ingest(now_ms),
            database=Database(
                counts.database_bytes,
                counts.latency_ms,
                self.store.commits,
                self.store.waiting(),
            ),
            outbox=Outbox(counts.outbox_unsent, telemetry.commands_sent),
            mail=counts.mails,
            sessions=tunnels.sessions,
            links=sum(one.links for one in relays),
            streams=sum(one.streams for one in relays),
            relays=relays,
            relay_messages=RelayMessages(
                telemetry.relay_states,
                telemetry.relay_states_malformed,
                telemetry.relay_states_overflowed,
                telemetry.relays_unknown,
            ),
            ledger=LedgerCheck(_instant(counts.ledger_checked_at), counts.ledger_ok),
            history=HistoryLevels(
                _instant(telemetry.history_to_ms),
                max(0, now_ms - telemetry.history_to_ms) // 1000 if telemetry.history_to_ms else 0,
            ),
            quarantine=counts.quarantine,
            recovered=counts.recovered,
            clock_in_doubt=telemetry.clock.doubt or None,
            clock=_clock_state(telemetry.clock),
            jobs={name: instant_text(at) for name, at in sorted(telemetry.jobs_at_ms.items())},
            errors=dict(telemetry.errors),
            last_errors=[
                LastError(instant_text(at), what) for at, what in reversed(telemetry.last_errors)
            ],
            versions={
                "fleetgate": self.site.version,
                "python": platform.python_version(),
                "database": self.store.version(),
            },
            at=instant_text(now_ms),
            uptime_s=max(0, now_ms - telemetry.started_ms) // 1000,
        )

    def _mqtt(self) -> Mqtt:
        telemetry = self.telemetry
        return Mqtt(
            telemetry.mqtt_connected,
            _instant(telemetry.mqtt_closed_proof_ms),
            _instant(telemetry.probe_at_ms),
            round(telemetry.probe_round_trip_ms, 2),
            self.gateway,
            self.site.node,
            telemetry.node_clock_ms,
            telemetry.logins_version,
            telemetry.logins_written,
        )

    def _ingest(self, now_ms: int) -> Ingest:
        telemetry = self.telemetry
        return Ingest(
            round(telemetry.rate_per_s(now_ms), 2),
            round(telemetry.batch_ms, 2),
            round(telemetry.batch_ms_max, 2),
            telemetry.ingest_waiting,
            telemetry.heartbeats,
            telemetry.samples_stored,
            telemetry.samples_repeated,
            telemetry.samples_lost,
            telemetry.receipts,
            telemetry.batches,
            telemetry.malformed,
            telemetry.quarantined,
            telemetry.unknown_devices,
            telemetry.ignored_fields,
            telemetry.unserved,
            telemetry.overflowed,
        )


_BY_STATE = (
    select(device_live.c.presence, device.c.state, func.count())
    .select_from(device)
    .outerjoin(device_live, device_live.c.device_id == device.c.id)
    .where(device.c.registered, device.c.ended_at.is_(None))
    .group_by(device_live.c.presence, device.c.state)
)


def _count(tx: Transaction, *, mail: bool) -> Counts:
    devices, service = dict.fromkeys(PRESENCES, 0), dict.fromkeys(STATES, 0)
    for presence, state, count in tx.all(_BY_STATE):
        devices[presence or "never"] = devices.get(presence or "never", 0) + count
        service[state] = service.get(state, 0) + count
    unsent = select(func.count()).where(outbox.c.sent_at.is_(None), outbox.c.expires_at > tx.now_ms)
    kept: dict[str, Any] = {
        row.key: row.value
        for row in tx.all(
            select(installation).where(installation.c.key.in_([LEDGER_CHECKED_KEY, LEDGER_OK_KEY]))
        )
    }
    checked_at, ok = kept.get(LEDGER_CHECKED_KEY), kept.get(LEDGER_OK_KEY)
    return Counts(
        devices,
        service,
        tx.scalar(unsent) or 0,
        tx.scalar(select(func.count()).select_from(quarantine)) or 0,
        tx.scalar(select(func.count()).where(enrolment.c.state == "recovered")) or 0,
        int(checked_at) if checked_at is not None and checked_at.isdigit() else None,
        None if ok is None else ok in ("1", "true"),
        tx.database_bytes(),
        count_nodes(tx),
        count_mails(tx, configured=mail),
    )


def _clock_state(told: Told) -> ClockState:
    return ClockState(
        told.doubt or None,
        _instant(told.doubt_since_ms),
        told.caution or None,
        _instant(told.caution_since_ms),
        TO_DO if told.doubt or told.caution else None,
    )


def _instant(at_ms: int | None) -> str | None:
    return instant_text(at_ms) if at_ms else None
