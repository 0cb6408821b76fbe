"""The task of an application that writes failed sign-ins and wrong secrets into the audit."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from gateway.api.services import SERVICES
from gateway.operations.failed_attempts import Failures, write
from gateway.storage.locks import Tree
from gateway.storage.store import Lane, Store, StoreBusy, StoreClosed

log = logging.getLogger(__name__)

LOOK_S = 1.0


async def write_failures(app: web.Application) -> AsyncIterator[None]:
    """Writes them while the application runs, and what is left at its end."""
    services = app[SERVICES]
    task = asyncio.create_task(_write_forever(services.store, services.failures))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await _write_due(services.store, services.failures, all_of_them=True)


async def _write_forever(store: Store, failures: Failures) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        await _write_due(store, failures)


async def _write_due(store: Store, failures: Failures, *, all_of_them: bool = False) -> None:
    now_s = asyncio.get_running_loop().time()
    due = failures.due(now_s, all_of_them=all_of_them)
    if not due:
        return
    try:
        await store.write(lambda tx: write(tx, due), lane=Lane.JOBS, tree=Tree.UNTOUCHED)
    except (StoreBusy, StoreClosed) as error:
        log.warning("failed sign-ins not in the audit yet error=%s", error)
        return
    failures.written(due, now_s)
