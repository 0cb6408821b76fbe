"""Makes everything that must lie in the data directory before the first child starts."""

import os
import resource
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gateway.atomic_file import write_atomically
from gateway.command import configuration as gateway_toml
from gateway.command import ports
from gateway.command.configuration import GatewayConfiguration
from gateway.command.data_directory import (
    MqttLogins,
    prepare_mqtt_logins,
    read_private_json,
    write_private_json,
)
from gateway.command.ports import Asked, Chosen
from gateway.command.relay_files import write_relay_files
from gateway.command.sections import ANY_ADDRESS, reachable
from gateway.command.server_account import ServerAccount, choose_account, hand_over, own_files
from gateway.command.this_machine import configured_before, named
from gateway.command.up_options import SetUpError, UpOptions
from gateway.mqtt_server import configuration as mosquitto_conf
from gateway.mqtt_server.configuration import ServerSettings

LISTENERS = ("http", "mqtt", "devices", "relay")
USUAL_PORTS = {"http": 8080, "mqtt": 8883, "devices": 8884, "relay": 8885}
# How far a further gateway's listeners are from those of the one before.
PORT_STEPS = {"http": 1, "devices": 10}
LOG_FOLDER = "logs"
FOUND_NAMES_NAME = "found-names.json"
LOG_BYTES_MAX = 10 * 1024 * 1024
CONNECTIONS_MAX = 20_000
# Mosquitto's own files, and what each needs beside its connections.
DESCRIPTORS_SPARE = 100
MQTT_SERVER_MISSING = "Mosquitto is not installed: run  apt-get install mosquitto  (as root)"
TEST_CLOCK_VARIABLE = "FLEETGATE_TEST_CLOCK"
UNPRIVILEGED_PORT_FILE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
# Documentation address: connecting a datagram socket sends nothing, it only picks a route.
_ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFiles:
    """One of the gateways of this machine; `child` is its name among the processes."""

    child: str
    configuration: GatewayConfiguration
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A data directory in which everything lies ready; `configuration` is the first gateway's."""

    configuration: GatewayConfiguration
    gateways: tuple[GatewayFiles, ...]
    relay_file: Path
    asked: Mapping[str, Asked]
    chosen: Mapping[str, Chosen]
    account: ServerAccount
    server_program: str
    notes: tuple[str, ...]

    @property
    def data(self) -> Path:
        return self.configuration.data.directory

    @property
    def configuration_file(self) -> Path:
        """Of the first gateway."""
        return self.gateways[0].file

    @property
    def ca_file(self) -> Path:
        return self.configuration.data.keys / "ca.pem"

    def log_file(self, name: str) -> Path:
        return self.data / LOG_FOLDER / f"{name}.log"


def find_server_program() -> str:
    """Mosquitto's path; Debian puts it where only root's PATH looks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise SetUpError(MQTT_SERVER_MISSING)
    return found


def prepare(options: UpOptions, avoided: set[int]) -> Installation:
    """Everything but the processes. `avoided` are picked ports that turned out to be taken."""
    server_program = find_server_program()
    asked = {**options.asked, **_asked_for_more(options)}
    saved = {name: port for name, port in ports.load(options.data).items() if port not in avoided}
    chosen: dict[str, Chosen] = {}
    for name in asked:
        taken = avoided | {other.port for other in chosen.values()}
        chosen[name] = ports.choose(asked[name], saved, taken)
    configuration = _configured(options, chosen)
    account = choose_account(options.data, configuration.mqtt.directory)
    mqtt = replace(configuration.mqtt, server_user=account.name)
    configuration = replace(configuration, mqtt=mqtt)
    gateway_toml.check(configuration)
    check_test_clock(configuration)
    _remove_stale(configuration)
    ports.save(options.data, chosen)
    relay_file = prepare_files(configuration, account)
    (options.data / LOG_FOLDER).mkdir(mode=0o700, exist_ok=True)
    notes = [f"--{name}: {one.note}; using {one.port}" for name, one in chosen.items() if one.note]
    if account.why:
        notes.append(f"the MQTT server runs as the present user: {account.why}")
    return Installation(
        configuration=configuration,
        gateways=write_gateway_files(configuration, chosen),
        relay_file=relay_file,
        asked=asked,
        chosen=chosen,
        account=account,
        server_program=server_program,
        notes=tuple(notes),
    )


def prepare_files(configuration: GatewayConfiguration, account: ServerAccount) -> Path:
    """Keys, logins, and the files of the MQTT server and of the relay; relay.toml's path."""
    _check_privileged_port(configuration, account)
    mqtt = configuration.mqtt
    logins = prepare_mqtt_logins(mqtt.logins_file, *mqtt.gateway_logins, configuration.relay.login)
    relay_file = _prepare_keys(configuration, account, logins)
    _write_server_configuration(configuration, account)
    return relay_file


