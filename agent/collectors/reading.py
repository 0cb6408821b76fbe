"""Turns what routers and modems say about themselves into values of the field table.

Every source spells its values in its own way: numbers come as texts, "N/A" stands for nothing, a
temperature is in degrees here and in tenths there. All of that is decided in this one place, for
all collectors. Nothing here raises, whatever it is given: what makes no sense is absent.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from wire.fields import BY_NAME, Value, check_value

Values = dict[str, Value]

_NUMBER_CHARS_MAX = 40
_TEXT_CHARS_MAX = 1_024
_NUMBER = re.compile(
    r"([+-]?[0-9]{1,18})(\.[0-9]{1,18})?\s*(?:dBm|dB|°C|C|V|km/h|m|s|%|bytes|B)?", re.IGNORECASE
)
_NOTHING = frozenset(
    {"", "n/a", "na", "none", "null", "nil", "-", "--", "not available"}
    # What programs print in place of a value.
    | {"error", "timeout", "timeout.", "failed", "unsupported", "not supported"}
)
_YES = frozenset({"1", "true", "yes", "on", "high", "active", "closed"})
_NO = frozenset({"0", "false", "no", "off", "low", "inactive", "open"})
_MAC = re.compile(r"[0-9a-f]{2}([:.-]?[0-9a-f]{2}){5}")
_NO_MAC = "0" * 12
SECOND = "_2"  # what the names of the second modem's fields end with


def known(named: Mapping[str, Value | None]) -> Values:
    """What is there and fits the field table."""
    return {
        name: value
        for name, value in named.items()
        if value is not None and name in BY_NAME and check_value(BY_NAME[name].id, value)
    }


def of_modem(position: int, values: Mapping[str, Value]) -> Values:
    """The values of a router's first, second, … modem under their names; a third has none."""
    if position == 0:
        return dict(values)
    second = {f"{name}{SECOND}": value for name, value in values.items()}
    return {name: value for name, value in second.items() if position == 1 and name in BY_NAME}


def member(entry: object, *path: str) -> Any:
    """What lies under these keys, one below the other; None where one is missing."""
    for key in path:
        if not isinstance(entry, Mapping):
            return None
        entry = entry.get(key)
    return entry


# Plain kinds


def number(value: object) -> int | float | None:
    """A finite number, or the text of one, with or without its unit."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value if abs(value) < 10**18 else None
    if isinstance(value, float):
        return value if math.isfinite(value) and abs(value) < 1e18 else None
    if not isinstance(value, str) or len(value) > _NUMBER_CHARS_MAX:
        return None
    found = _NUMBER.fullmatch(value.strip())
    if found is None:
        return None
    return float(found[1] + found[2]) if found[2] else int(found[1])


def whole(name: str, value: object, times: int = 1) -> int | None:
    """The number in the unit of a field, `times` what is given; absent where it does not fit."""
    found = number(value)
    if found is None:
        return None
    scaled = round(found * times)
    return scaled if check_value(BY_NAME[name].id, scaled) else None


def boolean(value: object) -> bool | None:
    """Yes or no, in any of the usual spellings."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if not isinstance(value, str):
        return None
    word = value[:_NUMBER_CHARS_MAX].strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    return None


