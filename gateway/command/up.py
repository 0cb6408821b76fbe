"""`fleetgate up`: the whole server side on one machine, in the foreground, until Ctrl-C."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.command import children, demo
from gateway.command.configuration import ConfigurationError, reachable
from gateway.command.data_directory import (
    DataDirectoryError,
    Lock,
    acquire,
    read_private_json,
    write_private_json,
)
from gateway.command.installation import (
    TEST_CLOCK_VARIABLE,
    Installation,
    find_server_program,
    log_tail,
    prepare,
    trim_log,
)
from gateway.command.local_api import ApiRefused, ApiUnreachable, LocalApi
from gateway.command.own_programs import own_packages
from gateway.command.ports import AddressRefused, is_free
from gateway.command.supervisor import Child, Supervisor
from gateway.command.this_machine import settle_database
from gateway.command.up_options import SetUpError, UpOptions
from gateway.mqtt_server.configuration import UnsafeConfiguration

log = logging.getLogger(__name__)

READY_S_MAX = 60.0
LOOK_S = 0.02
ATTEMPTS_MAX = 5
FAILURES_MAX = 2
LOG_LOOK_S = 60.0
DATABASE_VARIABLE = "FLEETGATE_DATABASE"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartFailed(Exception):
    """A child ended, or did not become ready, before everything ran."""

    def __init__(self, child: str, reason: str) -> None:
        super().__init__(f"{child}: {reason}")
        self.child = child


def run(options: UpOptions) -> int:
    """The exit code: 0 after a clean stop, 1 when it could not start."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s level=%(levelname)s %(message)s", stream=sys.stderr
    )
    # Its password is for the gateways alone, who have it by a file.
    os.environ.pop(DATABASE_VARIABLE, None)
    os.umask(0o077)  # for the children too: what they make in the data directory is private
    try:
        find_server_program()  # asked first: nothing is made on a machine that lacks it
        options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = acquire(options.data)
    except (SetUpError, DataDirectoryError, OSError) as error:
        return _failed(str(error))
    try:
        if options.ready_file is not None:
            options.ready_file.parent.mkdir(parents=True, exist_ok=True)
        _remove(options.ready_file)
        return asyncio.run(_run_until_stopped(options, lock))
    except (
        SetUpError,
        DataDirectoryError,
        ConfigurationError,
        UnsafeConfiguration,
        AddressRefused,
        OSError,
    ) as error:
        return _failed(str(error))
    finally:
        _remove(options.ready_file)
        lock.release()


def _failed(reason: str) -> int:
    print(f"fleetgate up: {reason}", file=sys.stderr, flush=True)
    return 1


def _say(text: str) -> None:
    print(text, flush=True)


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


async def _run_until_stopped(options: UpOptions, lock: Lock) -> int:
    task = asyncio.current_task()
    assert task is not None
    asked_to_stop = False

    def stop() -> None:
        nonlocal asked_to_stop
        if not asked_to_stop:  # a second Ctrl-C must not cut the clean stop short
            asked_to_stop = True
            _say("Stopping …")
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await _attempts(options, lock)
    except asyncio.CancelledError:
        if not asked_to_stop:
            raise
        return 0


async def _attempts(options: UpOptions, lock: Lock) -> int:
    """Starts again where a picked port was taken by somebody else between picking and use."""
    avoided: set[int] = set()
    failures = 0
    await settle_database(options, _say)
    for _ in range(ATTEMPTS_MAX):
        installation = _prepare(options, avoided)
        try:
            await _serve(options, installation, lock)
        except StartFailed as error:
            busy = _busy_ports(options, installation)
            avoided |= busy
            failures += not busy
            _say(f"Could not start {error}")
            for line in log_tail(installation.log_file(error.child)):
                _say(f"    {line}")
            if failures >= FAILURES_MAX:
                break
            _say("Trying again with other ports …" if busy else "Trying again …")
    return _failed("gave up")


def _prepare(options: UpOptions, avoided: set[int]) -> Installation:
    if os.environ.get(TEST_CLOCK_VARIABLE):
        _say(f"WARNING: {TEST_CLOCK_VARIABLE} is set: ALL CLOCKS ARE MOVED, for tests only.")
    installation = prepare(options, avoided)
    for note in installation.notes:
        _say(f"Note: {note}")
    return installation


