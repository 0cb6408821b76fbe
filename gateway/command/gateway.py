"""The gateway process: reads its configuration, wires its parts together, runs until stopped."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from gateway.api.application import make_app
from gateway.api.attempt_writing import write_failed_attempts
from gateway.api.devices_listener import make_devices_app
from gateway.api.serving import devices_tls, serve_devices, serve_people
from gateway.clock import Clock, test_clock_file
from gateway.clock_guard import ClockGuard
from gateway.command.configuration import (
    ConfigurationError,
    GatewayConfiguration,
    load,
    reachable,
)
from gateway.command.data_directory import DataDirectoryError, MqttLogins, read_mqtt_logins
from gateway.command.database import address_of
from gateway.command.database_start import claim_database, until_there
from gateway.command.first_start import ensure_operator
from gateway.command.ledger_check import check_ledger_forever
from gateway.command.logging_setup import set_up
from gateway.command.mail_server import smtp_of
from gateway.command.node_logins import PROOF_LOCK_NAME, introduce_relay, login_file
from gateway.file_lock import FileLock
from gateway.ingest.node import Node, NodeSettings
from gateway.ingest.sender import Sender
from gateway.ingest.session import Login
from gateway.jobs import presence
from gateway.jobs.housekeeping import begin, note_field_table
from gateway.jobs.mail_sender import MailSender
from gateway.jobs.retention import KeptDays
from gateway.jobs.schedule import Schedule
from gateway.jobs.sealing import HEAD_FILE
from gateway.join.ca import KeyFileError, KeyFiles, ca_digest, read_master_key
from gateway.join.ticket_keys import read_ticket_keys
from gateway.mqtt_server.acl import PROBE_LOGIN
from gateway.mqtt_server.connection import TlsListener, UnixListener
from gateway.mqtt_server.login_file import LoginFile
from gateway.mqtt_server.probe import ProbeSettings, UnsafeServer
from gateway.mqtt_server.share_group import share_group
from gateway.operations.announcing import note_mail
from gateway.operations.clock_state import known
from gateway.operations.registry import Site
from gateway.operations.ticket_making import TicketSigner
from gateway.operations.trial import TRIAL_DAYS_KEY
from gateway.storage.address import open_store
from gateway.storage.hints import hint_on_loop
from gateway.storage.installation_facts import put
from gateway.storage.locks import Tree
from gateway.storage.migrate import SchemaTooNew, migrate
from gateway.storage.store import Store, StoreError
from gateway.storage.transaction import Signal
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.001


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a running gateway consists of."""

    configuration: GatewayConfiguration
    keys: KeyFiles
    site: Site
    store: Store
    clock: Clock
    telemetry: Telemetry
    node: Node
    logins: LoginFile
    sender: Sender
    schedule: Schedule
    mails: MailSender | None


