"""The veto: which addresses and ports a session may reach, by the agent's own configuration.

An entry of `allow` is a host or a network in CIDR, a colon, and ports: `router:22,80,443` (the
device itself), `192.168.1.0/24:80,443`, `10.0.0.5:1-65535`, `[fd00::]/64:22`.
"""

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import NamedTuple

from agent.errors import ConfigurationError
from wire.targets import PORT_MAX

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_ALLOW = ("router:22,80,443",)
ENTRIES_MAX = 64
PORT_RANGES_MAX = 64
ROUTER_WORD = "router"
_ROUTER = (ip_network("127.0.0.1/32"), ip_network("::1/128"))
_ENTRY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.]+))(/[0-9]{1,3})?:([0-9,-]+)")
_PORTS = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")

# No host of an ordinary network has such an address: it means the device itself, all hosts at
# once, a metadata service, or an IPv4 address in other clothes. An entry reaches them only if it
# lies within that very range; `0.0.0.0/0` merely contains them.
_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "::/96",  # an IPv4 address, the deprecated way
        "::ffff:0:0/96",  # mapped
        "::ffff:0:0:0/96",  # translated
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        # Reserved for what nobody has thought of yet.
        "::/8",
        "100::/8",
        "200::/7",
        "400::/6",
        "800::/5",
        "1000::/4",
        "4000::/3",
        "6000::/3",
        "8000::/3",
        "a000::/3",
        "c000::/3",
        "e000::/4",
        "f000::/5",
        "f800::/6",
        "fe00::/9",
    )
)


class Entry(NamedTuple):
    """One line of the list: these addresses, at these ports (first and last of each range)."""

    networks: tuple[Network, ...]
    ports: tuple[tuple[int, int], ...]


class AllowList:
    """The entries in force."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    def allowed(self, address: Address, port: int) -> bool:
        """Whether a session may reach this address at this port."""
        special = _special_range(address)
        for entry in self._entries:
            if not any(first <= port <= last for first, last in entry.ports):
                continue
            for network in entry.networks:
                if address in network and (special is None or _within(network, special)):
                    return True
        return False


def parse_allow(entries: Sequence[object]) -> AllowList:
    """Reads the list. Raises `ConfigurationError`, which names the entry."""
    if len(entries) > ENTRIES_MAX:
        raise ConfigurationError(f"allow: at most {ENTRIES_MAX} entries")
    return AllowList([_entry(entry) for entry in entries])


def _special_range(address: Address) -> Network | None:
    """The narrowest of the special ranges that the address lies in."""
    found = [one for one in _SPECIAL if address in one]
    return max(found, key=lambda one: one.prefixlen, default=None)


def _within(network: Network, outer: Network) -> bool:
    return network.prefixlen >= outer.prefixlen and network.network_address in outer


def _entry(entry: object) -> Entry:
    matched = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
    if matched is None:
        raise ConfigurationError(
            f"allow: {entry!r}: must be like router:22,80 or 192.168.1.0/24:80 or [fd00::]/64:22"
        )
    in_brackets, bare, prefix, ports = matched.groups()
    networks: tuple[Network, ...]
    if bare == ROUTER_WORD and prefix is None:
        networks = _ROUTER
    else:
        networks = (_network(str(entry), in_brackets, bare, prefix or ""),)
    return Entry(networks, _ports(str(entry), ports))


def _network(entry: str, in_brackets: str | None, bare: str | None, prefix: str) -> Network:
    host = in_brackets or bare or ""
    try:
        network = ip_network(host + prefix)
    except ValueError as error:
        raise ConfigurationError(f"allow: {entry!r}: {error}") from error
    written = host + (prefix or f"/{network.max_prefixlen}")
    if str(network) != written or (network.version == 6) != (in_brackets is not None):
        raise ConfigurationError(f"allow: {entry!r}: write it in its canonical form, {network}")
    return network


def _ports(entry: str, text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split(","):
        matched = _PORTS.fullmatch(part)
        if matched is None:
            raise ConfigurationError(f"allow: {entry!r}: ports must be like 22,80,8000-8010")
        first = int(matched[1])
        last = int(matched[2] or first)
        if not 1 <= first <= last <= PORT_MAX:
            raise ConfigurationError(f"allow: {entry!r}: ports must be 1 to {PORT_MAX}, rising")
        ranges.append((first, last))
    if len(ranges) > PORT_RANGES_MAX:
        raise ConfigurationError(f"allow: {entry!r}: at most {PORT_RANGES_MAX} ports or ranges")
    return tuple(ranges)
