"""Answers kept under an Idempotency-Key, in the transaction of their effect."""

import hashlib
import hmac
import os
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.refusals import Code, Refused
from gateway.storage.locks import Raced
from gateway.storage.schema import idempotency
from gateway.storage.transaction import Transaction

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEY_CHARS_MAX = 255
METHODS = frozenset({"POST", "DELETE"})
NONCE_BYTES = 12


class Kept(NamedTuple):
    """An answer that was given before."""

    status: int
    body: bytes


def checked_key(text: str) -> str:
    """The key as sent. Raises `Refused`."""
    if not 1 <= len(text) <= KEY_CHARS_MAX or not (text.isascii() and text.isprintable()):
        raise Refused(
            Code.VALIDATION,
            f"Idempotency-Key: 1 to {KEY_CHARS_MAX} printable ASCII characters",
            field=HEADER,
        )
    return text


class Answers:
    """Requests and answers may hold secrets (a password, a join string), so requests are kept
    as keyed digests and answers sealed; the key lies beside the database, never in it."""

    def __init__(self, master_key: bytes) -> None:
        self._digest_key = hmac.digest(master_key, b"fleetgate idempotency request", "sha256")
        self._seal = AESGCM(hmac.digest(master_key, b"fleetgate idempotency answer", "sha256"))

    def request_hash(self, method: str, path: str, body: bytes) -> bytes:
        """Which request the key belongs to."""
        digest = hashlib.sha256(f"{method}\n{path}\n".encode() + body).digest()
        return hmac.digest(self._digest_key, digest, "sha256")

    def claim(self, tx: Transaction, principal: str, key: str, request_hash: bytes) -> Kept | None:
        """The answer given before; without one the key is this transaction's, which has to `keep`.

        Another transaction that has the key is waited for. Raises `Refused` when the key belongs
        to another request.
        """
        dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
        claimed = tx.one(
            dialect.insert(idempotency).on_conflict_do_nothing().returning(idempotency.c.key),
            {
                "principal": principal,
                "key": key,
                "request_hash": request_hash,
                "status": 0,
                "body": b"",
                "at": tx.now_ms,
            },
        )
        if claimed is not None:
            return None
        kept = self.kept(tx, principal, key, request_hash)
        if kept is None:
            raise Raced("a key whose time is over")  # deleted between the two statements
        return kept

    def kept(self, tx: Transaction, principal: str, key: str, request_hash: bytes) -> Kept | None:
        """The answer given before, if there is one; only looks. Raises `Refused` as `claim`."""
        row = tx.one(
            select(idempotency).where(
                idempotency.c.principal == principal, idempotency.c.key == key
            )
        )
        if row is None:
            return None
        if not hmac.compare_digest(row.request_hash, request_hash):
            raise Refused(
                Code.IDEMPOTENCY_CONFLICT,
                "This Idempotency-Key belongs to another request; take a new one.",
                field=HEADER,
            )
        nonce, sealed = row.body[:NONCE_BYTES], row.body[NONCE_BYTES:]
        try:
            body = self._seal.decrypt(nonce, sealed, f"{principal}\n{key}".encode())
        except InvalidTag as error:
            # The effect took place; after a change of master.key only its answer is lost.
            raise Refused(
                Code.IDEMPOTENCY_CONFLICT,
                "This request was carried out, but its answer can no longer be read.",
                field=HEADER,
            ) from error
        return Kept(row.status, body)

    def keep(self, tx: Transaction, principal: str, key: str, answer: Kept) -> None:
        """Writes the answer beside its effect."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, answer.body, f"{principal}\n{key}".encode())
        tx.run(
            update(idempotency)
            .where(idempotency.c.principal == principal, idempotency.c.key == key)
            .values(status=answer.status, body=nonce + sealed)
        )
