"""A real SMTP server on loopback, whose every way to fail has an address."""

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

from gateway.people.smtp import SmtpSettings

USER, PASSWORD = "gateway", "mail-secret-7"
FROM = "fleetgate@fleet.example.org"


@dataclass(slots=True)
class Mailboxes:
    """What arrived, and how addresses behave: by what stands before the @."""

    arrived: list[tuple[str, EmailMessage]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # recipients, also those that were refused
    senders_refused: str = ""
    signed_in: int = 0
    encrypted: bool = False
    connections: int = 0
    port: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    something_came: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self.senders_refused:
            return self.senders_refused
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        if len(self.asked) > 1:
            self.released.set()
        self.encrypted = session.ssl is not None
        name = address.partition("@")[0]
        if name == "later":
            return "450 4.2.0 <later@example.org> is greylisted"
        if name == "nobody":
            return "550 5.1.1 <nobody@example.org>: user unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        name = envelope.rcpt_tos[0].partition("@")[0]
        if name == "slow":
            # Its answer comes when somebody else is being sent to.
            await self.released.wait()
        if name == "spam":
            return "554 5.7.1 refused by policy"
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.arrived.append((envelope.rcpt_tos[0], message))
        self.something_came.set()
        if name == "dropped":
            # It was taken, and nobody hears of it.
            server.transport.abort()
        return "250 OK"

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.signed_in += good
        return AuthResult(success=good, handled=False)  # so that the server says no

    def settings(self, **more: Any) -> SmtpSettings:
        """How a gateway on this machine reaches it."""
        given: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "security": "none",
            "from_address": FROM,
            "from_name": "Fleetgate",
            "timeout_s": 10,
        }
        return SmtpSettings(**{**given, **more})

    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for _, message in self.arrived]


@asynccontextmanager
async def mail_server(
    context: ssl.SSLContext | None = None, *, sign_in: bool = False, port: int = 0
) -> AsyncIterator[Mailboxes]:
    """The server; with a context it insists on STARTTLS."""
    boxes = Mailboxes()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        boxes.connections += 1
        return SMTP(
            boxes,
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=context,
            require_starttls=context is not None,
            authenticator=boxes.authenticate if sign_in else None,
            auth_required=sign_in,
            loop=loop,
        )

    listening = await loop.create_server(protocol, "127.0.0.1", port)
    try:
        boxes.port = listening.sockets[0].getsockname()[1]
        yield boxes
    finally:
        listening.close()


def parts_of(message: EmailMessage) -> tuple[str, str]:
    """Its text and its HTML."""
    plain, page = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and page is not None
    return plain.get_content(), page.get_content()


def link_in(message: EmailMessage, beginning: str) -> str:
    """The one link that begins so."""
    (found,) = {word for word in parts_of(message)[0].split() if word.startswith(beginning)}
    return found


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
