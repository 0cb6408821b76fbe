"""The field table: every value that a sample can carry, with its number on the wire."""

from dataclasses import dataclass
from typing import Literal

FIELD_TABLE_VERSION = 2
TEXT_BYTES_MAX = 128
COUNTER_MAX = 2**53 - 1  # The largest integer that every JSON reader keeps exactly.

FieldType = Literal["integer", "text", "boolean"]
Value = int | str | bool


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table; `low` and `high` bound integers, `high` the bytes of a text."""

    id: int
    name: str
    type: FieldType
    unit: str
    low: int
    high: int
    meaning: str


def _integer(id_: int, name: str, unit: str, low: int, high: int, meaning: str) -> Field:
    return Field(id_, name, "integer", unit, low, high, meaning)


def _text(id_: int, name: str, bytes_max: int, meaning: str) -> Field:
    return Field(id_, name, "text", "", 0, bytes_max, meaning)


# Numbers are never given a second meaning; a field that is no longer sent keeps its row.
FIELDS: tuple[Field, ...] = (
    _integer(1, "uptime", "s", 0, COUNTER_MAX, "time since the system started"),
    _integer(2, "load_1min", "1/100", 0, 1_000_000, "run queue, mean over a minute"),
    _integer(3, "memory_total", "KiB", 0, COUNTER_MAX, "main memory"),
    _integer(4, "memory_available", "KiB", 0, COUNTER_MAX, "memory that programs can still get"),
    _integer(5, "flash_total", "KiB", 0, COUNTER_MAX, "size of the writable file system"),
    _integer(6, "flash_free", "KiB", 0, COUNTER_MAX, "free space of the writable file system"),
    _integer(7, "temperature", "0.1 °C", -1_000, 2_000, "temperature of the board or the CPU"),
    _integer(8, "modem_temperature", "0.1 °C", -1_000, 2_000, "temperature of the modem"),
    _integer(9, "rssi", "dBm", -150, 0, "received signal strength (3GPP TS 27.007, +CSQ)"),
    _integer(10, "rsrp", "dBm", -200, 0, "reference signal received power (3GPP TS 36.214)"),
    _integer(11, "rsrq", "dB", -60, 30, "reference signal received quality (3GPP TS 36.214)"),
    _integer(12, "sinr", "dB", -50, 60, "signal to interference and noise ratio"),
    _text(13, "operator", 64, "name of the mobile operator"),
    _text(14, "network_type", 32, "radio access technology in use, such as LTE or 5G-NSA"),
    _text(15, "registration", 32, "network registration, such as `Registered, home`"),
    _text(16, "data_connection", 32, "state of the packet data connection"),
    _text(17, "cell_id", 20, "identity of the serving cell, in decimal digits"),
    _text(18, "tac", 16, "tracking area code, in decimal digits"),
    _text(19, "band", 32, "band in use"),
    _integer(20, "sim_slot", "", 1, 8, "active SIM"),
    _text(21, "imei", 16, "identity of the modem"),
    _text(22, "iccid", 22, "identity of the SIM"),
    _integer(23, "mobile_received", "bytes", 0, COUNTER_MAX, "received on the mobile interface"),
    _integer(24, "mobile_sent", "bytes", 0, COUNTER_MAX, "sent on the mobile interface"),
    _integer(25, "received", "bytes", 0, COUNTER_MAX, "received on all other interfaces"),
    _integer(26, "sent", "bytes", 0, COUNTER_MAX, "sent on all other interfaces"),
    _text(27, "wan_address", 45, "address of the interface that holds the default route"),
    _text(28, "wan_interface", 32, "interface that holds the default route"),
    _text(29, "hostname", 64, "host name"),
    _text(30, "model", 64, "product name or code"),
    _text(31, "firmware", 64, "version of the system's software"),
    _text(32, "agent_version", 32, "version of the Fleetgate agent"),
    _text(33, "lan_mac", 17, "hardware address of the LAN interface"),
    _integer(34, "latitude", "1e-7 °", -900_000_000, 900_000_000, "WGS 84 latitude"),
    _integer(35, "longitude", "1e-7 °", -1_800_000_000, 1_800_000_000, "WGS 84 longitude"),
    _integer(36, "altitude", "m", -1_000, 100_000, "height above mean sea level"),
    _integer(37, "speed", "0.1 km/h", 0, 20_000, "speed over ground"),
    _integer(38, "satellites", "", 0, 200, "satellites in use"),
    _integer(39, "clients", "", 0, 65_535, "machines seen in the local network"),
    Field(40, "digital_input", "boolean", "", 0, 1, "state of the first digital input"),
    _integer(41, "analog_input", "mV", -100_000, 100_000, "voltage at the analog input"),
    _integer(42, "supply_voltage", "mV", 0, 100_000, "supply voltage"),
    _text(43, "sim_state", 32, "whether the SIM can be used, such as `Ready` or `PIN required`"),
    # The second modem of a router that has two.
    _integer(44, "modem_temperature_2", "0.1 °C", -1_000, 2_000, "temperature of modem 2"),
    _integer(45, "rssi_2", "dBm", -150, 0, "received signal strength of modem 2"),
    _integer(46, "rsrp_2", "dBm", -200, 0, "reference signal received power of modem 2"),
    _integer(47, "rsrq_2", "dB", -60, 30, "reference signal received quality of modem 2"),
    _integer(48, "sinr_2", "dB", -50, 60, "signal to interference and noise ratio of modem 2"),
    _text(49, "operator_2", 64, "name of the mobile operator of modem 2"),
    _text(50, "network_type_2", 32, "radio access technology that modem 2 uses"),
    _text(51, "registration_2", 32, "network registration of modem 2"),
    _text(52, "data_connection_2", 32, "state of modem 2's packet data connection"),
    _text(53, "cell_id_2", 20, "identity of modem 2's serving cell"),
    _text(54, "tac_2", 16, "tracking area code of modem 2"),
    _text(55, "band_2", 32, "band that modem 2 uses"),
    _integer(56, "sim_slot_2", "", 1, 8, "active SIM of modem 2"),
    _text(57, "imei_2", 16, "identity of modem 2"),
    _text(58, "iccid_2", 22, "identity of modem 2's SIM"),
    _text(59, "sim_state_2", 32, "whether modem 2's SIM can be used"),
)

BY_ID: dict[int, Field] = {field.id: field for field in FIELDS}
BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}

# What the decoder looks up for each value: Python type and bounds.
_CHECKS: dict[int, tuple[type, int, int]] = {
    field.id: ({"integer": int, "text": str, "boolean": bool}[field.type], field.low, field.high)
    for field in FIELDS
}


def check_value(field_id: int, value: object) -> bool:
    """Whether the value fits the field: exact type, bounds, clean UTF-8 text."""
    check = _CHECKS.get(field_id)
    return check is not None and _fits(value, check)


def _fits(value: object, check: tuple[type, int, int]) -> bool:
    kind, low, high = check
    if type(value) is not kind:  # `True` is an int to isinstance, not here.
        return False
    if kind is int:
        return low <= value <= high  # type: ignore[operator]  # its type was compared above
    if kind is str:
        return _clean_text(value, high)  # type: ignore[arg-type]  # its type was compared above
    return True


def _clean_text(text: str, bytes_max: int) -> bool:
    if not text.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        return False
    try:
        return len(text) <= bytes_max and len(text.encode()) <= bytes_max
    except UnicodeEncodeError:  # a lone surrogate
        return False


def decode_fields(flat: list[object]) -> tuple[dict[int, Value], int]:
    """The values of one sample and how many entries were set aside.

    `flat` is id, value, id, value, …; an unknown field, a wrong type or a value out of range
    costs that entry alone; the last entry of a field counts.
    """
    values: dict[int, Value] = {}
    ignored = len(flat) % 2
    for index in range(0, len(flat) - 1, 2):
        field_id, value = flat[index], flat[index + 1]
        check = _CHECKS.get(field_id) if type(field_id) is int else None
        if check is None:
            ignored += 1
        elif type(value) is check[0] is int:  # integers in a line of their own: for speed
            if check[1] <= value <= check[2]:
                values[field_id] = value  # type: ignore[index]  # an int, as compared above
            else:
                ignored += 1
        elif _fits(value, check):
            values[field_id] = value  # type: ignore[index,assignment]  # both were checked above
        else:
            ignored += 1
    return values, ignored


def encode_fields(values: dict[int, Value]) -> list[Value]:
    """The flat form of one sample's values."""
    flat: list[Value] = []
    for field_id, value in values.items():
        flat.append(field_id)
        flat.append(value)
    return flat
