"""A real MQTT server with the product's own configuration, access list and logins, for tests."""

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import mqtt5

from gateway.join.ca import KeyFiles, prepare_keys
from gateway.mqtt_server import acl, configuration, passwords
from gateway.mqtt_server.configuration import ServerSettings
from gateway.mqtt_server.connection import Listener, TlsListener, UnixListener
from gateway.mqtt_server.probe import ProbeSettings
from tests.conftest import MosquittoFactory
from tests.mosquitto import MosquittoServer

DEVICE_A = "1100000001"
DEVICE_B = "1100000002"
LIKE_A_GATEWAY = "gateway-1"  # a serial, by its form
GATEWAY = "@gateway-1"
PROBE = "@probe"
RELAY = "@relay-1"
OTHER_RELAY = "@relay-2"
LOGINS = (DEVICE_A, DEVICE_B, LIKE_A_GATEWAY, GATEWAY, PROBE, RELAY, OTHER_RELAY)


@dataclass
class MqttNode:
    """The server, its listeners, and a password for every login."""

    server: MosquittoServer
    settings: ServerSettings
    keys: KeyFiles
    passwords: dict[str, str] = field(repr=False)

    @property
    def directory(self) -> Path:
        return self.server.directory

    @property
    def unix(self) -> UnixListener:
        return UnixListener(self.directory / self.settings.socket_name)

    @property
    def tls(self) -> TlsListener:
        return TlsListener(self.server.host, self.server.port, self.keys.ca_certificate)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return (self.unix, self.tls)

    def probe_settings(self) -> ProbeSettings:
        return ProbeSettings(
            listeners=self.listeners, password=self.passwords[PROBE], gateway="gateway-1"
        )

    def as_login(
        self, login: str, *, client_id: str | None = None, will: mqtt5.Will | None = None
    ) -> mqtt5.ConnectPacket:
        return mqtt5.ConnectPacket(
            login if client_id is None else client_id,
            username=login,
            password=self.passwords[login].encode(),
            clean_start=True,
            will=will,
        )

    def write(self, *, conf: str | None = None, access: str | None = None) -> None:
        """All files afresh; a test may hand in spoiled ones."""
        directory = self.directory
        text = configuration.render(self.settings) if conf is None else conf
        (directory / configuration.CONFIGURATION_NAME).write_text(text)
        usual = acl.render(gateways=[GATEWAY], relays=[RELAY, OTHER_RELAY])
        listed = usual if access is None else access
        (directory / self.settings.acl_name).write_text(listed)
        rows = [(login, passwords.hash_password(word)) for login, word in self.passwords.items()]
        passwords.write_file(directory / self.settings.password_name, rows)

    def spoiled(self, option: str, replacement: str) -> str:
        """The configuration with one option replaced, which must be there."""
        good = configuration.render(self.settings)
        bad, count = re.subn(rf"^{option}\b.*$", replacement, good, flags=re.MULTILINE)
        assert count, option
        return bad


def make_node(mosquitto: MosquittoFactory) -> MqttNode:
    """Not started yet."""
    server = mosquitto(tls=True)
    keys = prepare_keys(server.directory / "keys", [], datetime.now(UTC))
    for source, name in (
        (keys.server_key, configuration.KEY_NAME),
        (keys.server_certificate, configuration.CERTIFICATE_NAME),
    ):
        (server.directory / name).write_bytes(source.read_bytes())
    settings = ServerSettings(
        tls_host=server.bind_host,
        tls_port=server.port,
        # A test's folder belongs to whoever runs the tests, and only that user can enter it.
        user="root" if os.geteuid() == 0 else "",
    )
    node = MqttNode(server, settings, keys, {login: f"word of {login}" for login in LOGINS})
    node.write()
    return node
