"""A world that sends mails: what waits, and a sender as a gateway would run it."""

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from gateway.clock import Clock
from gateway.jobs.mail_sender import MailSender
from gateway.join.sealing import unseal
from gateway.operations.announcing import note_mail
from gateway.operations.mailing import bound_to, queue_mail
from gateway.people.smtp import SmtpSettings
from gateway.storage.schema import mail
from gateway.storage.store import Store
from gateway.storage.transaction import AnyRow
from gateway.telemetry import Telemetry
from tests.contract.world import SITE, World
from tests.mail_server import Mailboxes, mail_server

MAILING = replace(SITE, mail=True, public_url="https://fleet.example.org")


def mailing(world: World) -> World:
    """As a gateway starts that has a mail server."""
    world.write(lambda tx: note_mail(tx, on=True))
    return world


def queue(world: World, recipient: str, template: str = "password_changed", **values: str) -> None:
    world.write(
        lambda tx: queue_mail(
            tx, site=MAILING, template=template, recipient=recipient, language="", values=values
        )
    )


def rows(world: World) -> Sequence[AnyRow]:
    return world.read(lambda tx: tx.all(select(mail).order_by(mail.c.id)))


def values_of(row: AnyRow) -> dict[str, str]:
    bound = bound_to(row.template, row.recipient)
    found = json.loads(unseal(MAILING.master_key, row.sealed, bound_to=bound))
    assert isinstance(found, dict)
    return found


def sender(world: World, settings: SmtpSettings, store: Store | None = None) -> MailSender:
    telemetry = Telemetry(world.now_ms)
    return MailSender(store or world.store, Clock(), telemetry, MAILING, settings)


def with_server(world: World, work: Callable[[Mailboxes], Coroutine[Any, Any, Any]]) -> Mailboxes:
    """Runs the work beside a mail server; what arrived there."""

    async def run() -> Mailboxes:
        async with mail_server() as boxes:
            await work(boxes)
            return boxes

    return world.wait(run())


def delivered(world: World, *, told: bool = True) -> Mailboxes:
    """Everything that is due goes out; what arrived."""

    async def work(boxes: Mailboxes) -> None:
        one = sender(world, boxes.settings())
        if told:
            await one.queue_told()
        await one.send_due()

    return with_server(world, work)
