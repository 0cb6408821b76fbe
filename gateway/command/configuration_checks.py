"""What a configuration must be: values that can work together and are safe, key by key."""

import re
from urllib.parse import urlsplit

from gateway.command.sections import (
    DatabaseSection,
    GatewayConfiguration,
    HistorySection,
    HttpSection,
    MailSection,
    MqttSection,
    RelaySection,
    is_loopback,
)
from gateway.domain.daily import TRIAL_DAYS_MAX
from gateway.domain.host_names import common_domain, is_address, is_domain

PUBLIC_HOSTS_MAX = 3  # a join string carries no more
_RELAY_ID = re.compile(r"relay-[a-z0-9-]{1,24}")
_NODE = re.compile(r"node-[a-z0-9-]{1,20}")
_GATEWAY_LOGIN = re.compile(r"@gateway-[a-z0-9-]{1,24}")
_SERVER = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[1-9][0-9]{0,4}")
_MAIL_ADDRESS = re.compile(r"[!-~]{1,64}@[A-Za-z0-9.-]{1,190}")
OPENS_PER_S_MAX = 1_000_000
MBIT_S_MAX = 100_000
MAIL_SECURITY = ("starttls", "tls", "none")
MAIL_TIMEOUT_S = range(5, 121)
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
RAW_DAYS_MIN = 3
HISTORY_DAYS_MAX = 36_500


class ConfigurationError(Exception):
    """The operator must change a file or an option."""


def check(configuration: GatewayConfiguration) -> None:
    """Refuses what cannot work or is not safe, naming the key."""
    for name in ("http", "devices", "mqtt", "relay"):
        section = getattr(configuration, name)
        if not section.host:
            raise ConfigurationError(f"{name}.host is empty: name an address, or 0.0.0.0 for all")
        _check_port(f"{name}.port", section.port)
    for name in ("devices", "mqtt", "relay"):
        section = getattr(configuration, name)
        _check_port(f"{name}.public_port", section.public_port)
        if len(section.public_hosts) > PUBLIC_HOSTS_MAX:
            raise ConfigurationError(f"{name}.public_hosts has more than {PUBLIC_HOSTS_MAX} hosts")
    _check_http(configuration.http)
    _check_names(configuration.mqtt)
    _check_gateways(configuration.mqtt, configuration.database)
    _check_relay(configuration.relay, configuration.http)
    if configuration.log.format not in LOG_FORMATS:
        raise ConfigurationError(f"log.format must be one of {', '.join(LOG_FORMATS)}")
    if configuration.log.level not in LOG_LEVELS:
        raise ConfigurationError(f"log.level must be one of {', '.join(LOG_LEVELS)}")
    check_database(configuration.database)
    _check_mail(configuration.mail)
    _check_history(configuration.history)
    if not 0 <= configuration.credits.trial_days <= TRIAL_DAYS_MAX:
        raise ConfigurationError(f"credits.trial_days must be from 0 to {TRIAL_DAYS_MAX}")


