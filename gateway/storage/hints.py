"""Brings hints of the store, which come on its threads, to a task of an event loop."""

import asyncio
import logging
from collections.abc import Callable

from gateway.storage.store import Store
from gateway.storage.transaction import Signal

log = logging.getLogger(__name__)


def hint_on_loop(
    store: Store, loop: asyncio.AbstractEventLoop, signal: Signal, hint: Callable[[], None]
) -> None:
    """Calls `hint` on the loop after commits that carry the signal."""

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(hint)
        except RuntimeError:
            # The loop is closed: whoever starts next reads the table anyway.
            log.debug("signal after the end signal=%s", signal)

    store.listen(signal, wake)