def _asked_for_more(options: UpOptions) -> dict[str, Asked]:
    """Listeners of the second gateway and all further ones, beside those of the first."""
    return {
        f"{name}-{number}": ports.beside(
            options.asked[name], f"{name}-{number}", PORT_STEPS[name] * (number - 1)
        )
        for number in range(2, options.gateways + 1)
        for name in PORT_STEPS
    }


def write_gateway_files(
    configuration: GatewayConfiguration, chosen: Mapping[str, Chosen]
) -> tuple[GatewayFiles, ...]:
    """gateway.toml, and one more file for each further gateway, made of the first."""
    first = gateway_toml.write_gateway_toml(configuration)
    made = [GatewayFiles(child="gateway", configuration=configuration, file=first)]
    data, devices = configuration.data, configuration.devices
    for number, login in enumerate(configuration.mqtt.gateway_logins[1:], start=2):
        own = replace(
            configuration,
            data=replace(data, admin_socket=data.directory / f"admin-{number}.sock"),
            http=replace(configuration.http, port=chosen[f"http-{number}"].port),
            devices=replace(
                devices, port=chosen[f"devices-{number}"].port, public_port=devices.join_port
            ),
            mqtt=replace(configuration.mqtt, login=login),
        )
        file = gateway_toml.write_gateway_toml(own, f"gateway-{number}.toml")
        made.append(GatewayFiles(child=f"gateway-{number}", configuration=own, file=file))
    return tuple(made)


def _configured(options: UpOptions, chosen: Mapping[str, Chosen]) -> GatewayConfiguration:
    """What was set in gateway.toml before, with the names and addresses of this start."""
    data = options.data
    before = named(configured_before(data), options)
    changed = {
        name: replace(getattr(before, name), host=chosen[name].host, port=chosen[name].port)
        for name in LISTENERS
    }
    found_before = _found_names(data)
    found: dict[str, list[str]] = {}
    for name in ("mqtt", "devices", "relay"):
        section = changed[name]
        if list(section.public_hosts) == found_before.get(name):
            # Found by an earlier start and not set by hand: the machine may have moved since.
            section = replace(section, public_hosts=())
        if section.host in ANY_ADDRESS and not section.public_hosts:
            section = replace(section, public_hosts=_own_names())
            found[name] = list(section.public_hosts)
        changed[name] = section
    write_private_json(data / FOUND_NAMES_NAME, found)
    return replace(before, **changed)


def _found_names(data: Path) -> dict[str, object]:
    path = data / FOUND_NAMES_NAME
    return read_private_json(path) if path.exists() else {}


def _own_names() -> tuple[str, ...]:
    """How devices may find a machine that listens on every address: its address and its name."""
    names = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(_ELSEWHERE)
            names.append(route.getsockname()[0])
        except OSError:
            pass  # no network at all; the name must do
    return tuple(dict.fromkeys([*names, socket.gethostname()]))


def check_test_clock(configuration: GatewayConfiguration) -> None:
    """A moved clock spends or withholds credits, so it is for tests on one machine only."""
    if os.environ.get(TEST_CLOCK_VARIABLE) and not configuration.loopback_only:
        raise SetUpError(f"{TEST_CLOCK_VARIABLE} is accepted only when everything is on loopback")