def _busy_ports(options: UpOptions, installation: Installation) -> set[int]:
    """Picked ports that somebody else holds now; for one that was asked for, AddressRefused."""
    busy = set()
    for name, chosen in installation.chosen.items():
        asked = installation.asked[name]
        if is_free(asked, chosen.port):
            continue
        if not chosen.picked:
            raise AddressRefused(f"{asked.flag} {chosen.host}:{chosen.port}: address in use")
        busy.add(chosen.port)
    return busy


@dataclass(slots=True)
class _Running:
    """What runs now, and the ready file that says so."""

    options: UpOptions
    installation: Installation
    children: dict[str, Child] = field(default_factory=dict)
    ready: bool = False

    def changed(self) -> None:
        """Called at every start and end of a child."""
        if self.ready and self.options.ready_file is not None:
            gateways = [one.child for one in self.installation.gateways]
            pids = {name: self._pid(name) for name in (*gateways, "mosquitto", "relay")}
            if None not in pids.values():
                # Between two processes the file keeps the old pid: readers always find numbers.
                self._write(self.options.ready_file, pids)

    def _write(self, path: Path, pids: dict[str, int | None]) -> None:
        try:
            write_private_json(path, self._content(pids))
        except (OSError, DataDirectoryError) as error:
            # Not worth stopping what runs.
            log.error("ready file not written path=%s error=%s", path, error)

    def _pid(self, name: str) -> int | None:
        child = self.children.get(name)
        return child.pid if child else None

    def _content(self, pids: dict[str, int | None]) -> dict[str, object]:
        configuration = self.installation.configuration
        admin = self.admin()
        return {
            "http_url": configuration.http.url,
            "mqtt_host": reachable(configuration.mqtt.host),
            "mqtt_port": configuration.mqtt.port,
            "devices_host": reachable(configuration.devices.host),
            "devices_port": configuration.devices.port,
            "relay_host": reachable(configuration.relay.host),
            "relay_port": configuration.relay.port,
            "ca_file": str(self.installation.ca_file),
            **{key: admin.get(key) for key in ("admin_email", "admin_password", "admin_token")},
            "pids": pids,
            "gateways": [
                {
                    "name": one.configuration.mqtt.gateway,
                    "http_url": one.configuration.http.address,
                    "devices_port": one.configuration.devices.port,
                    "admin_socket": str(one.configuration.data.admin_socket),
                    "pid": pids[one.child],
                }
                for one in self.installation.gateways
            ],
        }

    def admin(self) -> dict[str, object]:
        """The first sign-in; nothing on machines that joined an installation later."""
        file = self.installation.configuration.data.admin_file
        return read_private_json(file) if file.exists() else {}


async def _serve(options: UpOptions, installation: Installation, lock: Lock) -> None:
    """Runs until cancelled; raises StartFailed while not everything has run once."""
    running = _Running(options, installation)
    began_s = time.monotonic()
    async with Supervisor(
        clock=time.monotonic, changed=running.changed, held=(lock.descriptor,)
    ) as supervisor:
        await _start_servers(supervisor, running)
        _say(f"Servers ready after {time.monotonic() - began_s:.1f} s")
        online = await _start_demo(supervisor, running) if options.demo_routers else None
        _welcome(running, online)
        running.ready = True
        running.changed()
        await _keep_logs_short(running)


async def _start_servers(supervisor: Supervisor, running: _Running) -> None:
    installation = running.installation
    configuration = installation.configuration
    _say("Starting the gateway …" if len(installation.gateways) == 1 else "Starting gateways …")
    for one in installation.gateways:
        running.children[one.child] = supervisor.start(children.gateway(installation, one))

    async def logins_written() -> bool:
        mqtt = configuration.mqtt
        return mqtt.password_file.exists() and mqtt.acl_file.exists()

    await _until(logins_written, running, "gateway", "has not written the MQTT logins")
    _say("Starting the MQTT server …")
    running.children["mosquitto"] = supervisor.start(children.mqtt_server(installation))
    apis = {
        one.child: LocalApi(one.configuration.data.admin_socket) for one in installation.gateways
    }
    for child, api in apis.items():
        await _until(partial(_answers, api), running, child, "is not ready")
    # Not before: nobody would hear its first word, and the next one comes two seconds later.
    _say("Starting the relay …")
    running.children["relay"] = supervisor.start(children.relay(installation))

    async def leased() -> bool:
        """It has told its state to a gateway, and was told that it may take streams."""
        # Of several gateways any may be the one that heard it first.
        return any([await _leased(api, configuration.relay.id) for api in apis.values()])

    await _until(leased, running, "relay", "has not reported to the gateway")


