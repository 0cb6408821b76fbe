"""The Linux collector on a made-up root and on this machine."""

from pathlib import Path

from agent.collectors.linux import LinuxCollector, device_serial, lan_mac
from wire.fields import BY_NAME, check_value

ROUTE = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "wwan0\t00000000\t0100000A\t0003\t0\t0\t20\t00000000\t0\t0\t0\n"
    "eth1\t00000000\t0101A8C0\t0003\t0\t0\t10\t00000000\t0\t0\t0\n"
    "br-lan\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
NET_DEV = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
    "    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n"
    "br-lan: 1000 9 0 0 0 0 0 0 2000 9 0 0 0 0 0 0\n"
    "  eth1: 30 9 0 0 0 0 0 0 40 9 0 0 0 0 0 0\n"
    " wwan0: 500 9 0 0 0 0 0 0 600 9 0 0 0 0 0 0\n"
)
ARP = (
    "IP address       HW type     Flags       HW address            Mask     Device\n"
    "192.168.1.20     0x1         0x2         00:11:22:33:44:55     *        br-lan\n"
    "192.168.1.21     0x1         0x0         00:00:00:00:00:00     *        br-lan\n"
    "10.0.0.1         0x1         0x2         00:11:22:33:44:66     *        eth1\n"
)
FILES = {
    "proc/uptime": "7440.52 100.00\n",
    "proc/loadavg": "0.28 0.20 0.15 1/80 999\n",
    "proc/meminfo": "MemTotal:      124000 kB\nMemFree: 1 kB\nMemAvailable:   61000 kB\n",
    "sys/class/thermal/thermal_zone0/temp": "41500\n",
    "sys/class/thermal/thermal_zone1/temp": "47200\n",
    "proc/net/dev": NET_DEV,
    "proc/net/route": ROUTE,
    "proc/net/arp": ARP,
    "proc/sys/kernel/hostname": "Teltonika-RUTX11\n",
    "proc/sys/kernel/osrelease": "5.4.211\n",
    "proc/device-tree/model": "RUTX11\x00",
    "sys/class/net/br-lan/address": "00:1e:42:00:00:01\n",
}
EXPECTED = {
    "uptime": 7440,
    "load_1min": 28,
    "memory_total": 124_000,
    "memory_available": 61_000,
    "temperature": 472,
    "received": 1030,
    "sent": 2040,
    "mobile_received": 500,
    "mobile_sent": 600,
    "wan_interface": "eth1",
    "hostname": "Teltonika-RUTX11",
    "model": "RUTX11",
    "firmware": "Linux 5.4.211",
    "lan_mac": "00:1e:42:00:00:01",
    "clients": 1,
}
# Which fields each source gives: without it, those alone are missing.
COSTS = {
    "proc/uptime": {"uptime"},
    "proc/loadavg": {"load_1min"},
    "proc/meminfo": {"memory_total", "memory_available"},
    "proc/net/dev": {"received", "sent", "mobile_received", "mobile_sent"},
    "proc/net/route": {"wan_interface", "clients"},
    "proc/net/arp": {"clients"},
    "proc/sys/kernel/hostname": {"hostname"},
    "proc/sys/kernel/osrelease": {"firmware"},
    "proc/device-tree/model": {"model"},
    "sys/class/net/br-lan/address": {"lan_mac"},
}


def plant(root: Path, *, without: str = "") -> None:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != without:
            path.write_text(text, encoding="utf-8")


def without_flash(values: dict[str, object]) -> dict[str, object]:
    assert values.pop("flash_total", 1) and values.pop("flash_free", 1)
    return values


def test_every_source_is_read(tmp_path: Path) -> None:
    plant(tmp_path)
    assert without_flash(dict(LinuxCollector(tmp_path)())) == EXPECTED


def test_what_passes_two_mobile_interfaces_is_counted_once(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "proc/net/dev").write_text(
        NET_DEV + "qmimux0: 400 9 0 0 0 0 0 0 300 9 0 0 0 0 0 0\n", encoding="utf-8"
    )
    values = LinuxCollector(tmp_path)()
    assert (values["mobile_received"], values["mobile_sent"]) == (400, 300)


def test_a_failing_source_costs_its_fields_only(tmp_path: Path) -> None:
    for number, (missing, fields) in enumerate(COSTS.items()):
        root = tmp_path / str(number)
        plant(root, without=missing)
        values = without_flash(dict(LinuxCollector(root)()))
        assert values == {k: v for k, v in EXPECTED.items() if k not in fields}, missing


def test_nonsense_in_a_source_costs_its_fields_only(tmp_path: Path) -> None:
    for number, (broken, fields) in enumerate(COSTS.items()):
        root = tmp_path / str(number)
        plant(root)
        (root / broken).write_bytes(b"\xff\x00nonsense\n" * 3)
        values = LinuxCollector(root)()
        for name in EXPECTED.keys() - fields - {"clients"}:
            assert values[name] == EXPECTED[name], broken


def test_a_teltonika_router_knows_its_serial_and_address(tmp_path: Path) -> None:
    assert device_serial(tmp_path) is None and lan_mac(tmp_path) is None
    folder = tmp_path / "sys" / "mnf_info"
    folder.mkdir(parents=True)
    (folder / "serial").write_text("1100000001\n")
    (folder / "mac").write_text("001E42000001\n")
    assert device_serial(tmp_path) == "1100000001"
    assert lan_mac(tmp_path) == "00:1e:42:00:00:01"


def test_this_machine_gives_values_that_fit_the_field_table() -> None:
    values = LinuxCollector()()
    assert {"uptime", "load_1min", "memory_total", "flash_total", "hostname"} <= values.keys()
    for name, value in values.items():
        assert check_value(BY_NAME[name].id, value), (name, value)