def _check_privileged_port(configuration: GatewayConfiguration, account: ServerAccount) -> None:
    """Mosquitto 2 gives up root's rights before it binds, so its user must be allowed the port."""
    first = int(UNPRIVILEGED_PORT_FILE.read_text())
    port = configuration.mqtt.port
    if account.ids and port < first:
        raise SetUpError(
            f"--mqtt port {port}: the MQTT server runs as {account.name}, which may bind no port"
            f" below {first}: choose a higher one, or run"
            f"  sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        )


def remove_server_files(configuration: GatewayConfiguration) -> None:
    """Mosquitto starts only beside files that a gateway has written at this start."""
    mqtt = configuration.mqtt
    for path in (
        mqtt.password_file,
        mqtt.acl_file,
        mqtt.pid_file,
        mqtt.directory / mqtt.socket_name,
    ):
        path.unlink(missing_ok=True)


def _remove_stale(configuration: GatewayConfiguration) -> None:
    remove_server_files(configuration)
    data = configuration.data
    data.admin_socket.unlink(missing_ok=True)
    # Of further gateways, which may be fewer now.
    for pattern in ("admin-[0-9]*.sock", "gateway-[0-9]*.toml"):
        for path in data.directory.glob(pattern):
            path.unlink()


def _prepare_keys(
    configuration: GatewayConfiguration, account: ServerAccount, logins: MqttLogins
) -> Path:
    """Keys, and copies of them for the two that are not to see the others; relay.toml's path."""
    # Loaded here: it takes 0.1 s, and a wrong option should be told before.
    from gateway.join.ca import prepare_keys
    from gateway.join.ticket_keys import prepare_ticket_keys

    names = [
        *configuration.devices.join_hosts,
        *configuration.mqtt.device_hosts,
        reachable(configuration.mqtt.host),  # where the relay finds it
    ]
    now = datetime.now(UTC)
    keys = prepare_keys(configuration.data.keys, names, now)
    ticket_keys = prepare_ticket_keys(keys.tickets, now)
    folder = configuration.mqtt.directory
    # The server's user must not even see master.key, so it gets copies of its own pair.
    hand_over(keys.server_key, folder / mosquitto_conf.KEY_NAME, account)
    hand_over(keys.server_certificate, folder / mosquitto_conf.CERTIFICATE_NAME, account)
    return write_relay_files(configuration, keys, ticket_keys, logins)


def _write_server_configuration(
    configuration: GatewayConfiguration, account: ServerAccount
) -> None:
    mqtt = configuration.mqtt
    descriptors = _raise_descriptors()
    settings = ServerSettings(
        tls_host=mqtt.host,
        tls_port=mqtt.port,
        socket_name=mqtt.socket_name,
        password_name=mqtt.password_name,
        acl_name=mqtt.acl_name,
        pid_name=mqtt.pid_name,
        # Started as root without a user of its own, Mosquitto would take `mosquitto` by itself.
        user=account.name or ("root" if os.geteuid() == 0 else ""),
        connections_max=max(1, min(CONNECTIONS_MAX, descriptors - DESCRIPTORS_SPARE)),
    )
    path = mqtt.directory / mosquitto_conf.CONFIGURATION_NAME
    write_atomically(path, mosquitto_conf.render(settings).encode(), owner=account.ids)
    if account.ids:
        own_files(mqtt.directory, account.ids)


def _raise_descriptors() -> int:
    """As many open files as this user may have, for the children too; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return CONNECTIONS_MAX + DESCRIPTORS_SPARE if hard == resource.RLIM_INFINITY else hard


def trim_log(path: Path) -> None:
    """Keeps a log below its limit with one older part; writers append, so they just go on."""
    try:
        if path.stat().st_size <= LOG_BYTES_MAX:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


def log_tail(path: Path, *, lines_max: int = 8, bytes_max: int = 8192) -> list[str]:
    """The last lines of a child's log, for the one who sees that it did not start."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - bytes_max))
            text = file.read(bytes_max).decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines_max:]
