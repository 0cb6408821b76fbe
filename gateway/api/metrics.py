"""The same facts for Prometheus."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.api.status import Status
from gateway.api.tunnel_status import Relay

_OF_RELAYS: tuple[tuple[str, str, Callable[[Relay], float | None]], ...] = (
    ("present", "1 when it was heard a moment ago", lambda one: one.present),
    ("epoch_age_seconds", "Since it was started", lambda one: one.epoch_age_s),
    ("seen_age_seconds", "Since it was heard", lambda one: one.seen_age_s),
    ("lease_age_seconds", "Since its lease was renewed", lambda one: one.lease_age_s),
    ("revocations", "Number of the newest revocation", lambda one: one.revocations),
    ("revocations_applied", "Number of the newest it has applied", lambda one: one.applied),
    ("memory_bytes", "Of its links and streams", lambda one: one.memory_bytes),
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class StatusCollector(Collector):
    """Turns one status document into metrics."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield _gauge("ready", "1 when every check holds", status.ready)
        yield _labelled(
            "check_ok", "1 when the check holds", "check", {c.name: c.ok for c in status.checks}
        )
        yield _labelled("devices", "Registered devices by presence", "presence", status.devices)
        yield _labelled("devices_service", "Registered devices by service", "state", status.service)
        yield from self._ingest()
        yield from self._tunnels()
        mqtt, database = status.mqtt, status.database
        yield _gauge("mqtt_connected", "1 when connected to the MQTT server", mqtt.connected)
        yield _gauge(
            "mqtt_probe_round_trip_seconds",
            "Of the newest probe through the MQTT server",
            mqtt.probe_round_trip_ms / 1000,
        )
        yield _gauge("mqtt_logins_wanted_version", "Logins as decided", mqtt.logins_wanted)
        yield _gauge("mqtt_logins_written_version", "Logins in force", mqtt.logins_written)
        yield _gauge("database_size_bytes", "Database and its log", database.size_bytes)
        yield _gauge("database_latency_seconds", "Of a small read", database.latency_ms / 1000)
        yield _gauge("database_waiting", "Transactions that wait", database.waiting)
        yield _counter("database_commits", "Commits", database.commits)
        yield _gauge("outbox_unsent", "Commands not sent yet", status.outbox.unsent)
        mail = status.mail
        yield _gauge("mail_unsent", "Mails that are still to be sent", mail.unsent)
        yield _gauge(
            "mail_oldest_unsent_seconds", "Since when the oldest waits", mail.oldest_unsent_s
        )
        yield _gauge("mail_given_up", "Mails of the last 30 days nobody took", mail.given_up)
        yield _counter("commands_sent", "Commands sent to devices", status.outbox.sent)
        yield _gauge("quarantine_rows", "Messages kept aside for a look", status.quarantine)
        yield _gauge("devices_recovered", "Devices to be released", status.recovered)
        if status.ledger.ok is not None:
            yield _gauge("ledger_ok", "1 when the last check found no error", status.ledger.ok)
        yield _gauge(
            "clock_in_doubt", "1 while charges are stopped", status.clock_in_doubt is not None
        )
        yield _gauge(
            "clock_not_accepted",
            "1 while lots do not expire, after a start with an uncertain clock",
            status.clock.waiting_for is not None,
        )
        errors = CounterMetricFamily("fleetgate_errors", "Errors by kind", labels=["kind"])
        for kind, count in sorted(status.errors.items()):
            errors.add_metric([kind], count)
        yield errors
        version = GaugeMetricFamily("fleetgate_version", "Always 1", labels=["version"])
        version.add_metric([status.versions["fleetgate"]], 1)
        yield version
        yield _gauge("uptime_seconds", "Since the gateway started", status.uptime_s)

    def _tunnels(self) -> Iterator[Metric]:
        status = self._status
        wanted = {"waiting": status.sessions.waiting, "open": status.sessions.open}
        yield _labelled("sessions", "Wanted sessions by state", "state", wanted)
        yield _gauge("links", "Links of devices at relays", status.links)
        yield _gauge("streams", "Streams open at relays", status.streams)
        for name, text, value_of in _OF_RELAYS:
            values = {one.id: value_of(one) for one in status.relays}
            told = {relay: value for relay, value in values.items() if value is not None}
            yield _labelled(f"relay_{name}", text, "relay", told)
        messages = status.relay_messages
        for name, text, count in (
            ("taken", "States of relays that were stored", messages.taken),
            ("malformed", "States of relays not of the agreed form", messages.malformed),
            ("overflowed", "States of relays left to be sent again", messages.overflowed),
            ("unknown", "States of relays that are not registered", messages.unknown),
        ):
            yield _counter(f"relay_states_{name}", text, count)

    def _ingest(self) -> Iterator[Metric]:
        ingest = self._status.ingest
        yield _gauge("ingest_rate_per_second", "Heartbeats, last minute", ingest.rate_per_s)
        yield _gauge("ingest_lag_seconds", "Of the newest batch", ingest.lag_ms / 1000)
        yield _gauge("ingest_waiting", "Messages that wait", ingest.waiting)
        for name, text, value in (
            ("heartbeats", "Messages taken from MQTT", ingest.heartbeats),
            ("samples_stored", "Samples newly stored", ingest.samples_stored),
            ("samples_repeated", "Samples that were stored before", ingest.samples_repeated),
            ("samples_lost", "Samples that agents gave up", ingest.samples_lost),
            ("receipts", "Receipts sent", ingest.receipts),
            ("batches", "Transactions of ingest", ingest.batches),
            ("malformed", "Messages not of the agreed form", ingest.malformed),
            ("quarantined", "Messages put aside", ingest.quarantined),
            ("unknown_devices", "Messages of unknown devices", ingest.unknown_devices),
            ("ignored_fields", "Fields left out", ingest.ignored_fields),
            ("unserved", "Heartbeats of devices without service", ingest.unserved),
            ("overflowed", "Messages left to be sent again", ingest.overflowed),
        ):
            yield _counter(name, text, value)


def render(status: Status) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"fleetgate_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"fleetgate_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"fleetgate_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family