class Stop(Exception):
    """Somebody asked the process to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped on request, 1 failed, 2 wrong configuration."""
    parser = argparse.ArgumentParser(prog="fleetgate gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    options = parser.parse_args(argv)
    try:
        configuration = load(options.config)
    except ConfigurationError as error:
        print(f"fleetgate gateway: {error}", file=sys.stderr)
        return 2
    set_up(format_=configuration.log.format, level=configuration.log.level)
    # The writer's thread holds the interpreter in long stretches; the loop must get its turn.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tune_collector()
    code = 0
    try:
        asyncio.run(_run(configuration))
    except* Stop:
        log.info("gateway stopped")
    except* UnsafeServer as group:
        code = 1
        for unsafe in _causes(group):
            log.error("gateway refuses to run: %s", unsafe)
    except* _CANNOT_START as group:
        code = 1
        for cause in _causes(group):
            log.error("gateway cannot run error=%s", cause)
    return code


def _causes(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Each error once, however deep the task that raised it lay."""
    found: dict[int, BaseException] = {}
    for error in group.exceptions:
        nested = _causes(error) if isinstance(error, BaseExceptionGroup) else [error]
        found.update((id(one), one) for one in nested)
    return list(found.values())


_CANNOT_START = (
    KeyFileError,
    DataDirectoryError,
    SchemaTooNew,
    OSError,
    ConfigurationError,
    StoreError,
    SQLAlchemyError,  # the database went away in the middle of the start
)


def tune_collector() -> None:
    """What was loaded stays; a batch makes thousands of short-lived objects and no cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _run(configuration: GatewayConfiguration) -> None:
    async with AsyncExitStack() as stack:
        parts = await _assemble(configuration, stack)
        app = await _listen(parts, stack)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_until_signal(parts), name="signals")
            tasks.create_task(parts.node.run(), name="mqtt")
            tasks.create_task(parts.node.intake.run(), name="ingest")
            tasks.create_task(parts.node.watch_presence(), name="presence")
            tasks.create_task(parts.node.relay_desk.run(), name="relays")
            tasks.create_task(parts.node.relay_desk.lease_forever(), name="leases")
            tasks.create_task(parts.sender.run(), name="outbox")
            tasks.create_task(parts.logins.run(), name="logins")
            tasks.create_task(parts.schedule.run(), name="jobs")
            tasks.create_task(write_failed_attempts(app), name="failed attempts")
            if parts.mails is not None:
                tasks.create_task(parts.mails.run(), name="mails")
            tasks.create_task(
                check_ledger_forever(
                    parts.store, parts.clock, parts.telemetry, configuration.data.directory
                ),
                name="ledger check",
            )


async def _until_signal(parts: Parts) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
    await parts.node.leave()
    raise Stop


async def _assemble(configuration: GatewayConfiguration, stack: AsyncExitStack) -> Parts:
    keys = KeyFiles(configuration.data.keys)
    clock = Clock(_moved_clock(configuration))
    site = _site(configuration, keys)
    passwords = read_mqtt_logins(configuration.mqtt.logins_file)
    guard = ClockGuard(clock)
    store = await _open(configuration, keys, clock, guard, stack)
    await ensure_operator(store, configuration.data.admin_file)
    # Before anything else happens: the time since the last mark was an outage.
    await store.write(begin, tree=Tree.ALONE)
    guard.learn(*await store.read(known))
    await store.write(note_field_table)
    trial_days = str(configuration.credits.trial_days)
    await store.write(lambda tx: put(tx, TRIAL_DAYS_KEY, trial_days))
    await store.write(lambda tx: note_mail(tx, on=site.mail))
    await store.write(lambda tx: introduce_relay(tx, configuration, passwords))
    telemetry = Telemetry(clock.wall_ms())
    logins = login_file(configuration, store, telemetry, passwords, lambda: node_.devices())
    # Before the MQTT server starts, which waits for it.
    await logins.write_first()
    clock_ms = await store.read(lambda tx: presence.clock_of(tx, configuration.mqtt.node))
    node_ = Node(
        node_settings(configuration, passwords, keys),
        store,
        clock,
        telemetry,
        clock_ms,
        lambda: logins.changed(removal=True),
    )
    sender = Sender(
        store,
        clock,
        telemetry,
        configuration.mqtt.node,
        site.master_key,
        site.tickets,
        lambda: node_.session,
    )
    schedule = Schedule(
        store,
        clock,
        telemetry,
        _kept_days(configuration),
        guard,
        configuration.data.directory / HEAD_FILE,
    )
    smtp = smtp_of(configuration)
    mails = None if smtp is None else MailSender(store, clock, telemetry, site, smtp)
    loop = asyncio.get_running_loop()
    hint_on_loop(store, loop, Signal.OUTBOX, sender.hint)
    hint_on_loop(store, loop, Signal.RECHECK, schedule.hint)
    hint_on_loop(store, loop, Signal.RELAY, node_.relay_desk.hint)
    hint_on_loop(store, loop, Signal.LOGINS, lambda: logins.changed(removal=False))
    hint_on_loop(store, loop, Signal.LOGIN_REMOVED, lambda: logins.changed(removal=True))
    return Parts(
        configuration, keys, site, store, clock, telemetry, node_, logins, sender, schedule, mails
    )


async def _open(
    configuration: GatewayConfiguration,
    keys: KeyFiles,
    clock: Clock,
    guard: ClockGuard,
    stack: AsyncExitStack,
) -> Store:
    """The database, brought up to date, once it is there."""
    address = address_of(configuration)
    if isinstance(address, Path):
        lock = FileLock(address.with_name(f"{address.name}.gateway"))
        stack.callback(lock.release)
        if not lock.take():
            raise ConfigurationError(
                f"another gateway uses {address}: several gateways need PostgreSQL (database.url)"
            )
    await until_there(address, log.warning)
    await asyncio.to_thread(migrate, address)
    store = open_store(address, wall_ms=clock.wall_ms, moved_ms=clock.offset_ms, guard=guard)
    stack.callback(store.close)
    await store.write(lambda tx: claim_database(tx, address, keys))
    return store


def _moved_clock(configuration: GatewayConfiguration) -> Path | None:
    file = test_clock_file()
    if file is None:
        return None
    if not configuration.loopback_only:
        raise ConfigurationError(
            "FLEETGATE_TEST_CLOCK is accepted only when everything listens on loopback"
        )
    log.warning("THE CLOCK IS MOVED by FLEETGATE_TEST_CLOCK, for tests only file=%s", file)
    return file


def _site(configuration: GatewayConfiguration, keys: KeyFiles) -> Site:
    signing = read_ticket_keys(keys.tickets)[-1]
    return Site(
        public_url=configuration.http.url,
        join_hosts=configuration.devices.join_hosts,
        join_port=configuration.devices.join_port,
        mqtt_hosts=configuration.mqtt.device_hosts,
        mqtt_port=configuration.mqtt.device_port,
        ca_digest=ca_digest(keys).hex(),
        master_key=read_master_key(keys),
        node=configuration.mqtt.node,
        version=_version(),
        tickets=TicketSigner(signing.kid, signing.private),
        mail=bool(configuration.mail.host),
    )


def _version() -> str:
    try:
        return version("fleetgate")
    except PackageNotFoundError:
        return "unknown"


def node_settings(
    configuration: GatewayConfiguration, passwords: MqttLogins, keys: KeyFiles
) -> NodeSettings:
    """How this gateway reaches its MQTT server, as the gateway and as the probe."""
    mqtt = configuration.mqtt
    socket = mqtt.directory / mqtt.socket_name
    listeners = (
        UnixListener(socket),
        TlsListener(reachable(mqtt.host), mqtt.port, keys.ca_certificate),
    )
    return NodeSettings(
        mqtt.node,
        mqtt.gateway,
        share_group(read_master_key(keys), mqtt.node),
        Login(socket, mqtt.login, passwords.password(mqtt.login)),
        ProbeSettings(
            listeners=listeners, password=passwords.password(PROBE_LOGIN), gateway=mqtt.gateway
        ),
        mqtt.directory / PROOF_LOCK_NAME,
    )


def _kept_days(configuration: GatewayConfiguration) -> KeptDays:
    history = configuration.history
    return KeptDays(history.raw_days, history.hourly_days, history.daily_days)


async def _listen(parts: Parts, stack: AsyncExitStack) -> web.Application:
    configuration = parts.configuration
    app = make_app(parts.store, parts.site, parts.telemetry, parts.clock, configuration)
    people = await serve_people(app, configuration.http, configuration.data.admin_socket)
    stack.push_async_callback(people.close)
    devices_app = make_devices_app(
        parts.store,
        parts.site,
        parts.telemetry,
        parts.clock,
        parts.keys.ca_certificate.read_bytes(),
    )
    context = devices_tls(parts.keys.server_certificate, parts.keys.server_key)
    devices = await serve_devices(devices_app, configuration.devices, context)
    stack.push_async_callback(devices.close)
    log.info("gateway listens http=%d devices=%d", people.port, devices.port)
    return app


if __name__ == "__main__":
    sys.exit(main())
