"""Sends what is queued: one connection at a time, each mail marked as soon as it is taken."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from email.errors import MessageError
from functools import partial
from typing import Any, TypeVar

from jinja2 import TemplateError

from gateway.clock import Clock
from gateway.jobs import mails, notice_mails, reset_mails, statement_mails
from gateway.join.sealing import SealBroken, unseal
from gateway.operations.mailing import bound_to
from gateway.operations.registry import Site
from gateway.people.mail_messages import message_of
from gateway.people.mail_texts import words_of_mail
from gateway.people.smtp import (
    Connection,
    MailRefused,
    Never,
    ServerUnfit,
    SmtpSettings,
    cleaned_reason,
    connected,
)
from gateway.storage.store import Lane, Store, StoreBusy, StoreClosed
from gateway.storage.transaction import AnyRow, Transaction
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_EVERY_S = 1.0
TOLD_EVERY_S = 5.0
PAUSE_S_MIN = 5.0
PAUSE_S_MAX = 60.0
PER_CONNECTION = 100  # some servers hang up after so many
STOP_S_MAX = 5.0  # so long a mail on its way may keep the gateway from stopping
MARGIN_S = 15.0  # for what lies between the server's word and the mark


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What was begun is brought to its end also while the gateway stops, for a moment."""
    over = asyncio.Event()

    async def to_its_end() -> T:
        try:
            return await work
        finally:
            over.set()

    try:
        return await asyncio.shield(to_its_end())
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await over.wait()
        raise


