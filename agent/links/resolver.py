"""The addresses of a name, asked in threads; few at once, since a silent server holds each long."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

ADDRESSES_MAX = 8
# The threads are shared with the connection to the MQTT server, which must not wait for names.
LOOKUPS_MAX = 2

# The addresses of a name as texts. Raises `OSError`.
Resolve = Callable[[str], Awaitable[list[str]]]


class SystemResolver:
    """Asks what this device asks; who wants the same name meanwhile waits for the same answer."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(LOOKUPS_MAX)
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, name: str) -> list[str]:
        """Its addresses. Raises `OSError`."""
        if name not in self._under_way:
            await self._slots.acquire()
            if name in self._under_way:
                self._slots.release()
            else:
                self._ask(name)
        # A lookup cannot be taken back: who is cancelled leaves it to end by itself.
        return list(await asyncio.shield(self._under_way[name]))

    def _ask(self, name: str) -> None:
        asking = asyncio.get_running_loop().run_in_executor(None, _lookup, name)
        self._under_way[name] = asking

        def done(asked: asyncio.Future[list[str]]) -> None:
            del self._under_way[name]
            self._slots.release()
            if not asked.cancelled():
                asked.exception()  # perhaps nobody waits for it any more

        asking.add_done_callback(done)


def _lookup(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_MAX]
