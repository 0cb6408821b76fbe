"""Proves from outside that the MQTT server is closed; a gateway refuses to run otherwise."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import mqtt5

from gateway.mqtt_server.acl import PROBE_LOGIN
from gateway.mqtt_server.configuration import PACKET_SIZE_MAX_BYTES
from gateway.mqtt_server.connection import (
    Connection,
    Listener,
    MqttClosed,
    MqttError,
    MqttRefused,
    connected,
)
from wire import topics

_NOT_AUTHORIZED = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
_TAKEN = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
_REFUSALS = (
    mqtt5.ConnAckReasonCode.NOT_AUTHORIZED,
    mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD,
)


class UnsafeServer(Exception):
    """The MQTT server lets in, or passes on, what it must not; `setting` names the cause."""

    def __init__(self, setting: str, finding: str) -> None:
        super().__init__(f"MQTT server is not safe: {finding} (setting {setting})")
        self.setting = setting
        self.finding = finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """Where to knock, and the password of @probe, a login without any right of its own."""

    listeners: Sequence[Listener]
    password: str
    gateway: str  # whose own probe topic must be closed to others, such as `gateway-1`


async def prove_closed(settings: ProbeSettings) -> None:
    """Raises UnsafeServer naming the setting, or MqttError when the server cannot be asked."""
    for listener in settings.listeners:
        await _prove_logins(listener)
        await _prove_rights(listener, settings)
        await _prove_client_ids(listener, settings)


async def _prove_logins(listener: Listener) -> None:
    stranger = f"stranger-{secrets.token_hex(6)}"
    await _must_be_refused(
        listener,
        mqtt5.ConnectPacket(stranger, clean_start=True),
        UnsafeServer("allow_anonymous", "it takes connections without a login"),
    )
    await _must_be_refused(
        listener,
        mqtt5.ConnectPacket(stranger, username=stranger, password=b"guess", clean_start=True),
        UnsafeServer("password_file", "it takes a login that does not exist"),
    )
    await _must_be_refused(
        listener,
        mqtt5.ConnectPacket(stranger, username=PROBE_LOGIN, password=b"guess", clean_start=True),
        UnsafeServer("password_file", "it takes a wrong password"),
    )


async def _must_be_refused(
    listener: Listener, packet: mqtt5.ConnectPacket, unsafe: UnsafeServer
) -> None:
    try:
        async with connected(listener, packet):
            raise unsafe
    except MqttRefused as refused:
        if refused.reason not in _REFUSALS:
            # Busy or full is no proof of anything.
            raise
    except MqttClosed:
        # Some versions hang up without a word.
        return


async def _prove_rights(listener: Listener, settings: ProbeSettings) -> None:
    async with connected(listener, _probe_packet(settings, "rights")) as probe:
        if probe.accepted.retain_available:
            raise UnsafeServer("retain_available", "it keeps retained messages")
        if probe.accepted.max_packet_size != PACKET_SIZE_MAX_BYTES:
            raise UnsafeServer("max_packet_size", "it takes packets of another size")
        await _prove_reading_closed(probe)
    await _prove_writing_closed(listener, settings)


async def _prove_writing_closed(listener: Listener, settings: ProbeSettings) -> None:
    # A serial that nobody has: an open server is not fed with something that a gateway believes.
    serial = f"probe-{secrets.token_hex(8)}"
    foreign = (
        topics.heartbeat(serial),
        topics.presence(serial),
        topics.answer(serial),
        topics.receipt(serial),
        topics.command(serial),
        topics.probe(settings.gateway),
        topics.relay_event(serial),
        topics.relay_command(serial),
    )
    for topic in foreign:
        # A connection for each: Mosquitto 2.0.11 ends it after such an answer.
        async with connected(listener, _probe_packet(settings, "writing")) as probe:
            if await probe.publish(topic, b"") != _NOT_AUTHORIZED:
                raise UnsafeServer("acl_file", f"a login without rights may publish on {topic}")


async def _prove_reading_closed(probe: Connection) -> None:
    # Filters are granted by Mosquitto whatever the access list says; deliveries are what counts.
    await probe.subscribe("#", f"{topics.PREFIX}/#", topics.heartbeat("+"), topics.answer("+"))
    own = topics.answer(PROBE_LOGIN)
    reason = await probe.publish(own, b"probe")
    if reason not in _TAKEN:
        # Then the silence below would prove nothing.
        raise UnsafeServer("acl_file", f"a login may not publish on its own topic {own}")
    await probe.ping()
    if probe.received:
        raise UnsafeServer("acl_file", f"a login without rights may read {own}")


async def _prove_client_ids(listener: Listener, settings: ProbeSettings) -> None:
    """The client id must come from the login: else a device could throw another one out."""
    async with connected(listener, _probe_packet(settings, "first")) as first:
        await first.ping()
        async with connected(listener, _probe_packet(settings, "second")) as second:
            await second.ping()
            try:
                await first.ping()
            except MqttError:
                return
    raise UnsafeServer("use_username_as_clientid", "it lets clients choose their client id")


def _probe_packet(settings: ProbeSettings, client_id: str) -> mqtt5.ConnectPacket:
    return mqtt5.ConnectPacket(
        client_id, username=PROBE_LOGIN, password=settings.password.encode(), clean_start=True
    )