class MailSender:
    """The sender of one gateway; several share one queue."""

    def __init__(
        self, store: Store, clock: Clock, telemetry: Telemetry, site: Site, settings: SmtpSettings
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._site = site
        self._settings = settings
        self._away_s = 0.0  # the newest wait for a server that takes nothing

    async def run(self) -> None:
        """Queues and sends what is due, again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self.queue_told, TOLD_EVERY_S), name="mails queued")
            tasks.create_task(self._repeat(self.send_due, LOOK_EVERY_S), name="mails sent")
            tasks.create_task(self._repeat(self.queue_resets, LOOK_EVERY_S), name="resets queued")

    async def _repeat(self, work: Callable[[], Awaitable[object]], every_s: float) -> None:
        while True:
            pause_s = every_s
            try:
                await work()
            except ServerUnfit as error:
                pause_s = await self._note(str(error))
            except StoreClosed:
                raise
            except StoreBusy:
                log.warning("mails put off, the store is busy")
            except Exception as error:
                # A bug here must not stop the gateway's other work; a person must look.
                log.exception("mails failed")
                self._telemetry.failed(self._clock.wall_ms(), "mail", type(error).__name__)
                pause_s = PAUSE_S_MAX
            await asyncio.sleep(pause_s)

    async def queue_told(self) -> None:
        """Queues what nobody asked for by hand: notices and statements."""
        while people := await self._store.read(notice_mails.people_due):
            work = partial(notice_mails.queue_for, people=people, site=self._site)
            if not await self._store.write(work, lane=Lane.JOBS):
                break  # another gateway is at it, or too much waits
        some = partial(statement_mails.queue_some, site=self._site)
        while await self._store.write(some, lane=Lane.JOBS):
            pass

    async def queue_resets(self) -> None:
        """Queues the links for those who forgot their password."""
        while await self._store.read(reset_mails.anything_asked):
            some = partial(reset_mails.queue_some, site=self._site)
            if not await self._store.write(some, lane=Lane.JOBS):
                break  # another gateway is at it

    async def _note(self, reason: str) -> float:
        """The server is away or will not have us: how long we wait, at no mail's expense."""
        if not self._away_s:
            self._telemetry.failed(self._clock.wall_ms(), "mail", reason)
            log.warning(
                "mail server takes nothing host=%s port=%d why=%s",
                self._settings.host,
                self._settings.port,
                reason,
            )
        self._away_s = min(max(self._away_s * 2, PAUSE_S_MIN), PAUSE_S_MAX)
        with contextlib.suppress(StoreBusy):
            await self._store.write(partial(mails.note_trouble, reason=reason), lane=Lane.JOBS)
        return self._away_s

    async def send_due(self) -> int:
        """Sends all that is due; how many were taken. Raises `ServerUnfit`."""
        taken = 0
        while await self._store.read(mails.anything_due):
            async with connected(self._settings) as connection:
                self._away_s = 0.0
                before = taken
                while connection.alive and taken - before < PER_CONNECTION:
                    rows = await self._claim()
                    if not rows:
                        return taken  # another gateway is at it
                    taken += await self._send_all(connection, rows)
        return taken

    async def _claim(self) -> Sequence[AnyRow]:
        # Nothing is begun after one time limit, and what was begun ends within another.
        lease_ms = round((2 * self._settings.timeout_s + MARGIN_S) * 1000)
        return await self._store.write(partial(mails.claim, lease_ms=lease_ms), lane=Lane.JOBS)

    async def _send_all(self, connection: Connection, rows: Sequence[AnyRow]) -> int:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._settings.timeout_s
        taken, tried = 0, 0
        try:
            for row in rows:
                if loop.time() >= until_s or not connection.alive:
                    break
                tried += 1
                taken += await _finished(self._send(connection, row))
        finally:
            # Also at the end of the gateway: the next one need not wait for the lease.
            if left := rows[tried:]:
                await _finished(self._mark(partial(mails.release, rows=left)))
        return taken

    async def _send(self, connection: Connection, row: AnyRow) -> bool:
        domain = row.recipient.rpartition("@")[2]
        try:
            # The whole of it, so that the lease outlives it.
            async with asyncio.timeout(self._settings.timeout_s):
                await connection.send(row.recipient, await self._message(row))
        except Never as error:
            log.warning("mail given up domain=%s template=%s why=%s", domain, row.template, error)
            self._telemetry.failed(self._clock.wall_ms(), "mail_given_up", f"{domain}: {error}")
            await self._mark(partial(mails.give_up, row=row, reason=str(error)))
            return False
        except (MailRefused, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.warning("mail put off domain=%s template=%s why=%s", domain, row.template, reason)
            await self._mark(partial(mails.put_off, row=row, reason=reason))
            if isinstance(error, ServerUnfit):
                raise
            return False
        except StoreBusy:
            raise  # what the mail is made of cannot be read now; its lease ends by itself
        except Exception as error:
            # A bug that this mail brings out; the others must not wait behind it.
            log.exception("mail put off domain=%s template=%s", domain, row.template)
            self._telemetry.failed(self._clock.wall_ms(), "mail", type(error).__name__)
            await self._mark(partial(mails.put_off, row=row, reason=type(error).__name__))
            return False
        await self._mark(partial(mails.sent, row=row))
        log.info("mail sent domain=%s template=%s attempts=%d", domain, row.template, row.attempts)
        return True

    async def _mark(self, mark: Callable[[Transaction], Any]) -> None:
        await self._store.write(mark, lane=Lane.JOBS)

    async def _message(self, row: AnyRow) -> Any:
        """The mail as it travels. Raises `Never` when it cannot be made."""
        site = self._site
        try:
            bound = bound_to(row.template, row.recipient)
            values = json.loads(unseal(site.master_key, row.sealed, bound_to=bound))
            attachment = None
            if row.template == "statement":
                make = partial(
                    statement_mails.attachment_of, site=site, values=values, language=row.language
                )
                totals, attachment = await self._store.read(make)
                values = {**values, "totals": totals, "attached": attachment is not None}
            words = words_of_mail(row.template, row.language, values, site.public_url)
            return message_of(
                words,
                row.recipient,
                self._settings,
                language=row.language,
                sealed=row.sealed,
                created_ms=row.created_at,
                attachment=attachment,
            )
        except SealBroken as error:
            raise Never("sealed with another master.key: send it anew") from error
        except (ValueError, LookupError, MessageError, TemplateError) as error:
            reason = cleaned_reason(f"it could not be written: {error!r}")
            raise Never(reason) from error
