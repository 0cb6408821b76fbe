"""The MQTT logins of this gateway's node: from the table into the server's files."""

import os
import pwd
import time
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.command.configuration import GatewayConfiguration
from gateway.command.data_directory import MqttLogins
from gateway.mqtt_server import acl
from gateway.mqtt_server.acl import PROBE_LOGIN, RELAY_LOGIN_PREFIX
from gateway.mqtt_server.connection import UnixListener
from gateway.mqtt_server.login_file import (
    LoginFile,
    LoginFileError,
    LoginFileSettings,
    LoginRows,
)
from gateway.mqtt_server.passwords import hash_password, verify_password
from gateway.operations.logins import set_login
from gateway.operations.relays import register_relay
from gateway.storage.schema import mqtt_login, node
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry

WRITER_LOCK_NAME = "writer.lock"
PROOF_LOCK_NAME = "proof.lock"


def introduce_relay(
    tx: Transaction, configuration: GatewayConfiguration, passwords: MqttLogins
) -> None:
    """Tells where the relay of this machine is reached, and lets it sign in at every node."""
    relay = configuration.relay
    tx.lock_relay(relay.id)
    register_relay(
        tx,
        relay.id,
        hosts=relay.dial_hosts,
        port=relay.dial_port,
        domain=relay.domain,
        public_port=relay.dial_port,
        tls=relay.tls,
    )
    password = passwords.password(relay.login)
    known = tx.scalar(select(mqtt_login.c.hash).where(mqtt_login.c.login == relay.login))
    if known is None or not verify_password(password, known):
        set_login(tx, relay.login, hash_password(password))


def server_owner(configuration: GatewayConfiguration) -> tuple[int, int] | None:
    """User and group that the MQTT server's files belong to; None for one's own."""
    user = configuration.mqtt.server_user
    if not user or os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def note_reached(tx: Transaction, name: str, version: int) -> None:
    """The MQTT server of this node has read this version of the logins."""
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(node)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"login_version": statement.excluded.login_version}
        ),
        {"name": name, "clock": 0, "login_version": version},
    )


def login_file(
    configuration: GatewayConfiguration,
    store: Store,
    telemetry: Telemetry,
    passwords: MqttLogins,
    connections: Callable[[], int],
) -> LoginFile:
    """This gateway's part in keeping the files of its node."""
    mqtt = configuration.mqtt
    service = {
        login: hash_password(passwords.password(login))
        for login in (*mqtt.gateway_logins, PROBE_LOGIN)
    }

    async def load() -> LoginRows:
        try:
            loaded = await store.read(lambda tx: _rows(tx, mqtt.gateway_logins, service))
        except StoreBusy as error:
            raise LoginFileError(f"the table cannot be read: {error}") from error
        telemetry.logins_version = loaded.version
        return loaded

    async def reached(number: int) -> None:
        try:
            await store.write(lambda tx: note_reached(tx, mqtt.node, number), lane=Lane.JOBS)
        except StoreBusy as error:
            raise LoginFileError(f"not noted: {error}") from error
        telemetry.logins_written = number

    async def watch() -> int:
        """What the gateway that writes has reached."""
        try:
            telemetry.logins_version, telemetry.logins_written = await store.read(
                lambda tx: _standing(tx, mqtt.node)
            )
        except StoreBusy as error:
            raise LoginFileError(f"the table cannot be read: {error}") from error
        return telemetry.logins_written

    settings = LoginFileSettings(
        path=mqtt.password_file,
        access_path=mqtt.acl_file,
        lock_path=mqtt.directory / WRITER_LOCK_NAME,
        pid_file=mqtt.pid_file,
        listener=UnixListener(mqtt.directory / mqtt.socket_name),
        owner=server_owner(configuration),
    )
    return LoginFile(
        settings,
        load=load,
        reached=reached,
        watch=watch,
        connections=connections,
        clock=time.monotonic,
    )


def _rows(tx: Transaction, gateways: Sequence[str], service: Mapping[str, str]) -> LoginRows:
    """The node's own logins and those of the table, and the access list for all of them."""
    rows = tx.all(select(mqtt_login.c.login, mqtt_login.c.hash, mqtt_login.c.version))
    newest = max((row.version for row in rows), default=0)
    others = [(row.login, row.hash) for row in rows if row.hash is not None]
    relays = [login for login, _ in others if login.startswith(RELAY_LOGIN_PREFIX)]
    access = acl.render(gateways=gateways, relays=relays)
    return LoginRows(newest, [*service.items(), *others], access)


def _standing(tx: Transaction, name: str) -> tuple[int, int]:
    """The newest version, and the one that the node has reached."""
    newest = tx.scalar(select(func.max(mqtt_login.c.version)))
    return int(newest or 0), int(
        tx.scalar(select(node.c.login_version).where(node.c.name == name)) or 0
    )
