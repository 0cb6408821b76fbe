"""Which mail server an installation uses; its password lies in a file, or in the environment."""

import os
import stat
from pathlib import Path

from gateway.command.configuration import ConfigurationError, GatewayConfiguration
from gateway.people.smtp import SmtpSettings

PASSWORD_VARIABLE = "FLEETGATE_MAIL_PASSWORD"
_LOOSE_MODE = stat.S_IRWXG | stat.S_IRWXO


def smtp_of(configuration: GatewayConfiguration) -> SmtpSettings | None:
    """How mails are sent; None when they are not. Raises `ConfigurationError`."""
    mail = configuration.mail
    if not mail.host:
        return None
    if mail.ca_file is not None and not mail.ca_file.is_file():
        raise ConfigurationError(f"mail.ca_file {mail.ca_file}: no such file")
    return SmtpSettings(
        host=mail.host,
        port=mail.port,
        security=mail.security,
        from_address=mail.from_address,
        from_name=mail.from_name,
        timeout_s=mail.timeout_s,
        ca_file=mail.ca_file,
        user=mail.user,
        password=_password(mail.user, mail.password_file),
    )


def _password(user: str, file: Path | None) -> str:
    if not user:
        return ""
    if file is None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise ConfigurationError(
                f"mail.user {user} has no password: name its file in mail.password_file, or set"
                f" {PASSWORD_VARIABLE}"
            )
        return password
    try:
        if file.stat().st_mode & _LOOSE_MODE:
            raise ConfigurationError(
                f"mail.password_file {file} is open to others: run  chmod 600 {file}"
            )
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"mail.password_file {file}: {error}") from error
