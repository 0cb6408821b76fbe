"""What the relay is started with: relay.toml, and a folder that holds all it may know.

The relay meets strangers, so it gets copies of the few files it needs and nothing from `keys/`:
it can verify tickets and not make any, and it cannot read what `master.key` encrypts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.atomic_file import write_atomically
from gateway.command.configuration import GatewayConfiguration, reachable, toml_value
from gateway.command.data_directory import MqttLogins

if TYPE_CHECKING:
    from gateway.join.ca import KeyFiles
    from gateway.join.ticket_keys import TicketKey

FILE_NAME = "relay.toml"
FOLDER_NAME = "relay"
LINK_CERTIFICATE_NAME = "link.pem"
LINK_KEY_NAME = "link.key"
TICKET_KEYS_NAME = "ticket-keys.json"
MQTT_CA_NAME = "mqtt-ca.pem"
MQTT_PASSWORD_NAME = "mqtt-password"


def write_relay_files(
    configuration: GatewayConfiguration,
    keys: "KeyFiles",
    ticket_keys: Sequence["TicketKey"],
    logins: MqttLogins,
) -> Path:
    """Writes the folder and relay.toml; returns the latter's path."""
    folder = configuration.data.directory / FOLDER_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    public = {key.kid: key.public_pem for key in ticket_keys}
    contents = {
        LINK_CERTIFICATE_NAME: keys.relay.certificate.read_bytes(),
        LINK_KEY_NAME: keys.relay.key.read_bytes(),
        MQTT_CA_NAME: keys.ca_certificate.read_bytes(),
        TICKET_KEYS_NAME: json.dumps(public, indent=1).encode() + b"\n",
        MQTT_PASSWORD_NAME: logins.password(configuration.relay.login).encode(),
    }
    for name, content in contents.items():
        _keep(folder / name, content)
    path = configuration.data.directory / FILE_NAME
    _keep(path, _render(configuration, folder).encode())
    return path


def _render(configuration: GatewayConfiguration, folder: Path) -> str:
    relay, mqtt, log = configuration.relay, configuration.mqtt, configuration.log
    values: dict[str, object] = {
        "id": relay.id,
        "host": "127.0.0.1" if relay.host == "localhost" else relay.host,
        "port": relay.port,
        "domain": relay.domain,
        "gateway_url": configuration.http.url,
        "public_port": relay.public_port,
        "behind_proxy": relay.behind_proxy,
        "opens_per_s": relay.opens_per_s,
        "session_mbit_s": relay.session_mbit_s,
        "company_mbit_s": relay.company_mbit_s,
        "link_certificate_file": str(folder / LINK_CERTIFICATE_NAME),
        "link_key_file": str(folder / LINK_KEY_NAME),
        "visitors_certificate_file": str(relay.certificate_file or ""),
        "visitors_key_file": str(relay.key_file or ""),
        "ticket_keys_file": str(folder / TICKET_KEYS_NAME),
        "mqtt_host": reachable(mqtt.host),
        "mqtt_port": mqtt.port,
        "mqtt_servers": list(relay.mqtt_servers),
        "mqtt_ca_file": str(folder / MQTT_CA_NAME),
        "mqtt_password_file": str(folder / MQTT_PASSWORD_NAME),
        "log_format": log.format,
        "log_level": log.level,
    }
    header = "# Written by `fleetgate up` at each start from [relay] of gateway.toml.\n\n"
    return header + "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())


def _keep(path: Path, content: bytes) -> None:
    """Written only where it differs: each writing waits for the disk."""
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
