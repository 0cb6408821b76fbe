"""Which database an installation uses; its password lies in a file beside the configuration."""

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from gateway.command.configuration import (
    FILE_NAME,
    ConfigurationError,
    GatewayConfiguration,
    load_unchecked,
)
from gateway.storage.address import Address

DATABASE_NAME = "fleetgate.db"
PASSWORD_NAME = "database-password"


def database_of(data: Path) -> Address:
    """The file or URL that the gateway of this directory uses. Raises `ConfigurationError`."""
    path = data / FILE_NAME
    return address_of(load_unchecked(path)) if path.exists() else data / DATABASE_NAME


def address_of(configuration: GatewayConfiguration) -> Address:
    """The same of a configuration that was read already. Raises `ConfigurationError`."""
    url, file = configuration.database.url, configuration.database.password_file
    if not url:
        return configuration.data.directory / DATABASE_NAME
    if file is None:
        return url
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"database.password_file {file}: {error.strerror}") from error
    return with_password(url, password)


def with_password(url: str, password: str) -> str:
    """For the driver; such a URL is never kept or shown."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}"))


def without_password(url: str) -> tuple[str, str | None]:
    """The URL as the configuration holds it, and its password for a file of its own."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    user, _, host = parts.netloc.rpartition("@")
    kept = parts._replace(netloc=f"{user.partition(':')[0]}@{host}")
    return urlunsplit(kept), unquote(parts.password)