def plain(value: object) -> str | None:
    """A text without control characters, on one line; absent when it says nothing."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    if not isinstance(value, str):
        return None
    clean = "".join(
        # A lone surrogate cannot travel, and a control character may not.
        " " if c < " " or "\x7f" <= c <= "\x9f" else "" if "\ud800" <= c <= "\udfff" else c
        for c in value[:_TEXT_CHARS_MAX]
    ).strip()
    return None if clean.lower() in _NOTHING else clean


def text(name: str, value: object) -> str | None:
    """A text, cut to the bytes that its field has."""
    clean = plain(value)
    if clean is None:
        return None
    return clean.encode()[: BY_NAME[name].high].decode(errors="ignore").strip() or None


def digits(name: str, value: object) -> str | None:
    """An IMEI or ICCID: digits alone, as many as can be one."""
    found = plain(value)
    # Some modems pad an ICCID of 19 digits with an F to whole bytes.
    trimmed = None if found is None else found.strip('" ').rstrip("Ff")
    if trimmed is None or not re.fullmatch("[0-9]{14,22}", trimmed):
        return None
    return text(name, trimmed)


def mac(value: object) -> str | None:
    """A hardware address in small letters with colons."""
    if not isinstance(value, str) or len(value) > _NUMBER_CHARS_MAX:
        return None
    lower = value.strip().lower()
    bare = re.sub("[:.-]", "", lower)
    if not _MAC.fullmatch(lower) or bare == _NO_MAC:
        return None
    return ":".join(bare[i : i + 2] for i in range(0, 12, 2))


# Radio

_REGISTRATIONS = (
    "Not registered",
    "Registered, home",
    "Searching",
    "Denied",
    "Unknown",
    "Registered, roaming",
    "Registered, SMS only",
    "Registered, SMS only",
    "Emergency only",
)


def registration(value: object) -> str | None:
    """One text for the numbers of 3GPP TS 27.007 (+CREG) and for what firmware writes instead."""
    stat = number(value)
    if stat is not None:
        return _REGISTRATIONS[int(stat)] if stat in range(len(_REGISTRATIONS)) else None
    said = plain(value)
    if said is None:
        return None
    word = said.lower()
    if "not reg" in word or "unreg" in word:
        return _REGISTRATIONS[0]
    for part, stat in (
        *(("sms", 6), ("roam", 5), ("home", 1), ("search", 2)),
        *(("denied", 3), ("unknown", 4), ("emergency", 8)),
    ):
        if part in word:
            return _REGISTRATIONS[stat]
    return text("registration", said)


# The first that is found decides. `NSA` stands before `SA`, `E-UTRAN` before `UTRAN`.
_NETWORK_TYPES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"NSA|EN-?DC", "5G-NSA"),
        (r"\bSA\b|NR5G|5G-?SA", "5G-SA"),
        (r"5G|\bNR\b", "5G"),
        (r"NB-?IOT|CAT[ -]?NB", "NB-IoT"),
        (r"LTE-?M\b|CAT[ -]?M|EMTC", "LTE-M"),
        (r"LTE-?CA\b|LTE-?A\b|(?:LTE|4G)\+", "LTE-CA"),
        (r"LTE|4G|E-UTRAN", "LTE"),
        (r"WCDMA|UMTS|HSPA|HSDPA|HSUPA|UTRAN|CDMA|3G", "3G"),
        (r"GSM|GPRS|EDGE|2G", "2G"),
    )
)
# <AcT> of +COPS and +CREG, 3GPP TS 27.007.
_TECHNOLOGIES = {
    **dict.fromkeys((0, 1, 3, 8), "2G"),
    **dict.fromkeys((2, 4, 5, 6), "3G"),
    7: "LTE",
    9: "NB-IoT",
    10: "LTE",
    11: "5G-SA",
    12: "5G-SA",
    13: "5G-NSA",
}


def network_type(value: object) -> str | None:
    """The radio access technology: LTE, LTE-CA, 5G-NSA, 3G …"""
    act = number(value)
    if act is not None:
        return _TECHNOLOGIES.get(int(act)) if act == int(act) else None
    said = plain(value)
    if said is None or said.lower().replace(" ", "") in ("noservice", "search", "limsrv"):
        return None
    # What stands after a semicolon is about voice: `5G (NSA); VoLTE`.
    upper = said.partition(";")[0].upper()
    for pattern, name in _NETWORK_TYPES:
        if pattern.search(upper):
            return name
    return text("network_type", said)


_BAND = re.compile(
    r"(?:(LTE|NR5G|NR|5G|NSA|SA)(?:-(?:NSA|SA))?[ _-]*)?(?:BAND[ _]*|B|N)?([0-9]{1,3})"
)
_OLD_BAND = re.compile(r"(WCDMA|UMTS|E?GSM|DCS|PCS)[ _-]*([0-9]{3,4})")


def band(value: object) -> str | None:
    """`LTE B3` for LTE_B3 and LTE BAND 3, `5G N78`, `WCDMA 900`, `GSM 900`."""
    said = plain(value)
    if said is None:
        return None
    upper = said.upper()
    if found := _BAND.fullmatch(upper):
        if found[1] is None and upper.isdigit():
            return None  # a bare number says of no technology
        fifth = (found[1] or upper)[0] in "NS5"
        return f"5G N{int(found[2])}" if fifth else f"LTE B{int(found[2])}"
    if found := _OLD_BAND.fullmatch(upper):
        return f"{'WCDMA' if found[1] in ('WCDMA', 'UMTS') else 'GSM'} {int(found[2])}"
    return text("band", said)


_CELL_BITS = 36  # of 5G; LTE has 28
_ALL_ONES = frozenset((1 << bits) - 1 for bits in (16, 24, 28, 32, 36))
_HEX = re.compile(r"(?:0x)?0*([0-9a-f]{1,16})", re.IGNORECASE)


def cell_id(value: object, *, hexadecimal: bool | None = None) -> str | None:
    """The cell's identity in decimal digits; where the base is not known it is guessed."""
    return _identity(value, hexadecimal, _CELL_BITS)