async def _answers(api: LocalApi) -> bool:
    try:
        return (await api.get("/readyz")).status == 200
    except ApiUnreachable:
        return False


async def _leased(api: LocalApi, relay_id: str) -> bool:
    try:
        relays = (await api.get("/status")).json()["relays"]
        return any(one["id"] == relay_id and one["lease_at"] for one in relays)
    except (ApiUnreachable, KeyError, TypeError):
        return False  # the gateway is being started again


async def _until(
    condition: Callable[[], Awaitable[bool]], running: _Running, child: str, complaint: str
) -> None:
    try:
        async with asyncio.timeout(READY_S_MAX):
            while not await condition():
                for one in running.children.values():
                    if one.ended.is_set():
                        raise StartFailed(one.spec.name, "ended at its start")
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise StartFailed(child, f"{complaint} after {READY_S_MAX:.0f} s") from error


async def _start_demo(supervisor: Supervisor, running: _Running) -> int:
    """How many routers are online. A demo that fails leaves the servers running."""
    routers = running.options.demo_routers
    data = running.installation.data
    token = running.admin().get("admin_token")
    if token is None:
        _say("Warning: the demo needs admin.json of the installation's first machine")
        return 0
    api = LocalApi(running.installation.configuration.data.admin_socket, token=str(token))
    _say(f"Starting {routers} simulated routers …")
    try:
        join = await demo.prepare(api, data, routers)
    except (ApiRefused, ApiUnreachable, DataDirectoryError) as error:
        _say(f"Warning: the demo could not be prepared: {error}")
        return 0
    log_file = running.installation.log_file("demo")
    spec = demo.fleet(
        data=data,
        routers=routers,
        join=join,
        log_file=log_file,
        environment=own_packages(),
    )
    running.children["demo"] = supervisor.start(spec)
    said = 0

    def seen(online: int) -> None:
        nonlocal said
        if online > said:
            said = online
            _say(f"  {online} of {routers} routers online")

    online = await demo.wait_online(api, routers, seen)
    if online < routers:
        _say(f"Warning: only {online} of {routers} routers are online; see {log_file}")
    return online


def _welcome(running: _Running, online: int | None) -> None:
    configuration = running.installation.configuration
    admin = running.admin()
    url, relay = configuration.http.url, configuration.relay
    signing_in = [
        f"  E-mail    {admin.get('admin_email')}",
        f"  Password  {admin.get('admin_password')}",
    ]
    token = f"   (token: admin_token in {configuration.data.admin_file})"
    shown = [
        "",
        "Fleetgate is up.",
        "",
        f"  Open      {url}",
        *(signing_in if admin else ["  Sign in   as on the installation's other machines"]),
        "",
        f"  Status    {url}/status",
        f"  API       {url}/api/docs{token if admin else ''}",
        f"  Devices   MQTT {configuration.mqtt.device_hosts[0]}:{configuration.mqtt.device_port},"
        f" joining {configuration.devices.join_hosts[0]}:{configuration.devices.join_port}",
        f"  Relay     {'https' if relay.tls else 'http'}://*.{relay.domain}:{relay.dial_port}"
        f" (each session has a name of its own), devices dial {relay.dial_hosts[0]}",
        f"  Logs      {running.installation.log_file('gateway').parent}",
    ]
    if online is not None:
        shown.append(f"  Demo      {online} simulated routers are online")
        shown += demo.to_try(running.options.data, running.options.demo_routers)
    _say("\n".join([*shown, "", "Ctrl-C stops everything.", ""]))


async def _keep_logs_short(running: _Running) -> None:
    while True:
        for child in running.children.values():
            trim_log(child.spec.log_file)
        await asyncio.sleep(LOG_LOOK_S)
