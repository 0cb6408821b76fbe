"""The keys that sign tickets: private ones for gateways, public ones for relays."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.atomic_file import write_atomically
from gateway.join.ca import KeyFileError, read_private

SUFFIX = ".key"
KEYS_MAX = 16


class TicketKey(NamedTuple):
    """A key and the name under which a ticket says that it is signed by it."""

    kid: str
    private: Ed25519PrivateKey

    @property
    def public_pem(self) -> str:
        """What a relay gets of it."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def prepare_ticket_keys(folder: Path, now: datetime) -> list[TicketKey]:
    """All keys, the newest last; one is made where there is none.

    None of them must last: a ticket lives for a minute, so a lost key is replaced by a new one.
    Its name begins with its day, so that a key made later takes over by itself.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if not any(folder.glob(f"*{SUFFIX}")):
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_atomically(folder / f"{now:%Y%m%d}-{secrets.token_hex(4)}{SUFFIX}", pem)
    return read_ticket_keys(folder)


def read_ticket_keys(folder: Path) -> list[TicketKey]:
    """All keys, the newest last. Raises `KeyFileError` when there is none or one is not right."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise KeyFileError(f"{folder}: no key that signs tickets; `fleetgate up` makes one")
    if len(paths) > KEYS_MAX:
        raise KeyFileError(f"{folder}: more than {KEYS_MAX} keys; remove the oldest")
    return [TicketKey(path.name.removesuffix(SUFFIX), _load(path)) for path in paths]


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path} is not a private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is not an Ed25519 key")
    return key
