"""Reads relay.toml: flat, typed, and unknown keys are errors."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from broker.relay.log_format import FORMATS, LEVELS
from wire.streams import OPENS_PER_S

_ID = re.compile(r"relay-[a-z0-9-]{1,24}")
_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-)){0,8}")
_SERVER = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[1-9][0-9]{0,4}")
TICKET_KEYS_MAX = 16


class ConfigurationError(Exception):
    """The operator must change the file."""


@dataclass(frozen=True)
class RelayConfiguration:
    """What the relay is told at its start. Relative files are beside relay.toml."""

    id: str
    host: str
    port: int
    domain: str
    gateway_url: str
    link_certificate_file: Path
    link_key_file: Path
    ticket_keys_file: Path
    mqtt_host: str
    mqtt_port: int
    mqtt_ca_file: Path
    mqtt_password_file: Path
    visitors_certificate_file: Path | None = None
    visitors_key_file: Path | None = None
    public_port: int = 0
    behind_proxy: bool = False
    log_format: str = "text"
    log_level: str = "info"
    opens_per_s: float = OPENS_PER_S
    session_mbit_s: int = 0  # each way; 0: no limit
    company_mbit_s: int = 0
    # HOST:PORT of other nodes' MQTT servers, tried in turn while the first does not answer
    mqtt_servers: tuple[str, ...] = ()

    @property
    def mqtt_addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the relay signs in, in the order in which it tries."""
        others = (server.rpartition(":") for server in self.mqtt_servers)
        return (
            (self.mqtt_host, self.mqtt_port),
            *((host.strip("[]"), int(port)) for host, _, port in others),
        )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ip_address(self.host).is_loopback

    @property
    def tls(self) -> bool:
        """Whether visitors' addresses begin with https."""
        return self.visitors_certificate_file is not None or self.behind_proxy

    @property
    def plain(self) -> bool:
        """Whether connections without TLS are taken."""
        return self.behind_proxy or (self.on_loopback and self.visitors_certificate_file is None)


def load(path: Path) -> RelayConfiguration:
    """The checked configuration. Raises `ConfigurationError`."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        configuration = RelayConfiguration(**_values(table, path.absolute().parent))
        _check(configuration)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return configuration


def _values(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    known = {entry.name: entry for entry in fields(RelayConfiguration)}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
            raise ConfigurationError(f"unknown key {key} (nearest known: {near[0]})")
    required = [name for name, entry in known.items() if not _has_default(entry)]
    missing = [name for name in required if table.get(name) in (None, "")]
    if missing:
        raise ConfigurationError(f"missing: {', '.join(missing)}")
    values = {key: _value(key, known[key].type, value, folder) for key, value in table.items()}
    if values["host"] == "localhost":
        values["host"] = "127.0.0.1"  # without asking anybody what the name means
    return values


def _has_default(entry: Any) -> bool:
    return entry.default is not entry.default_factory  # both MISSING where there is none


def _value(key: str, kind: Any, value: Any, folder: Path) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and type(value) is int:
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str):
        return folder / value
    if kind == Path | None and isinstance(value, str):
        return folder / value if value else None
    listed = kind == tuple[str, ...] and isinstance(value, list)
    if listed and all(isinstance(item, str) for item in value):
        return tuple(value)
    words = {
        tuple[str, ...]: "a list of texts",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
    }
    raise ConfigurationError(f"{key} must be {words.get(kind, 'a path')}, not {value!r}")


def _check(configuration: RelayConfiguration) -> None:
    """Refuses what cannot work or is not safe, naming the key."""
    if not _ID.fullmatch(configuration.id):
        raise ConfigurationError("id must be relay- and then a-z, 0-9 or -")
    try:
        ip_address(configuration.host)
    except ValueError as error:
        raise ConfigurationError("host must be an IP address; 0.0.0.0 or :: for all") from error
    for name in ("port", "public_port", "mqtt_port"):
        if not 0 <= getattr(configuration, name) <= 65_535:
            raise ConfigurationError(f"{name} must be from 0 to 65535")
    for server in configuration.mqtt_servers:
        if not _SERVER.fullmatch(server):
            raise ConfigurationError(f"mqtt_servers: write HOST:PORT, not {server!r}")
    if not _DOMAIN.fullmatch(configuration.domain):
        raise ConfigurationError("domain must be a host name in lower case")
    url = urlsplit(configuration.gateway_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigurationError("gateway_url must begin with https:// or http://")
    if f".{url.hostname}".endswith(f".{configuration.domain}"):
        raise ConfigurationError(
            "domain must not be the gateway's: pages of devices could set its cookies"
        )
    if (configuration.visitors_certificate_file is None) != (
        configuration.visitors_key_file is None
    ):
        raise ConfigurationError("visitors_certificate_file and visitors_key_file belong together")
    if not (configuration.plain or configuration.visitors_certificate_file):
        raise ConfigurationError(
            f"host {configuration.host} is off loopback without a certificate: set"
            " visitors_certificate_file and visitors_key_file, or behind_proxy = true"
        )
    if configuration.log_format not in FORMATS:
        raise ConfigurationError(f"log_format must be one of {', '.join(FORMATS)}")
    if configuration.log_level not in LEVELS:
        raise ConfigurationError(f"log_level must be one of {', '.join(LEVELS)}")
    if not 1 <= configuration.opens_per_s <= 1_000_000:
        raise ConfigurationError("opens_per_s must be at least 1")
    if min(configuration.session_mbit_s, configuration.company_mbit_s) < 0:
        raise ConfigurationError("session_mbit_s and company_mbit_s must be 0 (no limit) or more")


def read_ticket_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """The gateway's public keys by `kid`. Raises `ConfigurationError`."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not JSON") from error
    if not isinstance(rows, dict) or not 1 <= len(rows) <= TICKET_KEYS_MAX:
        raise ConfigurationError(f"{path}: not an object of 1 to {TICKET_KEYS_MAX} keys")
    keys = {}
    for kid, pem in rows.items():
        try:
            key = load_pem_public_key(str(pem).encode())
        except ValueError as error:
            raise ConfigurationError(f"{path}: {kid} is not a public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigurationError(f"{path}: {kid} is not an Ed25519 key")
        keys[kid] = key
    return keys
