"""Two machines of one installation: a node, a relay and gateways each, around one PostgreSQL."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.scenario.engines import database_on
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, marked, until

HOSTS = ("127.0.0.1", "127.0.0.2")
NODES = ("node-1", "node-2")
# Ports that outgoing connections do not get.
PORTS = range(20_000, 32_000)
BACK_S_MAX = 60.0


def port_free_on(hosts: tuple[str, ...]) -> int:
    """Devices know all nodes by one port, so it must be free at each address."""
    for port in range(PORTS.start + os.getpid() % 1_000, PORTS.stop, 7):
        with ExitStack() as stack:
            try:
                for host in hosts:
                    stack.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@dataclass(frozen=True, slots=True)
class SeveralNodes:
    """The machines, the first of which has made the installation."""

    machines: tuple[Installation, ...]

    @property
    def first(self) -> Installation:
        return self.machines[0]

    @property
    def apis(self) -> list[Api]:
        """Of all gateways of all machines."""
        token = self.first.facts()["admin_token"]
        return [
            Api(one["http_url"], token)
            for machine in self.machines
            for one in machine.facts()["gateways"]
        ]

    def until_ready(self) -> None:
        until(lambda: all(api.ready() for api in self.apis), "all are ready", within_s=BACK_S_MAX)

    def strike(self, machine: Installation, what: str) -> None:
        """`kill -9` of one process, and waits until all are back; `up` has to be started again."""
        if what == "up":
            machine.kill()
            self.start_again(machine)
            return
        former = machine.kill_child(what)
        self.until_another(machine, what, former)

    def until_another(self, machine: Installation, what: str, former: int) -> None:
        """Until `up` has started another process in the place of one that ended."""
        until(
            lambda: machine.pid(what) != former,
            f"{what} is started again",
            within_s=BACK_S_MAX,
        )
        self.until_ready()

    def start_again(self, machine: Installation) -> None:
        """After its `up` has ended; the children of a killed one take a moment to end."""
        until(lambda: not marked(machine.mark), "its processes end", within_s=BACK_S_MAX)
        machine.start()
        self.until_ready()

    def restart_in_turn(self) -> None:
        """A rolling restart: each gateway, then each machine, by what a service manager sends."""
        for machine in self.machines:
            for what in [name for name in machine.facts()["pids"] if name.startswith("gateway")]:
                former = machine.pid(what)
                os.kill(former, signal.SIGTERM)
                self.until_another(machine, what, former)
        for machine in self.machines:
            machine.stop()
            self.start_again(machine)

    def tracebacks(self) -> list[str]:
        return [text for machine in self.machines for text in machine.tracebacks()]


@contextmanager
def several_nodes(folder: Path, *, gateways: int, nodes: int = 2) -> Iterator[SeveralNodes]:
    """Started machines; devices are told the addresses of all of them."""
    hosts = HOSTS[:nodes]
    port = port_free_on(hosts)
    with ExitStack() as stack:
        database = stack.enter_context(database_on("postgresql"))
        machines: list[Installation] = []
        for host, node in zip(hosts, NODES, strict=False):
            machine = Installation(
                folder / node,
                database=database,
                gateways=gateways,
                node=node,
                keys=machines[0].data / "keys" if machines else None,
                host=host,
                mqtt_port=port,
            )
            machine.data.mkdir(mode=0o700, parents=True)
            names = ", ".join(f'"{one}"' for one in hosts)
            (machine.data / "gateway.toml").write_text(f"[mqtt]\npublic_hosts = [{names}]\n")
            stack.callback(machine.end)
            machine.start()
            machines.append(machine)
        yield SeveralNodes(tuple(machines))
