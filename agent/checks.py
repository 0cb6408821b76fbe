"""Walks the way from this device to its gateway, step by step, for `fleetgate-agent check`."""

import asyncio
import socket
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.clock import Clock, wall_is_plausible
from agent.collectors.choice import collector_of
from agent.configuration import Configuration, identity_of, read_configuration
from agent.connection import KEEPALIVE_S_MIN, Address, connect
from agent.errors import AgentError, ConfigurationError, LoginRefused
from agent.join import explain
from agent.spool_file import sync_directory
from agent.state import CA_NAME, Secret, is_locked, load_enrolment, load_secret, login_of
from agent.status import read_status
from agent.tls import device_context
from agent.values import checked_values
from wire import topics
from wire.heartbeat import new_run
from wire.presence import Up, encode_up

_TIMEOUT_S = 10.0


class Finding(NamedTuple):
    """One line of the report; `advice` says what to do when it failed."""

    what: str
    ok: bool
    text: str
    advice: str = ""


def walk(file: Path | None, state_dir: Path | None, clock: Clock) -> Iterator[Finding]:
    """Each step that is possible; what a failed step leaves unknown is not tried."""
    try:
        configuration = read_configuration(file, state_dir=state_dir)
        kept = load_secret(configuration.state_dir)
        # A box without a serial of its own has the one it joined under.
        identity = identity_of(configuration, otherwise=None if kept is None else kept.serial)
    except ConfigurationError as error:
        advice = "correct the configuration file, or join with a string made for one serial"
        yield Finding("configuration", False, str(error), advice)
        return
    yield Finding("configuration", True, f"serial {identity.serial}, LAN MAC {identity.lan_mac}")
    yield _storage(configuration)
    yield _values(configuration)
    plausible = wall_is_plausible(clock.wall_ms())
    yield Finding(
        "clock",
        plausible,
        "not before this build" if plausible else "shows a time before this build was made",
        "set the clock or let NTP do it; until then dates of certificates are not checked",
    )
    try:
        secret = load_secret(configuration.state_dir)
        if secret is not None and secret[1:] != identity:
            text = f"the secret here was made on {secret.serial} with LAN MAC {secret.lan_mac}"
            yield Finding("joined", False, text, "the state was copied: join under the own serial")
            return
        enrolment = load_enrolment(configuration.state_dir) if secret is not None else None
    except ConfigurationError as error:
        yield Finding("joined", False, str(error), "join again")
        return
    if secret is None or enrolment is None:
        advice = "get a join string from the operator, then: fleetgate-agent join fg1:…"
        yield Finding("joined", False, "this device has not joined a gateway", advice)
        return
    waiting = "the operator must release or confirm this serial in the gateway"
    yield Finding("joined", enrolment.state == "joined", enrolment.state, waiting)
    for host in enrolment.mqtt_hosts:
        address = Address(host, enrolment.mqtt_port)
        path = configuration.state_dir / CA_NAME
        reached = yield from _network(address, path, check_dates=plausible)
        if reached and is_locked(configuration.state_dir):
            # Signing in under the same name would throw the running agent out.
            shown = read_status(configuration.spool_dir)
            server = shown.server if shown is not None else None
            text = f"the running agent is signed in to {server}"
            yield Finding("login", server is not None, text, "look into the agent's log")
            return
        if reached:
            yield asyncio.run(_login(address, secret, configuration.state_dir, plausible))


def _storage(configuration: Configuration) -> Finding:
    advice = "choose folders that this user may write: state_dir on flash, spool_dir in memory"
    try:
        for folder in (configuration.state_dir, configuration.spool_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(folder)
    except OSError as error:
        return Finding("storage", False, str(error), advice)
    text = f"state in {configuration.state_dir}, spool in {configuration.spool_dir}"
    return Finding("storage", True, text, advice)


def _values(configuration: Configuration) -> Finding:
    chosen = configuration.collector
    if chosen == "modem" and is_locked(configuration.state_dir):
        # The port is its alone.
        return Finding("values", True, "the running agent reads them from the modem")
    try:
        read = collector_of(configuration)()
    except ConfigurationError as error:
        return Finding("values", False, str(error), "install it, or choose another collector")
    if chosen == "modem" and "imei" not in read:
        text = f"no modem answers at modem_port = {configuration.modem_port}"
        return Finding("values", False, text, "name its AT port; no other program may use that")
    return Finding("values", True, f"{len(checked_values(read))} by collector {chosen}")


def _network(
    address: Address, ca_file: Path, *, check_dates: bool
) -> Generator[Finding, None, bool]:
    """Name, TCP, TLS; returns whether all were fine."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Finding("host", False, f"{address.host}: {error}", explain(error))
        return False
    numbers = sorted({str(entry[4][0]) for entry in found})
    yield Finding("host", True, f"{address.host} is {', '.join(numbers)}")
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S) as plain:
            yield Finding("TCP", True, f"{address} answers")
            context = device_context(ca_file=ca_file, check_dates=check_dates)
            with context.wrap_socket(plain, server_hostname=address.host) as secured:
                text = f"{secured.version()}, certificate made by the gateway's own CA"
                yield Finding("TLS", True, text)
    except (OSError, ValueError) as error:
        step = "TLS" if isinstance(error, ssl.SSLError | ValueError) else "TCP"
        advice = "join again if the server was set up anew"
        yield Finding(step, False, explain(error), advice)
        return False
    return True


async def _login(address: Address, secret: Secret, state: Path, check_dates: bool) -> Finding:
    """Signs in and leaves, without publishing anything."""
    tls = device_context(ca_file=state / CA_NAME, check_dates=check_dates)
    will = encode_up(Up(new_run(), 1, False, "0" * 32))
    try:
        link = await connect(
            address,
            login_of(secret),
            tls=tls,
            will=(topics.presence(secret.serial), will),
            keepalive_s=KEEPALIVE_S_MIN,
        )
    except LoginRefused as error:
        advice = (
            "the MQTT server does not know this login (yet): wait half a minute; else join again"
        )
        return Finding("login", False, str(error), advice)
    except AgentError as error:
        return Finding("login", False, str(error), "see whether the MQTT server is well")
    await link.close()
    return Finding("login", True, f"signed in as {secret.serial}")
