"""MQTT topics: one function per topic, and the parser of those a device publishes on."""

from functools import lru_cache

from wire.serials import is_serial

PREFIX = "fg1"
DEVICE_LEAVES = ("hb", "up", "ans")
GATEWAY_LEAVES = ("ok", "cmd")
SHARE_GROUP = "gateway"


def heartbeat(serial: str) -> str:
    """Device to gateway, QoS 0: samples."""
    return f"{PREFIX}/d/{serial}/hb"


def presence(serial: str) -> str:
    """Device to gateway, QoS 1: signed in, or the Last Will."""
    return f"{PREFIX}/d/{serial}/up"


def answer(serial: str) -> str:
    """Device to gateway, QoS 1: answers to commands."""
    return f"{PREFIX}/d/{serial}/ans"


def receipt(serial: str) -> str:
    """Gateway to device, QoS 0: what is committed."""
    return f"{PREFIX}/c/{serial}/ok"


def command(serial: str) -> str:
    """Gateway to device, QoS 1: authenticated commands."""
    return f"{PREFIX}/c/{serial}/cmd"


def probe(gateway: str) -> str:
    """A gateway to itself, QoS 0: proof that its MQTT server passes messages on."""
    return f"{PREFIX}/probe/{gateway}"


def relay_event(relay: str) -> str:
    """Relay to gateway, QoS 1: session events and bytes."""
    return f"{PREFIX}/relay/{relay}/ev"


def relay_command(relay: str) -> str:
    """Gateway to relay, QoS 1: ticket keys, leases, revocations."""
    return f"{PREFIX}/relay/{relay}/cmd"


def shared(filter_: str, group: str = SHARE_GROUP) -> str:
    """The filter under which gateways of one MQTT node share the messages.

    Whoever knows the group's name can take messages from its members, so that of an installation
    is a secret.
    """
    return f"$share/{group}/{filter_}"


@lru_cache(maxsize=65_536)
def parse_device_topic(topic: str) -> tuple[str, str] | None:
    """`(serial, leaf)` of a topic that a device publishes on, else None."""
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != PREFIX or parts[1] != "d":
        return None
    if parts[3] not in DEVICE_LEAVES or not is_serial(parts[2]):
        return None
    return parts[2], parts[3]
