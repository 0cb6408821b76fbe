"""The sections of gateway.toml: one frozen type each, with the meaning of every key."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


ANY_ADDRESS = {
    "0.0.0.0": "127.0.0.1",  # noqa: S104 - compared, not bound
    "::": "::1",
}


def reachable(host: str) -> str:
    """Where a program on this machine finds a listener of this host."""
    return ANY_ADDRESS.get(host, host)


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """Where things lie. Relative paths of the whole file are relative to `directory`."""

    directory: Annotated[Path, "Data directory. Relative: to the folder of this file."] = Path()
    keys: Annotated[Path, "Folder of master.key and the own CA; part of every backup."] = Path(
        "keys"
    )
    admin_file: Annotated[
        Path, "Made at first start: e-mail, password and token of the first operator."
    ] = Path("admin.json")
    admin_socket: Annotated[Path, "Unix socket on which the API answers `fleetgate admin`."] = Path(
        "admin.sock"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """Pages and API for people."""

    host: Annotated[str, "Address to listen on."] = "127.0.0.1"
    port: Annotated[int, "Port to listen on; 0 takes any free one."] = 8080
    certificate_file: Annotated[
        Path | None, "PEM chain. Off loopback it is required unless behind_proxy is set."
    ] = None
    key_file: Annotated[Path | None, "PEM private key of the certificate, mode 0600."] = None
    behind_proxy: Annotated[
        bool, "A reverse proxy in front speaks TLS and sets X-Forwarded-For and -Proto."
    ] = False
    public_url: Annotated[
        str,
        "The address people type, such as https://fleet.example.org; empty: made of host and port.",
    ] = ""

    @property
    def url(self) -> str:
        """Where people find this installation."""
        return self.public_url.rstrip("/") or self.address

    @property
    def address(self) -> str:
        """Where this gateway itself is found on its machine."""
        scheme = "https" if self.certificate_file else "http"
        return f"{scheme}://{bracketed(reachable(self.host))}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesSection:
    """The listener where devices join and exchange files: TLS with the own CA, nothing else."""

    host: Annotated[str, "Address to listen on."] = "127.0.0.1"
    port: Annotated[int, "Port to listen on; 0 takes any free one."] = 8884
    public_hosts: Annotated[
        tuple[str, ...], "Up to 3 names or addresses that join strings carry; empty: host."
    ] = ()
    public_port: Annotated[int, "Port that join strings carry; 0: port."] = 0

    @property
    def join_hosts(self) -> tuple[str, ...]:
        return self.public_hosts or (reachable(self.host),)

    @property
    def join_port(self) -> int:
        return self.public_port or self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSection:
    """The MQTT server (Mosquitto) beside this gateway."""

    node: Annotated[str, "Name of this MQTT server among several, such as node-2."] = "node-1"
    login: Annotated[str, "This gateway's MQTT login."] = "@gateway-1"
    gateways: Annotated[
        tuple[str, ...],
        "MQTT logins of all gateways beside this MQTT server, this one's among them; empty: it is"
        " the only one. More than one need PostgreSQL.",
    ] = ()
    logins_file: Annotated[
        Path, "Passwords of the gateways' logins, the relay's and @probe's, mode 0600."
    ] = Path("mqtt-logins.json")
    directory: Annotated[Path, "Mosquitto's own folder."] = Path("mosquitto")
    socket_name: Annotated[str, "Name of its unix socket in that folder."] = "gateway.sock"
    password_name: Annotated[str, "Name of its password file in that folder."] = "passwd"
    acl_name: Annotated[str, "Name of its access list in that folder."] = "acl"
    pid_name: Annotated[str, "Name of its pid file in that folder."] = "mosquitto.pid"
    server_user: Annotated[
        str, "Unix user that Mosquitto runs as and that owns those files; empty: the gateway's own."
    ] = ""
    host: Annotated[str, "Address of its TLS listener for devices."] = "127.0.0.1"
    port: Annotated[int, "Port of its TLS listener for devices."] = 8883
    public_hosts: Annotated[
        tuple[str, ...], "Up to 3 names or addresses that devices connect to; empty: host."
    ] = ()
    public_port: Annotated[int, "Port that devices connect to; 0: port."] = 0

    @property
    def gateway_logins(self) -> tuple[str, ...]:
        """Logins of all gateways of this node."""
        return self.gateways or (self.login,)

    @property
    def gateway(self) -> str:
        """This gateway's name, as it stands in `fg1/probe/<gateway>`."""
        return self.login.removeprefix("@")

    @property
    def password_file(self) -> Path:
        return self.directory / self.password_name

    @property
    def acl_file(self) -> Path:
        return self.directory / self.acl_name

    @property
    def pid_file(self) -> Path:
        return self.directory / self.pid_name

    @property
    def device_hosts(self) -> tuple[str, ...]:
        return self.public_hosts or (reachable(self.host),)

    @property
    def device_port(self) -> int:
        return self.public_port or self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySection:
    """The relay beside this gateway, where devices and visitors of sessions meet."""

    id: Annotated[str, "Name of this relay; its MQTT login is the same with @ before it."] = (
        "relay-1"
    )
    host: Annotated[str, "Address to listen on, for devices and for visitors."] = "127.0.0.1"
    port: Annotated[int, "Port to listen on."] = 8885
    public_hosts: Annotated[
        tuple[str, ...], "Up to 3 names or addresses that devices and `connect` dial; empty: host."
    ] = ()
    public_port: Annotated[int, "Port that devices and visitors dial; 0: port."] = 0
    domain: Annotated[
        str,
        "Every name below it leads to the relay, and each session has one; it shares no"
        " registrable domain with the gateway.",
    ] = "localhost"
    certificate_file: Annotated[
        Path | None,
        "PEM chain for *.domain, shown to visitors. Off loopback it is required unless"
        " behind_proxy is set.",
    ] = None
    key_file: Annotated[Path | None, "PEM private key of the certificate, mode 0600."] = None
    behind_proxy: Annotated[
        bool,
        "A proxy in front speaks TLS with visitors; TLS for link.fleetgate it passes on as it is.",
    ] = False
    mqtt_servers: Annotated[
        tuple[str, ...],
        "HOST:PORT of other nodes' MQTT servers, which the relay tries in turn while the own one"
        " does not answer.",
    ] = ()
    opens_per_s: Annotated[
        int,
        "Streams that may be opened in one session per second, after a burst of 200; the agent has"
        " the same setting.",
    ] = 50
    session_mbit_s: Annotated[
        int, "Most that one session may carry each way, in Mbit/s; 0: no limit."
    ] = 0
    company_mbit_s: Annotated[
        int,
        "Most that the sessions of one company may carry together each way at this relay, in"
        " Mbit/s; 0: no limit.",
    ] = 0

    @property
    def login(self) -> str:
        """Its name at the MQTT server."""
        return f"@{self.id}"

    @property
    def dial_hosts(self) -> tuple[str, ...]:
        return self.public_hosts or (reachable(self.host),)

    @property
    def dial_port(self) -> int:
        return self.public_port or self.port

    @property
    def tls(self) -> bool:
        """Whether visitors speak TLS, with the relay or with the proxy in front of it."""
        return self.certificate_file is not None or self.behind_proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSection:
    """The store: one file of SQLite, or a PostgreSQL database that several gateways share."""

    url: Annotated[
        str,
        "postgresql://USER@HOST:PORT/NAME, version 15 or later, without a password; empty: SQLite"
        " file fleetgate.db in the data directory.",
    ] = ""
    password_file: Annotated[
        Path | None,
        "File of mode 0600 that holds the database's password; empty: PGPASSFILE or PGPASSWORD, if"
        " one is needed.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySection:
    """How long devices' history is kept; plots take the finest level that still has their range."""

    raw_days: Annotated[int, "Days for which every sample is kept, at least 3."] = 14
    hourly_days: Annotated[
        int, "Days for which an hour's least, mean, greatest and last values are kept."
    ] = 400
    daily_days: Annotated[int, "Days for which the same of a day are kept."] = 1_830


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditsSection:
    """What the whole installation gives."""

    trial_days: Annotated[
        int,
        "Free days that a device gets at its first contact if it was never paid for, 0 to 365.",
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSection:
    """The mail server that takes mails for people; without one, links are shown instead."""

    host: Annotated[str, "Name or address of the SMTP server; empty: no mails are sent."] = ""
    port: Annotated[int, "Its port: 587 is usual for starttls, 465 for tls."] = 587
    security: Annotated[
        str,
        "`starttls`, `tls` (from the first byte), or `none`, which is refused off loopback. The"
        " server's certificate is always checked.",
    ] = "starttls"
    ca_file: Annotated[
        Path | None, "PEM of the CA that signed its certificate; empty: those the system trusts."
    ] = None
    user: Annotated[str, "Name to sign in with; empty: without signing in."] = ""
    password_file: Annotated[
        Path | None,
        "File of mode 0600 that holds the password; empty: the environment's"
        " FLEETGATE_MAIL_PASSWORD.",
    ] = None
    from_address: Annotated[str, "The address that mails come from; needed with host."] = ""
    from_name: Annotated[str, "The name beside it."] = "Fleetgate"
    timeout_s: Annotated[int, "How long a mail may take the server, 5 to 120 seconds."] = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """What the gateway says on standard error."""

    format: Annotated[str, "`text` (key=value) or `json` (one object a line)."] = "text"
    level: Annotated[str, "`debug`, `info`, `warning` or `error`."] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfiguration:
    """The whole of gateway.toml, checked, with absolute paths."""

    data: DataSection = field(default_factory=DataSection)
    http: HttpSection = field(default_factory=HttpSection)
    devices: DevicesSection = field(default_factory=DevicesSection)
    mqtt: MqttSection = field(default_factory=MqttSection)
    relay: RelaySection = field(default_factory=RelaySection)
    database: DatabaseSection = field(default_factory=DatabaseSection)
    history: HistorySection = field(default_factory=HistorySection)
    credits: CreditsSection = field(default_factory=CreditsSection)
    mail: MailSection = field(default_factory=MailSection)
    log: LogSection = field(default_factory=LogSection)

    sections: ClassVar[dict[str, type]] = {
        "data": DataSection,
        "http": HttpSection,
        "devices": DevicesSection,
        "mqtt": MqttSection,
        "relay": RelaySection,
        "database": DatabaseSection,
        "history": HistorySection,
        "credits": CreditsSection,
        "mail": MailSection,
        "log": LogSection,
    }

    @property
    def loopback_only(self) -> bool:
        hosts = (self.http.host, self.devices.host, self.mqtt.host, self.relay.host)
        return all(is_loopback(host) for host in hosts)
