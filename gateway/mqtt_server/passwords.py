"""Mosquitto's password file: `$7$` hashes, and the file's text."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from gateway.atomic_file import write_atomically
from wire.serials import SERIAL_PATTERN

# What mosquitto_passwd 2.0 uses. Passwords here are 256 random bits, so stretching adds nothing.
ITERATIONS = 101
ITERATIONS_MAX = 1_000_000
SALT_BYTES = 12
HASH_BYTES = 64

_LOGIN = re.compile(rf"{SERIAL_PATTERN}|@[a-z][a-z0-9-]{{0,31}}")
_HASH = re.compile(r"\$7\$[0-9]{1,7}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==")


def is_login(text: str) -> bool:
    """A serial, or a service's name, which begins with `@` and so can never be a serial."""
    return _LOGIN.fullmatch(text) is not None


def hash_password(password: str, *, salt: bytes | None = None) -> str:
    """The hash in Mosquitto's `$7$` form (PBKDF2 with SHA-512)."""
    if salt is None:
        salt = secrets.token_bytes(SALT_BYTES)
    digest = _derive(password, salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(password: str, hashed: str) -> bool:
    """Whether the MQTT server would let this password in with this hash."""
    if not _HASH.fullmatch(hashed):
        return False
    _, _, iterations, salt, digest = hashed.split("$")
    if not 1 <= int(iterations) <= ITERATIONS_MAX:
        return False
    derived = _derive(password, base64.b64decode(salt), int(iterations))
    return hmac.compare_digest(derived, base64.b64decode(digest))


def _derive(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, HASH_BYTES)


def render(rows: Iterable[tuple[str, str]]) -> str:
    """The file's text from rows of (login, hash); a bad row is an error, never a line."""
    lines: dict[str, str] = {}
    for login, hashed in rows:
        if not is_login(login):
            raise ValueError(f"not a login: {login!r}")
        if not _HASH.fullmatch(hashed):
            raise ValueError(f"not a $7$ hash: login {login}")
        if login in lines:
            raise ValueError(f"login twice: {login}")
        lines[login] = f"{login}:{hashed}\n"
    return "".join(lines[login] for login in sorted(lines))


def write_file(
    path: Path, rows: Iterable[tuple[str, str]], *, owner: tuple[int, int] | None = None
) -> None:
    """Replaces the password file in one step, readable by its owner (user id, group id) only."""
    write_atomically(path, render(rows).encode(), owner=owner)
