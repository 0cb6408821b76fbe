"""What a running gateway counts and knows of itself, for `/status`, `/readyz`, `/metrics`."""

from collections import Counter, deque
from dataclasses import dataclass, field

from gateway.clock_guard import BELIEVED, Told

LAST_ERRORS_MAX = 20
RATE_WINDOW_MS = 60_000


@dataclass(slots=True)
class Telemetry:
    """Written by the gateway's own tasks on the event loop's thread."""

    started_ms: int
    heartbeats: int = 0  # messages taken from MQTT
    samples_stored: int = 0
    samples_repeated: int = 0
    samples_lost: int = 0
    receipts: int = 0
    batches: int = 0
    malformed: int = 0
    quarantined: int = 0
    unknown_devices: int = 0
    ignored_fields: int = 0
    unserved: int = 0  # heartbeats of devices whose service is not active
    overflowed: int = 0  # messages left to be sent again because the queue was full
    batch_ms: float = 0.0  # of the newest batch, from its first arrival to its commit
    batch_ms_max: float = 0.0
    ingest_waiting: int = 0
    mqtt_connected: bool = False
    mqtt_closed_proof_ms: int = 0  # when the probe last proved that the MQTT server is closed
    probe_at_ms: int = 0  # when the newest probe that came back was sent
    probe_round_trip_ms: float = 0.0
    node_clock_ms: int = 0
    logins_version: int = 0  # wanted
    logins_written: int = 0  # in force
    clock: Told = BELIEVED
    commands_sent: int = 0
    relay_states: int = 0
    relay_states_malformed: int = 0
    relay_states_overflowed: int = 0  # dropped because too many waited; relays repeat them
    relays_unknown: int = 0  # states of relays that are not registered
    history_to_ms: int = 0  # up to where history is rolled up by hour
    leases_at_ms: dict[str, int] = field(default_factory=dict)  # when each relay was last sent one
    jobs_at_ms: dict[str, int] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    last_errors: deque[tuple[int, str]] = field(
        default_factory=lambda: deque(maxlen=LAST_ERRORS_MAX)
    )
    _recent: deque[tuple[int, int]] = field(default_factory=deque)

    def failed(self, now_ms: int, kind: str, text: str) -> None:
        """Keeps an error for `/status`; `text` carries no secret and no payload."""
        self.errors[kind] += 1
        self.last_errors.append((now_ms, f"{kind}: {text}"[:300]))

    def took(self, now_ms: int, heartbeats: int) -> None:
        """Counts a batch towards the rate of the last minute."""
        self.heartbeats += heartbeats
        self._recent.append((now_ms, heartbeats))
        while self._recent and now_ms - self._recent[0][0] > RATE_WINDOW_MS:
            self._recent.popleft()

    def rate_per_s(self, now_ms: int) -> float:
        """Heartbeats per second over the last minute."""
        span_ms = min(RATE_WINDOW_MS, max(1_000, now_ms - self.started_ms))
        recent = sum(count for at_ms, count in self._recent if now_ms - at_ms <= RATE_WINDOW_MS)
        return recent * 1_000 / span_ms
