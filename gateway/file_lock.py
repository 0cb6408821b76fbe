"""A lock that ends with the process that holds it, however that ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LOOK_S = 0.1


class FileLock:
    """Held by at most one process; the file itself stays and means nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Whether it is held now. Raises `OSError` where the file cannot be made."""
        if self._descriptor is not None:
            return True
        # Closed by `exec`, so that no child holds on to it.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Lets others have it; nothing happens where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@asynccontextmanager
async def one_after_another(path: Path, *, within_s: float) -> AsyncIterator[None]:
    """Waits until no other process is in here, but goes on at the end of the time all the same."""
    lock = FileLock(path)
    try:
        async with asyncio.timeout(within_s):
            while not lock.take():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        pass  # its holder stands still
    try:
        yield
    finally:
        lock.release()