def tac(value: object, *, hexadecimal: bool) -> str | None:
    """The tracking or location area in decimal digits."""
    return _identity(value, hexadecimal, 24)


def _identity(value: object, hexadecimal: bool | None, bits: int) -> str | None:
    said = plain(value)
    if said is None or len(said) > _NUMBER_CHARS_MAX:
        return None
    bare = said.strip('" ')
    found = _HEX.fullmatch(bare)
    if found is None:
        return None
    if hexadecimal is None:
        # Of digits alone, eight without a leading zero are more than the 28 bits of LTE would
        # give in hexadecimal; fewer are taken for what older firmware writes.
        hexadecimal = not bare.isdecimal() or len(bare) < 8 or bare[0] == "0"
    if not hexadecimal and not bare.isdecimal():
        return None
    identity = int(found[1], 16 if hexadecimal else 10)
    if identity == 0 or identity in _ALL_ONES or identity >= 1 << bits:
        return None  # what modems say while they have no cell
    return str(identity)


def signal(said: Mapping[str, object]) -> Values:
    """Strength and quality, all in whole dB or dBm; a strength of zero is none."""
    names = ("rssi", "rsrp", "rsrq", "sinr")
    values = known({name: whole(name, said.get(name)) for name in names})
    return {name: value for name, value in values.items() if value or name in ("rsrq", "sinr")}


_SIM_STATES = (
    # part of the text, number of RutOS, what we say
    ("puk block", 15, "PUK blocked"),
    ("puk", 5, "PUK required"),
    ("not ready", 2, "Not ready"),
    ("not insert", 10, "Not inserted"),
    ("fail", 13, "Failure"),
    ("busy", 14, "Busy"),
    ("pin", 4, "PIN required"),
    ("ready", 1, "Ready"),
    ("insert", 1, "Ready"),
    ("ok", 1, "Ready"),
)


def sim_state(value: object) -> str | None:
    """Whether the SIM can be used, and what it waits for."""
    state = number(value)
    if state is not None:
        return next((name for _, code, name in _SIM_STATES if code == state), None)
    said = plain(value)
    if said is None:
        return None
    word = said.lower()
    named = next((name for part, _, name in _SIM_STATES if part in word), None)
    return named or text("sim_state", said)


def data_connection(value: object) -> str | None:
    """State of the packet data connection, with a capital letter."""
    said = plain(value)
    return None if said is None else text("data_connection", said[:1].upper() + said[1:])


def sim_slot(value: object) -> int | None:
    """`1`, `sim1` or `SIM 1`."""
    if isinstance(value, str) and len(value) <= _NUMBER_CHARS_MAX:
        value = re.sub(r"^\s*sim\s*", "", value, flags=re.IGNORECASE)
    return whole("sim_slot", value)


def temperature(name: str, value: object, *, tenths: bool) -> int | None:
    """0.1 °C, from tenths or from whole degrees."""
    return whole(name, value, 1 if tenths else 10)


# Position


def position(said: object) -> Values:
    """GPS as RutOS tells it by ubus and HTTP; without a fix only the satellites count."""
    if not isinstance(said, Mapping):
        return {}
    satellites = whole("satellites", said.get("satellites"))
    fix = number(said.get("fix_status"))
    north, east = number(said.get("latitude")), number(said.get("longitude"))
    nowhere = not north and not east  # zeros stand for no position
    if fix == 0 or north is None or east is None or nowhere:
        return known({"satellites": satellites})
    latitude, longitude = whole("latitude", north, 10**7), whole("longitude", east, 10**7)
    if latitude is None or longitude is None:
        return known({"satellites": satellites})
    return known(
        {
            "latitude": latitude,
            "longitude": longitude,
            "altitude": whole("altitude", said.get("altitude")),
            "speed": whole("speed", said.get("speed"), 10),
            "satellites": satellites,
        }
    )
