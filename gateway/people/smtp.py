"""Hands mails to an SMTP server, and says what became of each.

MailRefused
├── ServerUnfit   nothing can be sent now: no server, no TLS, not signed in, we may not send
├── NotNow        this mail, later
└── Never         this mail, never: trying again will not help
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib

REASON_CHARS_MAX = 300
QUIT_S_MAX = 2.0
_PERMANENT = 500
# The server wants us to sign in, or will not have us: no fault of the mail.
_ABOUT_US = frozenset({421, 530, 534, 535, 538})
_ABOUT_SIZE = frozenset({552})
_LOCAL_PART = re.compile(r"[^\s<>@:;,\"']+@")
_OUR_HOST_NAME = "fleetgate.invalid"


class MailRefused(Exception):
    """A mail was not taken."""


class ServerUnfit(MailRefused):
    """The server takes nothing from us at present; a person may have to look."""


class NotNow(MailRefused):
    """This mail was not taken now."""


class Never(MailRefused):
    """This mail will never be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """How the mail server is reached, and in whose name."""

    host: str
    port: int
    security: str
    from_address: str
    from_name: str
    timeout_s: int
    ca_file: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)


class Connection:
    """A server that is ready to take mails."""

    def __init__(self, client: aiosmtplib.SMTP, settings: SmtpSettings) -> None:
        self._client = client
        self._settings = settings

    @property
    def alive(self) -> bool:
        """Whether more can be sent here."""
        return self._client.is_connected

    async def send(self, recipient: str, message: EmailMessage) -> None:
        """Returns when the server has taken the mail. Raises `MailRefused`."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._client.send_message(
                    message,
                    sender=self._settings.from_address,
                    recipients=[with_plain_domain(recipient)],
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            (one,) = error.recipients
            raise _refused(one.code, one.message) from error
        except aiosmtplib.SMTPSenderRefused as error:
            if error.code in _ABOUT_SIZE or error.code < _PERMANENT:
                raise _refused(error.code, error.message) from error
            raise ServerUnfit(_reason(error.code, error.message)) from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code, error.message) from error
        except (aiosmtplib.SMTPNotSupported, ValueError) as error:
            raise Never(cleaned_reason(str(error))) from error
        except asyncio.CancelledError:
            self._client.close()  # its next answer would be taken for that of another mail
            raise
        except (aiosmtplib.SMTPException, OSError) as error:
            # Nobody knows how far it came, so this connection is over.
            self._client.close()
            raise NotNow(cleaned_reason(str(error) or "no answer in time")) from error


@asynccontextmanager
async def connected(settings: SmtpSettings) -> AsyncIterator[Connection]:
    """A connection, encrypted and signed in as configured. Raises `ServerUnfit`."""
    try:
        client = aiosmtplib.SMTP(
            hostname=settings.host.strip("[]"),
            port=settings.port,
            username=settings.user or None,
            password=settings.password or None,
            local_hostname=_OUR_HOST_NAME,
            timeout=settings.timeout_s,
            use_tls=settings.security == "tls",
            # Asked for, it is insisted on: a server that offers none is refused.
            start_tls=settings.security == "starttls",
            tls_context=_tls(settings),
        )
        async with asyncio.timeout(settings.timeout_s):
            await client.connect()
    except aiosmtplib.SMTPResponseException as error:
        raise ServerUnfit(_reason(error.code, error.message)) from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise ServerUnfit(cleaned_reason(str(error) or "no answer in time")) from error
    try:
        yield Connection(client, settings)
    finally:
        await _leave(client)


async def _leave(client: aiosmtplib.SMTP) -> None:
    try:
        async with asyncio.timeout(QUIT_S_MAX):
            await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        pass  # what was to be sent is sent
    finally:
        client.close()


def _tls(settings: SmtpSettings) -> ssl.SSLContext | None:
    if settings.security == "none":
        return None
    return ssl.create_default_context(cafile=settings.ca_file)


def _refused(code: int, message: str) -> MailRefused:
    reason = _reason(code, message)
    if code in _ABOUT_US:
        return ServerUnfit(reason)
    return Never(reason) if code >= _PERMANENT else NotNow(reason)


def _reason(code: int, message: str) -> str:
    return cleaned_reason(f"{code} {message}")


def cleaned_reason(text: str) -> str:
    """What a server said, without the names before its @: it is kept, shown and logged."""
    plain = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(_LOCAL_PART.sub("…@", plain).split())[:REASON_CHARS_MAX]


def with_plain_domain(address: str) -> str:
    """The address with its domain as DNS spells it, so that any server can take it."""
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return address
    return f"{local}@{domain.encode('idna').decode()}"
