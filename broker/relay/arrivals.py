"""Connections that have not shown yet whom they are for: counted, and bounded."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

HALF_OPEN_PER_ADDRESS = 256
HALF_OPEN_MAX = 4_096
_V6_SITE_BITS = 64  # one site's; its hosts may use as many addresses as they like


def address_key(address: str) -> str:
    """By what an address is counted."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return f"{int(known) >> (128 - _V6_SITE_BITS):x}::"


class Arrivals:
    """Who is half-open. At a bound the oldest goes: an honest one would have been done first."""

    def __init__(
        self, *, per_address: int = HALF_OPEN_PER_ADDRESS, most: int = HALF_OPEN_MAX
    ) -> None:
        self._per_address = per_address
        self.most = most
        self._all: OrderedDict[object, tuple[str, Callable[[], None]]] = OrderedDict()
        self._by_address: dict[str, OrderedDict[object, None]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, who: object, address: str, drop: Callable[[], None]) -> None:
        """Counts it; `drop` ends one whose place is needed, which then is removed already."""
        key = address_key(address)
        of_address = self._by_address.get(key)
        if of_address is not None and len(of_address) >= self._per_address:
            self._drop(next(iter(of_address)))
        elif len(self._all) >= self.most:
            self._drop(next(iter(self._all)))
        self._all[who] = (key, drop)
        self._by_address.setdefault(key, OrderedDict())[who] = None

    def remove(self, who: object) -> None:
        """It has shown whom it is for, or has gone. May be called again."""
        known = self._all.pop(who, None)
        if known is None:
            return
        of_address = self._by_address[known[0]]
        del of_address[who]
        if not of_address:
            del self._by_address[known[0]]

    def _drop(self, who: object) -> None:
        drop = self._all[who][1]
        self.remove(who)
        self.dropped += 1
        drop()
