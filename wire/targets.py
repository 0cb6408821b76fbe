"""Targets inside a device's network: `host:port`, written in one way only."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from wire.heartbeat import WireError

HOST_CHARS_MAX = 253
PORT_MAX = 65_535
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]+)\]:([0-9]{1,5})")
# Protocols of a session and the port that each means where none is named.
PROTOCOL_PORTS = {
    "http": 80,
    "https": 443,
    "ssh": 22,
    "telnet": 23,
    "rdp": 3389,
    "vnc": 5900,
    "tcp": 0,
}
ROUTER = "127.0.0.1"  # a device reaches itself here


class Target(NamedTuple):
    """An IP literal, or a name in lower case that the agent resolves; and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The literal address; None for a name."""
        return literal(self.host)


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a canonical literal means; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def parse_target(text: str) -> Target:
    """Reads a target as an agent does. Raises `WireError` for any other spelling of an address.

    Only canonical literals: `0x7f.1`, `127.1`, `127.000.0.1` and `::ffff:127.0.0.1` are spellings
    by which allow-lists are passed by, so a host that looks numeric and is not canonical is
    refused.
    """
    target = spelled_target(text)
    numeric = _NUMERIC.fullmatch(target.host.rpartition(".")[2]) or ":" in target.host
    if str(target) != text or (numeric and target.address is None):
        raise WireError("target: write the address in its canonical form")
    return target


def spelled_target(text: str) -> Target:
    """Reads `host:port` or `[v6]:port` in any spelling: the router's own list has the last word.

    What is an IP address is written in its one canonical form, a name in lower case. Raises
    `WireError` for what is no host or no port.
    """
    bracketed = _BRACKETED.fullmatch(text)
    host, port_text = bracketed.groups() if bracketed else _split(text)
    if not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5:
        raise WireError("target: must be host:port")
    port = int(port_text)
    if not 1 <= port <= PORT_MAX or str(port) != port_text:
        raise WireError(f"target: port must be 1 to {PORT_MAX}")
    host = host.lower()
    if bracketed is not None:
        if ":" not in host:
            raise WireError("target: only IPv6 addresses stand in brackets")
    elif len(host) > HOST_CHARS_MAX or not all(_LABEL.fullmatch(one) for one in host.split(".")):
        raise WireError("target: neither an IP address nor a host name")
    address = literal(host)
    return Target(host if address is None else str(address), port)


def _split(text: str) -> tuple[str, str]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or ":" in host:
        raise WireError("target: must be host:port, an IPv6 address in brackets")
    return host, port
