"""Serials: how a device is named on the wire, in topics and as an MQTT login."""

import re

SERIAL_PATTERN = r"[A-Za-z0-9_-]{6,32}"
_SERIAL = re.compile(SERIAL_PATTERN)


def is_serial(text: str) -> bool:
    """Whether the text is a serial; compared exactly, leading zeros kept."""
    return _SERIAL.fullmatch(text) is not None
