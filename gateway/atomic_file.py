"""Replaces a file in one step, so that nobody ever reads half of it."""

import os
import secrets
from pathlib import Path

PRIVATE_FILE_MODE = 0o600


def write_atomically(
    path: Path,
    content: bytes,
    *,
    mode: int = PRIVATE_FILE_MODE,
    owner: tuple[int, int] | None = None,
) -> None:
    """Writes beside the file, flushes to disk, renames; `owner` is (user id, group id)."""
    # A name of its own for each writer: two writers never share a half-written file.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # the umask must not decide
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
