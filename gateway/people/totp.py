"""Time-based one-time passwords (RFC 6238): SHA-1, six digits, 30 seconds, as apps expect them."""

import base64
import hmac
import secrets

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

SECRET_BYTES = 20  # RFC 4226 section 4 recommends 160 bits
DIGITS = 6
STEP_S = 30
STEPS_AROUND = 1  # a clock may be wrong by so many steps
ISSUER = "Fleetgate"


def new_secret() -> bytes:
    """A secret of its own for each account."""
    return secrets.token_bytes(SECRET_BYTES)


def is_code(text: str) -> bool:
    """Whether this looks like a code of an app, and not like a recovery code."""
    return len(text) == DIGITS and text.isascii() and text.isdigit()


def step_of(secret: bytes, code: str, now_ms: int, used_step: int | None) -> int | None:
    """The step that the code belongs to, if it is one of now and after the newest that was used."""
    if not is_code(code):
        return None
    now = now_ms // 1000 // STEP_S
    made = _totp(secret)
    for step in range(now - STEPS_AROUND, now + STEPS_AROUND + 1):
        if hmac.compare_digest(made.generate(step * STEP_S), code.encode()):
            return None if used_step is not None and step <= used_step else step
    return None


def text_of(secret: bytes) -> str:
    """The secret as people type it into an app."""
    return base64.b32encode(secret).decode()


def uri_of(secret: bytes, account: str) -> str:
    """The address that apps read from a QR code."""
    return _totp(secret).get_provisioning_uri(account, ISSUER)


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303  # RFC 6238; what apps understand