def _check_port(name: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{name} must be between 0 and 65535, not {port}")


def _check_http(http: HttpSection) -> None:
    if (http.certificate_file is None) != (http.key_file is None):
        raise ConfigurationError("http.certificate_file and http.key_file belong together")
    if not (is_loopback(http.host) or http.certificate_file or http.behind_proxy):
        raise ConfigurationError(
            f"http.host {http.host} is off loopback without a certificate: set"
            " http.certificate_file and http.key_file, or http.behind_proxy = true"
        )
    if http.public_url and urlsplit(http.public_url).scheme not in ("http", "https"):
        raise ConfigurationError("http.public_url must begin with https:// or http://")


def _check_names(mqtt: MqttSection) -> None:
    for key in ("socket_name", "password_name", "acl_name", "pid_name"):
        name = getattr(mqtt, key)
        if not name or "/" in name or any(character.isspace() for character in name):
            raise ConfigurationError(f"mqtt.{key} must be a plain file name, not {name!r}")


def _check_gateways(mqtt: MqttSection, database: DatabaseSection) -> None:
    if not _NODE.fullmatch(mqtt.node):
        raise ConfigurationError(
            f"mqtt.node must be node- and then a-z, 0-9 or -, at most 25 in all, not {mqtt.node!r}"
        )
    for login in (mqtt.login, *mqtt.gateways):
        if not _GATEWAY_LOGIN.fullmatch(login):
            raise ConfigurationError(
                f"mqtt.login and mqtt.gateways: {login!r} must be @gateway- and then a-z, 0-9 or -,"
                " at most 33 in all"
            )
    if mqtt.login not in mqtt.gateway_logins or len(set(mqtt.gateways)) != len(mqtt.gateways):
        raise ConfigurationError(f"mqtt.gateways must name {mqtt.login} and each gateway once")
    if len(mqtt.gateways) > 1 and not database.url:
        raise ConfigurationError(
            "mqtt.gateways: several gateways need PostgreSQL: set database.url, or run one gateway"
        )


def check_database(database: DatabaseSection) -> None:
    """Refuses what is no address of a database, and a password in it."""
    url = urlsplit(database.url)
    if url.password:
        raise ConfigurationError("database.url holds a password: put it in database.password_file")
    if database.url and url.scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(
            "database.url must be postgresql://USER@HOST/NAME, or empty for the SQLite file in the"
            " data directory"
        )
    if database.url and not url.path.strip("/"):
        raise ConfigurationError("database.url names no database: postgresql://USER@HOST/NAME")


def _check_mail(mail: MailSection) -> None:
    if mail.security not in MAIL_SECURITY:
        raise ConfigurationError(f"mail.security must be one of {', '.join(MAIL_SECURITY)}")
    if not 1 <= mail.port <= 65535:
        raise ConfigurationError(f"mail.port must be between 1 and 65535, not {mail.port}")
    if mail.timeout_s not in MAIL_TIMEOUT_S:
        raise ConfigurationError("mail.timeout_s must be from 5 to 120")
    if mail.password_file and not mail.user:
        raise ConfigurationError("mail.password_file needs the name in mail.user")
    if not mail.host:
        return
    if not (is_address(mail.host) or is_domain(mail.host)):
        raise ConfigurationError(
            f"mail.host must be a host name in lower case or an IP address, not {mail.host!r}: the"
            " port stands in mail.port"
        )
    if mail.security == "none" and not is_loopback(mail.host):
        raise ConfigurationError(
            f"mail.security none would send links and passwords to {mail.host} in plain: set"
            " starttls or tls"
        )
    if not _MAIL_ADDRESS.fullmatch(mail.from_address):
        raise ConfigurationError(
            "mail.from_address must be the address that mails come from, such as"
            f" fleetgate@example.org, not {mail.from_address!r}"
        )
    if not mail.from_name.isprintable():
        raise ConfigurationError("mail.from_name must be one line of printable characters")


def _check_history(history: HistorySection) -> None:
    if history.raw_days < RAW_DAYS_MIN:
        raise ConfigurationError(
            f"history.raw_days must be at least {RAW_DAYS_MIN}: plots of two days are made of raw"
            " samples"
        )
    if not history.raw_days <= history.hourly_days <= history.daily_days <= HISTORY_DAYS_MAX:
        raise ConfigurationError(
            "history: raw_days, hourly_days and daily_days must ascend, and be at most"
            f" {HISTORY_DAYS_MAX:,}"
        )


def _check_relay(relay: RelaySection, http: HttpSection) -> None:
    if not _RELAY_ID.fullmatch(relay.id):
        raise ConfigurationError(
            f"relay.id must be relay- and then a-z, 0-9 or -, at most 30 in all, not {relay.id!r}"
        )
    if not 1 <= relay.opens_per_s <= OPENS_PER_S_MAX:
        raise ConfigurationError(f"relay.opens_per_s must be 1 to {OPENS_PER_S_MAX}")
    for name in ("session_mbit_s", "company_mbit_s"):
        if not 0 <= getattr(relay, name) <= MBIT_S_MAX:
            raise ConfigurationError(f"relay.{name} must be 0 (no limit) to {MBIT_S_MAX}")
    for server in relay.mqtt_servers:
        if not _SERVER.fullmatch(server):
            raise ConfigurationError(f"relay.mqtt_servers: write HOST:PORT, not {server!r}")
    if (relay.certificate_file is None) != (relay.key_file is None):
        raise ConfigurationError("relay.certificate_file and relay.key_file belong together")
    if relay.host and relay.host != "localhost" and not is_address(relay.host):
        raise ConfigurationError(
            f"relay.host must be an IP address of this machine, or 0.0.0.0 for all, not"
            f" {relay.host!r}: names by which others find it stand in relay.public_hosts"
        )
    if not is_domain(relay.domain):
        raise ConfigurationError(
            f"relay.domain must be a host name in lower case below which sessions get names of"
            f" their own, such as tunnel.example.net, not {relay.domain!r}"
        )
    if not is_loopback(relay.host):
        if not (relay.certificate_file or relay.behind_proxy):
            raise ConfigurationError(
                f"relay.host {relay.host} is off loopback without a certificate: set"
                f" relay.certificate_file and relay.key_file (for *.{relay.domain}), or"
                " relay.behind_proxy = true"
            )
        if relay.domain == "localhost":
            raise ConfigurationError(
                f"relay.host {relay.host} is off loopback, but relay.domain localhost leads every"
                " visitor to the visitor's own machine: set a domain whose names lead here"
            )
    gateway_host = urlsplit(http.url).hostname or ""
    shared = common_domain(gateway_host, relay.domain)
    if shared:
        raise ConfigurationError(
            f"the gateway {gateway_host} (http.public_url, or http.host) and relay.domain"
            f" {relay.domain} share the domain {shared}: a page behind a router could set cookies"
            " for the gateway. Give the relay a domain of its own"
        )
