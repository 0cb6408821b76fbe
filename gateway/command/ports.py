"""Chooses the addresses that `fleetgate up` listens on, and remembers the ports it picked."""

import errno
import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.atomic_file import write_atomically

FILE_NAME = "ports.json"
# Below what outgoing connections get: a client on this machine that knocks while the server is
# down could else be given the server's port for its own end, meet itself, and keep the port.
PICKED = range(20_000, 32_000)
FILE_BYTES_MAX = 4096
LOOPBACK = "127.0.0.1"


class AddressUsageError(ValueError):
    """An address option that cannot be read."""


class AddressRefused(Exception):
    """An address that was asked for cannot be had."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of one listener; no port means the usual one or the saved one."""

    name: str
    host: str
    port: int | None
    usual_port: int

    @property
    def flag(self) -> str:
        return f"--{self.name}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where one listener goes; `note` is what the operator should hear about it."""

    name: str
    host: str
    port: int
    picked: bool
    note: str = ""


def parse(name: str, text: str | None, usual_port: int) -> Asked:
    """Reads HOST:PORT, HOST or :PORT; port 0 means any free one, kept for later starts."""
    if not text:
        return Asked(name, LOOPBACK, None, usual_port)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise AddressUsageError(f"--{name} {text}: write [ADDRESS]:PORT")
        port_text = rest[1:]
    elif text.count(":") > 1:
        raise AddressUsageError(f"--{name} {text}: an IPv6 address goes in brackets, [::1]:8080")
    else:
        host, _, port_text = text.partition(":")
    if not port_text:
        return Asked(name, host or LOOPBACK, None, usual_port)
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise AddressUsageError(f"--{name} {text}: the port is a number from 0 to 65535")
    return Asked(name, host or LOOPBACK, int(port_text), usual_port)


def beside(first: Asked, name: str, step: int) -> Asked:
    """For one more listener of the kind of `first`: so many ports further, if that is free."""
    if first.port == 0:
        return Asked(name, first.host, 0, first.usual_port + step)
    return Asked(name, first.host, None, min(65_535, (first.port or first.usual_port) + step))


def load(directory: Path) -> dict[str, int]:
    """The ports that were picked at earlier starts; a damaged file counts as none."""
    try:
        with (directory / FILE_NAME).open("rb") as file:
            saved = json.loads(file.read(FILE_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    if not isinstance(saved, dict):
        return {}
    return {
        name: port
        for name, port in saved.items()
        if isinstance(port, int) and 1 <= port <= 65535 and not isinstance(port, bool)
    }


def save(directory: Path, chosen: Mapping[str, Chosen]) -> None:
    """Keeps the picked ports, so that joined agents find this installation again."""
    picked = {name: address.port for name, address in chosen.items() if address.picked}
    write_atomically(directory / FILE_NAME, json.dumps(picked, indent=1).encode())


def choose(asked: Asked, saved: Mapping[str, int], taken: set[int]) -> Chosen:
    """An address that is free now, or AddressRefused; `taken` are ports chosen a moment ago."""
    if asked.port:
        if asked.port in taken:
            raise AddressRefused(f"{asked.flag} {asked.host}:{asked.port}: given twice")
        require_free(asked, asked.port)
        return Chosen(asked.name, asked.host, asked.port, picked=False)
    earlier = saved.get(asked.name)
    if earlier is not None and earlier not in taken and is_free(asked, earlier):
        return Chosen(asked.name, asked.host, earlier, picked=True)
    note = ""
    if earlier is not None:
        note = f"port {earlier} of earlier starts is busy: devices that know it will not connect"
    if asked.port is None:
        if asked.usual_port not in taken and is_free(asked, asked.usual_port):
            return Chosen(asked.name, asked.host, asked.usual_port, picked=True, note=note)
        note = note or f"port {asked.usual_port} is busy"
    return Chosen(asked.name, asked.host, _any_free(asked, taken), picked=True, note=note)


def require_free(asked: Asked, port: int) -> None:
    """Raises AddressRefused, naming the option, when nobody could listen there now."""
    error = _try(asked, port)
    if error is None:
        return
    where = f"{asked.flag} {asked.host}:{port}"
    if error.errno == errno.EADDRINUSE:
        raise AddressRefused(f"{where}: address in use; choose another port or 0 for any")
    if error.errno == errno.EADDRNOTAVAIL:
        raise AddressRefused(f"{where}: not an address of this machine")
    if error.errno in (errno.EACCES, errno.EPERM):
        raise AddressRefused(f"{where}: ports below 1024 need more rights")
    raise AddressRefused(f"{where}: {error.strerror or error}")


def is_free(asked: Asked, port: int) -> bool:
    """False when it is in use; any other obstacle is the address's own and raises."""
    error = _try(asked, port)
    if error is None:
        return True
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return False
    raise AddressRefused(f"{asked.flag} {asked.host}:{port}: {error.strerror or error}")


def _try(asked: Asked, port: int) -> OSError | None:
    try:
        with _bound(asked.host, port):
            return None
    except OSError as error:
        return error


def _any_free(asked: Asked, taken: set[int]) -> int:
    for port in random.sample(PICKED, 100):
        if port not in taken and is_free(asked, port):
            return port
    raise AddressRefused(
        f"{asked.flag} {asked.host}: no free port from {PICKED.start} to {PICKED.stop - 1}"
    )


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # As servers do: connections of the former process that still linger are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
