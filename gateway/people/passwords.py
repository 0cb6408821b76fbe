"""Passwords as Argon2id texts that carry their own parameters."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 32 * 1024
ITERATIONS = 3
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32
PASSWORD_CHARS_MIN = 8
PASSWORD_CHARS_MAX = 200
# Each check holds its memory, so a crowd at the door must not become a crowd in memory.
CHECKS_AT_ONCE_MAX = 2
_PREFIX = "$argon2id$"


def hash_password(password: str) -> str:
    """A new hash text; takes about 60 ms, so never inside a transaction."""
    return Argon2id(
        salt=os.urandom(SALT_BYTES),
        length=HASH_BYTES,
        iterations=ITERATIONS,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    ).derive_phc_encoded(password.encode())


def verify_password(password: str, hash_text: str) -> bool:
    """Whether the password made this hash text."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), hash_text)
    except InvalidKey:
        return False
    return True


def why_not_a_password(password: str) -> str | None:
    """What is wrong with a password that somebody chose; None when it will do."""
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        return f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
    return None


@dataclass(slots=True)
class _Queue:
    """Those from one address: one of them is in the room, or waits for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class PasswordDesk:
    """Hashes and checks passwords on threads, a few at a time."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(CHECKS_AT_ONCE_MAX)
        self._queues: dict[str, _Queue] = {}
        self._nobodys_hash: str | None = None

    async def hash(self, password: str) -> str:
        """A new hash text."""
        async with self._room:
            return await asyncio.to_thread(hash_password, password)

    async def check(self, password: str, hash_text: str | None, *, whose: str = "") -> bool:
        """Whether the password fits; without an account (None) it costs the same and fails.

        So does the text of an account that has no password. `whose`: where it comes from; a crowd
        from one address waits behind itself, and others behind one of it at most.
        """
        hashed = hash_text is not None and hash_text.startswith(_PREFIX)
        async with self._turn(whose), self._room:
            if self._nobodys_hash is None:
                self._nobodys_hash = await asyncio.to_thread(hash_password, "nobody's password")
            text = hash_text if hash_text is not None and hashed else self._nobodys_hash
            fits = await asyncio.to_thread(verify_password, password, text)
        return fits and hashed

    @asynccontextmanager
    async def _turn(self, whose: str) -> AsyncIterator[None]:
        if not whose:
            yield
            return
        queue = self._queues.setdefault(whose, _Queue())
        queue.length += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[whose]
