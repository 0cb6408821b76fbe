"""Values of any Linux system, from /proc and /sys."""

import logging
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from wire.fields import Value

log = logging.getLogger(__name__)

_READ_BYTES_MAX = 64 * 1024
_MOBILE = ("wwan", "qmimux", "rmnet", "usb", "ppp", "wwp")
# What passes these passes the interface below them too, and is counted there again.
_MUXED = ("qmimux", "rmnet_data")
_WRITABLE = ("overlay", "")  # OpenWrt mounts its writable part on /overlay
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NO_MAC = "00:00:00:00:00:00"
_LAN_NAMES = ("br-lan", "br0", "eth0")
_ROUTE_UP = 0x1
_REJECT = 0x0200

Values = dict[str, Value]


class LinuxCollector:
    """A source that fails costs its own fields only; each failure is logged once."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._failed: set[str] = set()
        self._sources: tuple[Callable[[], Values], ...] = (
            self._uptime,
            self._load,
            self._memory,
            self._flash,
            self._temperature,
            self._counters,
            self._default_route,
            self._identity,
            self._clients,
        )

    def __call__(self) -> Mapping[str, Value]:
        values: Values = {}
        for source in self._sources:
            try:
                values.update(source())
            except (OSError, ValueError, IndexError, KeyError) as error:
                name = source.__name__.lstrip("_")
                if name not in self._failed:
                    self._failed.add(name)
                    log.info("source gives nothing source=%s error=%s", name, error)
        return values

    def _read(self, path: str) -> str:
        with (self._root / path).open("rb") as file:
            return file.read(_READ_BYTES_MAX).decode("utf-8", "replace").strip("\x00 \n")

    def _first(self, *paths: str) -> str | None:
        for path in paths:
            try:
                text = self._read(path)
            except OSError:
                continue
            if text and text != "N/A":
                return text
        return None

    # Sources

    def _uptime(self) -> Values:
        return {"uptime": int(float(self._read("proc/uptime").split()[0]))}

    def _load(self) -> Values:
        return {"load_1min": round(float(self._read("proc/loadavg").split()[0]) * 100)}

    def _memory(self) -> Values:
        sizes = {}
        for line in self._read("proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            sizes[name] = rest
        return {
            "memory_total": int(sizes["MemTotal"].split()[0]),
            "memory_available": int(sizes["MemAvailable"].split()[0]),
        }

    def _flash(self) -> Values:
        for place in _WRITABLE:
            path = self._root / place
            if path.is_dir():
                sizes = os.statvfs(path)
                return {
                    "flash_total": sizes.f_blocks * sizes.f_frsize // 1024,
                    "flash_free": sizes.f_bavail * sizes.f_frsize // 1024,
                }
        return {}

    def _temperature(self) -> Values:
        """The hottest thermal zone, as the kernel gives it: thousandths of a degree."""
        readings = []
        for path in sorted((self._root / "sys/class/thermal").glob("thermal_zone*/temp")):
            try:
                readings.append(int(path.read_text(encoding="ascii")))
            except (OSError, ValueError):
                continue  # Some zones answer only while their device is awake.
        return {"temperature": round(max(readings) / 100)} if readings else {}

    def _counters(self) -> Values:
        sums = {"received": 0, "sent": 0}
        mobile = {"mobile_received": 0, "mobile_sent": 0}
        mobile_seen = False
        interfaces = list(self._interfaces())
        muxed = any(name.startswith(_MUXED) for name, _, _ in interfaces)
        for name, received, sent in interfaces:
            if name == "lo":
                continue
            if name.startswith(_MOBILE):
                if muxed and not name.startswith(_MUXED):
                    continue
                mobile_seen = True
                mobile["mobile_received"] += received
                mobile["mobile_sent"] += sent
            else:
                sums["received"] += received
                sums["sent"] += sent
        return {**sums, **(mobile if mobile_seen else {})}

    def _interfaces(self) -> Iterator[tuple[str, int, int]]:
        for line in self._read("proc/net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            columns = rest.split()
            yield name.strip(), int(columns[0]), int(columns[8])

    def _default_route(self) -> Values:
        best: tuple[int, str] | None = None
        for line in self._read("proc/net/route").splitlines()[1:]:
            columns = line.split()
            name, target, flags = columns[0], columns[1], int(columns[3], 16)
            usable = flags & _ROUTE_UP and not flags & _REJECT
            if target == "00000000" and columns[7] == "00000000" and usable:
                best = min(best or (int(columns[6]), name), (int(columns[6]), name))
        if best is None:
            return {}
        values: Values = {"wan_interface": best[1]}
        address = _address_of(best[1]) if self._root == Path("/") else None
        return values if address is None else {**values, "wan_address": address}

    def _identity(self) -> Values:
        found = {
            "hostname": self._first("proc/sys/kernel/hostname"),
            "model": self._first(
                "sys/mnf_info/name",
                "tmp/sysinfo/model",
                "proc/device-tree/model",
                "sys/class/dmi/id/product_name",
            ),
            "firmware": self._first("etc/version") or self._kernel(),
            "lan_mac": lan_mac(self._root),
        }
        return {name: text for name, text in found.items() if text}

    def _kernel(self) -> str | None:
        release = self._first("proc/sys/kernel/osrelease")
        return None if release is None else f"Linux {release}"

    def _clients(self) -> Values:
        """Neighbours that have answered, as the kernel's ARP table shows them."""
        rows = self._read("proc/net/arp").splitlines()[1:]
        wan = self._default_route().get("wan_interface")
        seen = [row.split() for row in rows]
        return {"clients": sum(row[2] == "0x2" and row[5] != wan for row in seen)}


def _address_of(interface: str) -> str | None:
    """The address from which packets to the outside would go; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # SIOCGIFADDR would need fcntl and a buffer; a connected datagram socket needs neither.
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, struct.pack("16s", interface.encode())
            )
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return None


def lan_mac(root: Path = Path("/")) -> str | None:
    """Hardware address of the LAN interface, in small letters with colons."""
    named = root / "sys/mnf_info/mac"
    try:
        digits = named.read_text(encoding="ascii").strip().lower().replace(":", "")
    except (OSError, ValueError):
        digits = ""
    if re.fullmatch("[0-9a-f]{12}", digits):
        return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
    folder = root / "sys/class/net"
    try:
        others = sorted(path.name for path in folder.iterdir())
    except OSError:
        return None
    # Machines without one of the usual names: the first real interface, else any with an address.
    real = [name for name in others if (folder / name / "device").exists()]
    for name in (*_LAN_NAMES, *real, *others):
        try:
            text = (folder / name / "address").read_text(encoding="ascii").strip().lower()
        except (OSError, ValueError):
            continue
        if _MAC.fullmatch(text) and text != _NO_MAC:
            return text
    return None


def device_serial(root: Path = Path("/")) -> str | None:
    """The maker's serial of a Teltonika router, if this is one."""
    try:
        return (root / "sys/mnf_info/serial").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
