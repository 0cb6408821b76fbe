"""Seals what a database or a device keeps for the gateway: AES-256-GCM by master.key."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class SealBroken(Exception):
    """Not sealed with this key for this purpose, or changed since."""


def seal(master_key: bytes, text: bytes, *, bound_to: str) -> bytes:
    """Nonce and ciphertext; `bound_to` (a serial) must be the same at opening."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(master_key).encrypt(nonce, text, bound_to.encode())


def unseal(master_key: bytes, sealed: bytes, *, bound_to: str) -> bytes:
    """The sealed text. Raises `SealBroken`."""
    try:
        return AESGCM(master_key).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode()
        )
    except (InvalidTag, ValueError) as error:
        raise SealBroken("wrong key, other serial, or damaged") from error
