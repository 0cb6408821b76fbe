"""Importing devices: the file is looked at in parts before the one transaction that writes.

Meanwhile others can be told how far it is, and nobody waits for the one writer.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from gateway.api import idempotency
from gateway.api.catalogue import operation_called
from gateway.api.execution import Asked, Done, answer_operation, perform
from gateway.api.services import Services, services_of
from gateway.domain.importing import BadLine, Line, LinesRefused, Sheet, read_sheet
from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal
from gateway.operations.import_lines import (
    AT_ONCE,
    Candidate,
    find_taken_aliases,
    find_unpaid,
    parts,
)
from gateway.operations.importing import (
    CheckedImport,
    ImportDevices,
    admitted,
    as_checked,
    begin_import,
    check_part,
    drop_import,
    note_progress,
    note_refused,
)
from gateway.operations.registry import Call
from gateway.storage.transaction import Transaction


async def import_devices(request: web.Request) -> web.StreamResponse:
    """The answer to an import, at its end."""
    async with _a_desk(services_of(request)) as desk:
        op = operation_called("devices.import")
        response = await answer_operation(request, op, desk.check)
        if idempotency.REPLAYED_HEADER in response.headers:
            await desk.drop()
    return response


async def perform_import(request: web.Request, services: Services, asked: Asked) -> Done:
    """An import as a page's form asks for it. Raises `Refused`."""
    async with _a_desk(services) as desk:
        done = await perform(request, services, asked, desk.check)
        if done.replayed:
            await desk.drop()
    return done


@asynccontextmanager
async def _a_desk(services: Services) -> AsyncIterator["_Desk"]:
    desk = _Desk(services)
    try:
        yield desk
    except Refused as refused:
        await desk.refused(refused)
        raise


class _Desk:
    """Looks at one file."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._import_id = 0

    async def check(self, services: Services, principal: Principal, asked: Asked) -> CheckedImport:
        """The file with all that is wrong with it, before the transaction. Raises `Refused`."""
        given = asked.given
        assert isinstance(given, ImportDevices)
        store = services.store

        def call(tx: Transaction) -> Call:
            return Call(tx, principal, services.site)

        number, start = await store.read(lambda tx: admitted(call(tx), given))
        if not asked.dry_run:
            self._import_id = await store.write(
                lambda tx: begin_import(tx, number, given, principal.name)
            )
        # In a thread of the store: a large file takes a while.
        sheet: Sheet = await store.read(lambda _: read_sheet(given.csv))
        bad = list(sheet.bad)
        candidates: list[Candidate] = []

        def look(tx: Transaction, part: Sequence[Line]) -> tuple[list[Candidate], list[BadLine]]:
            return check_part(call(tx), number, start, part)

        for done, part in enumerate(parts(sheet.lines)):
            await self._note(sheet.count, done * AT_ONCE, len(bad))
            fitting, unfit = await store.read(partial(look, part=part))
            candidates += fitting
            bad += unfit
        bad += await store.read(lambda tx: find_taken_aliases(call(tx), candidates))
        refused = {one.line for one in bad}
        candidates = [one for one in candidates if one.line.number not in refused]
        bad += await store.read(lambda tx: find_unpaid(call(tx), candidates))
        await self._note(sheet.count, sheet.count, len(bad))
        return as_checked(given, candidates, bad, sheet.count, self._import_id)

    async def _note(self, lines: int, checked: int, bad: int) -> None:
        if self._import_id:
            id_ = self._import_id
            await self._services.store.write(lambda tx: note_progress(tx, id_, lines, checked, bad))

    async def refused(self, refused: Refused) -> None:
        """Nothing was kept."""
        bad = len(refused.lines) if isinstance(refused, LinesRefused) else 0
        await self._end(lambda tx: note_refused(tx, self._import_id, bad))

    async def drop(self) -> None:
        """It was done before, with the same key."""
        await self._end(lambda tx: drop_import(tx, self._import_id))

    async def _end(self, work: Callable[[Transaction], None]) -> None:
        if self._import_id:
            await self._services.store.write(work)
