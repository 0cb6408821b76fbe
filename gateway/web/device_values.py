"""The newest values of a device as people read them: grouped, with units, each with its age."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.operations.devices import ValueShown
from gateway.web.languages import gettext_noop as _
from gateway.web.writing import bytes_text, duration_text, number_text

GROUPS: Mapping[str, tuple[str, Sequence[str]]] = {
    "radio": (
        _("Radio"),
        (
            "operator network_type registration data_connection rsrp rsrq sinr rssi band cell_id"
            " tac sim_slot sim_state imei iccid"
        ).split(),
    ),
    "radio_2": (
        _("Second modem"),
        (
            "operator_2 network_type_2 registration_2 data_connection_2 rsrp_2 rsrq_2 sinr_2"
            " rssi_2 band_2 cell_id_2 tac_2 sim_slot_2 sim_state_2 imei_2 iccid_2"
            " modem_temperature_2"
        ).split(),
    ),
    "traffic": (
        _("Traffic"),
        ("mobile_received mobile_sent received sent wan_interface wan_address clients").split(),
    ),
    "system": (
        _("System"),
        (
            "model firmware agent_version hostname uptime temperature modem_temperature load_1min"
            " memory_available memory_total flash_free flash_total lan_mac supply_voltage"
            " analog_input digital_input"
        ).split(),
    ),
    "position": (_("Position"), "latitude longitude altitude speed satellites".split()),
}
LABELS: Mapping[str, str] = {
    "uptime": _("Running for"),
    "load_1min": _("Load"),
    "memory_total": _("Memory"),
    "memory_available": _("Memory available"),
    "flash_total": _("Flash"),
    "flash_free": _("Flash free"),
    "temperature": _("Temperature"),
    "modem_temperature": _("Modem temperature"),
    "rssi": "RSSI",
    "rsrp": "RSRP",
    "rsrq": "RSRQ",
    "sinr": "SINR",
    "operator": _("Operator"),
    "network_type": _("Network"),
    "registration": _("Registration"),
    "data_connection": _("Data connection"),
    "cell_id": _("Cell"),
    "tac": _("Tracking area"),
    "band": _("Band"),
    "sim_slot": _("SIM slot"),
    "sim_state": _("SIM"),
    "imei": "IMEI",
    "iccid": "ICCID",
    "mobile_received": _("Received, mobile"),
    "mobile_sent": _("Sent, mobile"),
    "received": _("Received, other"),
    "sent": _("Sent, other"),
    "wan_address": _("WAN address"),
    "wan_interface": _("WAN interface"),
    "hostname": _("Host name"),
    "model": _("Model"),
    "firmware": _("Firmware"),
    "agent_version": _("Agent"),
    "lan_mac": _("LAN MAC address"),
    "latitude": _("Latitude"),
    "longitude": _("Longitude"),
    "altitude": _("Altitude"),
    "speed": _("Speed"),
    "satellites": _("Satellites"),
    "clients": _("Machines in the LAN"),
    "digital_input": _("Digital input"),
    "analog_input": _("Analog input"),
    "supply_voltage": _("Supply voltage"),
}
_SECOND = "_2"  # the second modem's values read like the first's
_BYTES = frozenset({"mobile_received", "mobile_sent", "received", "sent"})
_KIB = frozenset({"memory_total", "memory_available", "flash_total", "flash_free"})
_UNITS = {
    "rssi": "dBm",
    "rsrp": "dBm",
    "rsrq": "dB",
    "sinr": "dB",
    "altitude": "m",
}
_TENTHS = {"temperature": "°C", "modem_temperature": "°C", "speed": "km/h"}
_THOUSANDTHS = {"analog_input": "V", "supply_voltage": "V"}
_DEGREES = 10**7


class Shown(NamedTuple):
    """One value for people."""

    label: str
    text: str
    at: str


def value_text(name: str, value: Any) -> str:
    """The value with its unit, as people write it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, int):
        return str(value)
    name = name.removesuffix(_SECOND)
    if name in _TENTHS:
        return f"{value / 10:.1f} {_TENTHS[name]}"
    if name in _THOUSANDTHS:
        return f"{value / 1000:.2f} {_THOUSANDTHS[name]}"
    if name in _BYTES or name in _KIB:
        return bytes_text(value * (1024 if name in _KIB else 1))
    if name == "uptime":
        return duration_text(value)
    if name == "load_1min":
        return f"{value / 100:.2f}"
    if name in ("latitude", "longitude"):
        return f"{value / _DEGREES:.5f}°"
    if name in _UNITS:
        return f"{value} {_UNITS[name]}"
    return number_text(value)


def shown_values(latest: Mapping[str, ValueShown]) -> Mapping[str, Shown]:
    """All known values by name."""
    return {
        name: Shown(
            LABELS.get(name.removesuffix(_SECOND), name), value_text(name, one.value), one.at
        )
        for name, one in latest.items()
    }
