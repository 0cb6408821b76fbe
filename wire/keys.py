"""Keys derived from a device's secret (HKDF-SHA256, RFC 5869)."""

import hashlib
import hmac

SECRET_BYTES = 32
_SALT = b"fleetgate/1"


def _derive(secret: bytes, info: bytes) -> bytes:
    """One block of HKDF-SHA256 is all that a 256-bit key needs."""
    extracted = hmac.new(_SALT, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def mqtt_password(secret: bytes, serial: str) -> str:
    """The device's MQTT password: 64 hexadecimal digits."""
    return _derive(secret, b"mqtt password\x00" + serial.encode()).hex()


def command_key(secret: bytes, serial: str) -> bytes:
    """The key with which the gateway authenticates commands: 32 bytes."""
    return _derive(secret, b"command key\x00" + serial.encode())
