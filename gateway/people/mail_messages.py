"""Builds the message that travels: headers, text and HTML, and a table attached to it."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from gateway.domain.mails import one_line
from gateway.people.mail_texts import Words
from gateway.people.smtp import SmtpSettings, with_plain_domain

_ID_CHARS = 32


@dataclass(frozen=True, slots=True)
class Attachment:
    """A table that goes along."""

    name: str
    text: str


def message_of(
    words: Words,
    recipient: str,
    settings: SmtpSettings,
    *,
    language: str,
    sealed: bytes,
    created_ms: int,
    attachment: Attachment | None = None,
) -> EmailMessage:
    """The mail as it is sent. Raises `ValueError` when the address is none.

    Its id and its date are the same at each try, so that a mailbox shows once what a server took
    twice: `sealed` is as unlike any other as the random number in it.
    """
    domain = settings.from_address.rpartition("@")[2]
    number = hashlib.sha256(sealed).hexdigest()[:_ID_CHARS]
    local, _, host = with_plain_domain(recipient).rpartition("@")
    sender, _, home = settings.from_address.rpartition("@")
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(one_line(settings.from_name), sender, home)
    message["To"] = Address("", local, host)
    message["Subject"] = words.subject
    message["Date"] = datetime.fromtimestamp(created_ms / 1000, UTC)
    message["Message-ID"] = f"<{number}@{domain}>"
    # So that no holiday notice answers, and nobody is answered in a circle.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(words.text)
    message.add_alternative(words.html, subtype="html")
    if attachment is not None:
        message.add_attachment(attachment.text, subtype="csv", filename=attachment.name)
    message["Content-Language"] = language  # last: with new content such headers are lost
    return message
