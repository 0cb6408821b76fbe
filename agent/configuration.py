"""Reads the agent's TOML file: few keys, all with defaults, and unknown ones are errors."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.collectors.choice import COLLECTORS, DEFAULT_COLLECTOR
from agent.collectors.linux import device_serial, lan_mac
from agent.errors import ConfigurationError
from agent.intervals import SAMPLING_S, SENDING_S, Intervals, is_interval
from agent.links.allow import DEFAULT_ALLOW, parse_allow
from agent.spool import LIMIT_MIN, SPOOL_LIMIT
from agent.state import Identity
from wire.serials import is_serial
from wire.streams import OPENS_PER_S

DEFAULT_FILE = Path("/etc/fleetgate-agent.toml")
DEFAULT_STATE = Path("/var/lib/fleetgate-agent")
_MEMORY_PLACES = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108  # a private folder is made inside
_SPOOL_LIMIT_MAX = 1_000_000
_OPENS_PER_S_MAX = 1_000_000
_MODEM_BAUDS = (9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600)
_MODEM_PORT = "auto"
_MODEM_BAUD = 115_200

# Each key, its type, and what it means; `--help` and the errors are made from this.
KEYS: dict[str, tuple[type, str]] = {
    "state_dir": (str, "folder on flash: secret, enrolment, snapshots of the spool"),
    "spool_dir": (str, "folder in memory for the spool (default: in /dev/shm, else /tmp)"),
    "collector": (
        str,
        f"where values come from: {', '.join(COLLECTORS)} (default {DEFAULT_COLLECTOR}:"
        " rutos_local on a router of Teltonika's, else linux)",
    ),
    "modem_port": (str, f"serial port of collector modem, as /dev/ttyUSB2 (default {_MODEM_PORT})"),
    "modem_baud": (int, f"its speed (default {_MODEM_BAUD})"),
    "join": (str, "join string; used when this device has not joined yet"),
    "serial": (str, "serial, where the system does not know it"),
    "lan_mac": (str, "hardware address of the LAN, where the system does not know it"),
    "sampling_s": (int, f"seconds between samples (default {SAMPLING_S})"),
    "sending_s": (int, f"seconds between messages (default {SENDING_S})"),
    "spool_limit": (int, f"samples kept without receipt (default {SPOOL_LIMIT})"),
    "allow": (
        list,
        "targets that sessions may reach, such as 192.168.1.0/24:80,443"
        f" (default {list(DEFAULT_ALLOW)})",
    ),
    "opens_per_s": (int, "streams of a session that may begin each second, after a burst of 200"),
}


class Configuration(NamedTuple):
    """The settings in force."""

    state_dir: Path
    spool_dir: Path
    collector: str = DEFAULT_COLLECTOR
    join: str | None = None
    serial: str | None = None
    lan_mac: str | None = None
    intervals: Intervals = Intervals()
    spool_limit: int = SPOOL_LIMIT
    allow: tuple[str, ...] = DEFAULT_ALLOW
    opens_per_s: int = int(OPENS_PER_S)
    modem_port: str = _MODEM_PORT
    modem_baud: int = _MODEM_BAUD


def read_configuration(file: Path | None, *, state_dir: Path | None = None) -> Configuration:
    """The file that is named, else the usual one if it exists. Raises `ConfigurationError`."""
    path = file or DEFAULT_FILE
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if file is not None:
            raise ConfigurationError(f"{path} does not exist") from error
        body = {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    return configuration_of(body, state_dir=state_dir)


def configuration_of(body: Mapping[str, Any], *, state_dir: Path | None = None) -> Configuration:
    """Checks the keys and their values. Raises `ConfigurationError`."""
    for key, value in body.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}"
            raise ConfigurationError(f"unknown key {key}{hint}")
        if type(value) is not KEYS[key][0]:
            raise ConfigurationError(f"{key}: must be of type {KEYS[key][0].__name__}")
    if body.get("collector", DEFAULT_COLLECTOR) not in COLLECTORS:
        raise ConfigurationError(f"collector: must be one of {', '.join(COLLECTORS)}")
    _check_modem(body)
    if "serial" in body and not is_serial(body["serial"]):
        raise ConfigurationError("serial: must be 6 to 32 letters, digits, - or _")
    limit = body.get("spool_limit", SPOOL_LIMIT)
    if not LIMIT_MIN <= limit <= _SPOOL_LIMIT_MAX:
        raise ConfigurationError(f"spool_limit: must be {LIMIT_MIN} to {_SPOOL_LIMIT_MAX}")
    for key in ("sampling_s", "sending_s"):
        if key in body and not is_interval(body[key]):
            raise ConfigurationError(f"{key}: must be 1 to 86400")
    allow = tuple(body.get("allow", DEFAULT_ALLOW))
    parse_allow(allow)
    opens_per_s = body.get("opens_per_s", int(OPENS_PER_S))
    if not 1 <= opens_per_s <= _OPENS_PER_S_MAX:
        raise ConfigurationError(f"opens_per_s: must be 1 to {_OPENS_PER_S_MAX}")
    state = state_dir or Path(body.get("state_dir", DEFAULT_STATE))
    spool = Path(body["spool_dir"]) if "spool_dir" in body else default_spool_dir(state)
    return Configuration(
        state,
        spool,
        body.get("collector", DEFAULT_COLLECTOR),
        body.get("join"),
        body.get("serial"),
        body.get("lan_mac"),
        Intervals(body.get("sampling_s", SAMPLING_S), body.get("sending_s", SENDING_S)),
        limit,
        allow,
        opens_per_s,
        body.get("modem_port", _MODEM_PORT),
        body.get("modem_baud", _MODEM_BAUD),
    )


def _check_modem(body: Mapping[str, Any]) -> None:
    port, baud = body.get("modem_port", _MODEM_PORT), body.get("modem_baud", _MODEM_BAUD)
    if port != _MODEM_PORT and not port.startswith("/"):
        raise ConfigurationError(
            f"modem_port: must be {_MODEM_PORT}, or the path of a port such as /dev/ttyUSB2"
        )
    if baud not in _MODEM_BAUDS:
        speeds = ", ".join(map(str, _MODEM_BAUDS))
        raise ConfigurationError(f"modem_baud: must be one of {speeds}")
    for key in ("modem_port", "modem_baud"):
        if key in body and body.get("collector") != "modem":
            raise ConfigurationError(f'{key}: is for collector = "modem" alone')


def default_spool_dir(state: Path) -> Path:
    """A folder in memory, of its own for each state directory."""
    place = next((p for p in _MEMORY_PLACES if os.access(p, os.W_OK)), _MEMORY_PLACES[-1])
    mark = str(state.absolute()).strip("/").replace("/", "-") or "root"
    return place / f"fleetgate-agent-{mark[-200:]}"


def identity_of(configuration: Configuration, *, otherwise: str | None = None) -> Identity:
    """Serial and LAN MAC, from the file or from the device. Raises `ConfigurationError`.

    `otherwise` is the serial of a device that has none of its own: the join string gave it one.
    """
    serial = configuration.serial or device_serial() or otherwise
    if serial is None or not is_serial(serial):
        raise ConfigurationError(
            'this device has no serial that can be read: put serial = "…" into the configuration'
        )
    mac = configuration.lan_mac or lan_mac()
    if mac is None:
        raise ConfigurationError(
            "no LAN interface with a hardware address was found: put "
            'lan_mac = "00:1e:42:…" into the configuration'
        )
    return Identity(serial, mac.lower())
