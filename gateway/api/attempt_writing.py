"""The task of a gateway that writes failed sign-ins and wrong secrets into the audit."""

import asyncio
import logging

from aiohttp import web

from gateway.api.services import SERVICES, Services
from gateway.operations.failed_attempts import write
from gateway.storage.locks import Tree
from gateway.storage.store import Lane, StoreBusy, StoreClosed

log = logging.getLogger(__name__)

LOOK_S = 1.0


async def write_failed_attempts(app: web.Application) -> None:
    """Writes them until it is cancelled, and then what is left."""
    services = app[SERVICES]
    try:
        while True:
            await asyncio.sleep(LOOK_S)
            await write_due(services)
    finally:
        await write_due(services, all_of_them=True)


async def write_due(services: Services, *, all_of_them: bool = False) -> None:
    """Writes what is due now; what cannot be written is counted on."""
    now_s = asyncio.get_running_loop().time()
    due = services.failures.due(now_s, all_of_them=all_of_them)
    if not due:
        return
    try:
        await services.store.write(lambda tx: write(tx, due), lane=Lane.JOBS, tree=Tree.UNTOUCHED)
    except (StoreBusy, StoreClosed) as error:
        log.warning("failed sign-ins not in the audit yet error=%s", error)
        return
    services.failures.written(due, now_s)
