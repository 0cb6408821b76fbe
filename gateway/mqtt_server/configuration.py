"""The text of mosquitto.conf, from checked values."""

import re
from dataclasses import dataclass

PACKET_SIZE_MAX_BYTES = 16_384
CERTIFICATE_NAME = "server.pem"
KEY_NAME = "server.key"
CONFIGURATION_NAME = "mosquitto.conf"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS = re.compile(r"[A-Za-z0-9._:-]{1,255}")


class UnsafeConfiguration(ValueError):
    """These values would make an MQTT server that must not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What varies between installations. File names are relative: the server runs in its folder."""

    tls_host: str
    tls_port: int
    socket_name: str = "gateway.sock"
    password_name: str = "passwd"
    acl_name: str = "acl"
    pid_name: str = "mosquitto.pid"
    user: str = ""
    connections_max: int = 20_000
    memory_max_bytes: int = 1024 * 1024 * 1024
    # Per client. QoS 1 only, and only `@gateway` ever has much: presence and answers.
    queue_max_bytes: int = 64 * 1024 * 1024
    keep_alive_s_max: int = 3600

    def __post_init__(self) -> None:
        for name in (self.socket_name, self.password_name, self.acl_name, self.pid_name):
            # A blank or a line end in a name would end the option and begin another.
            if not _PLAIN_NAME.fullmatch(name):
                raise UnsafeConfiguration(f"not a plain file name: {name!r}")
        if len({self.socket_name, self.password_name, self.acl_name, self.pid_name}) != 4:
            raise UnsafeConfiguration("socket, password file, access list and pid file are four")
        if not _ADDRESS.fullmatch(self.tls_host):
            raise UnsafeConfiguration(f"not an address: {self.tls_host!r}")
        if not 1 <= self.tls_port <= 65535:
            # Port 0 makes Mosquitto open a unix socket that is named like the address.
            raise UnsafeConfiguration(f"port must be between 1 and 65535, not {self.tls_port}")
        if self.user and not _PLAIN_NAME.fullmatch(self.user):
            raise UnsafeConfiguration(f"not a user name: {self.user!r}")
        limits = (
            self.connections_max,
            self.memory_max_bytes,
            self.queue_max_bytes,
            self.keep_alive_s_max,
        )
        if min(limits) <= 0:
            raise UnsafeConfiguration("0 and negative limits mean: no limit")
        if self.queue_max_bytes >= self.memory_max_bytes:
            raise UnsafeConfiguration("one client's queue may not take all memory")


def render(settings: ServerSettings) -> str:
    """The whole configuration file."""
    lines = [
        "# Written by `fleetgate up` at each start; changes made here are lost.",
        "per_listener_settings false",
        "allow_anonymous false",
        f"password_file {settings.password_name}",
        f"acl_file {settings.acl_name}",
        "retain_available false",
        "persistence false",
        f"max_packet_size {PACKET_SIZE_MAX_BYTES}",
        f"memory_limit {settings.memory_max_bytes}",
        "# 0: no limit of the count. Bytes alone decide, no message is lost over a count.",
        "max_queued_messages 0",
        f"max_queued_bytes {settings.queue_max_bytes}",
        "max_inflight_messages 100",
        "# QoS 0 to a client that does not read is bounded in bytes too.",
        f"max_inflight_bytes {settings.queue_max_bytes}",
        f"max_keepalive {settings.keep_alive_s_max}",
        "persistent_client_expiration 1h",
        "upgrade_outgoing_qos false",
        "allow_zero_length_clientid true",
        "# Without it a TLS connection waits 40 ms for its CONNACK. (On the unix socket it only",
        "# makes a warning in the log.)",
        "set_tcp_nodelay true",
        "sys_interval 0",
        f"pid_file {settings.pid_name}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "connection_messages false",
    ]
    if settings.user:
        lines.append(f"user {settings.user}")
    lines += [
        "",
        f"listener 0 {settings.socket_name}",
        "use_username_as_clientid true",
        "",
        f"listener {settings.tls_port} {settings.tls_host}",
        "use_username_as_clientid true",
        f"max_connections {settings.connections_max}",
        f"certfile {CERTIFICATE_NAME}",
        f"keyfile {KEY_NAME}",
        "tls_version tlsv1.2",
        "require_certificate false",
    ]
    return "\n".join(lines) + "\n"
