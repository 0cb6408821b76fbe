"""Values of a RutOS router from the router itself: /proc, `ubus`, `gsmctl`, `mnf_info`, `uci`.

Each value is asked for with the fewest programs that this firmware allows: what answered once is
asked first from then on, what is not there is asked again only now and then. The programs are run
one after the other, without a shell, so that one that hangs can be ended and costs its own fields.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.collectors import gsmctl, ubus
from agent.collectors.counter import U32, Counter
from agent.collectors.linux import LinuxCollector
from agent.collectors.questions import Questions
from agent.collectors.reading import Values, known, mac, of_modem, text
from wire.fields import Value

MODEMS_MAX = 2
_SELDOM = 10  # passes until something that was not there is looked for again
_TRAFFIC = ("mobile_received", "mobile_sent")
_OF_NETWORK = frozenset({"registration", "operator", "rssi", "rsrp"})
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

_Way = Callable[[int], Values]


def is_rutos(root: Path = Path("/")) -> bool:
    """Whether this device is a router of Teltonika's, with the programs that belong to it."""
    return (root / "sys/mnf_info").is_dir() or shutil.which("mnf_info") is not None


class RutosLocalCollector:
    """One pass over what the router knows; a source that fails costs its own fields only."""

    def __init__(self, root: Path = Path("/"), questions: Questions | None = None) -> None:
        self._root = root
        self._linux = LinuxCollector(root)
        self._questions = questions or Questions()
        self._way_of: dict[int, _Way] = {}
        self._paths: dict[int, str] = {}
        self._one_by_one = False
        self._identity: Values = {}
        self._passes = 0
        self._kernel_counts: bool | None = None
        # By the name of the field, then by modem; interfaces of the kernel stand for all modems.
        self._counters: dict[tuple[str, int], Counter] = {}

    def __call__(self) -> Mapping[str, Value]:
        self._questions.begin()
        values: Values = dict(self._linux())
        if self._passes % _SELDOM == 0:
            self._identity |= self._ask_identity()
        self._passes += 1
        values |= self._identity
        for position in range(MODEMS_MAX):
            values |= of_modem(position, self._modem(position))
        traffic = self._traffic(values)
        values = {name: v for name, v in values.items() if name not in _TRAFFIC} | traffic
        values |= ubus.gps(self._ubus("gpsd", "position"))
        values |= ubus.digital_input(self._ubus("ioman.gpio.din1", "status"))
        values |= ubus.analog_input(self._ubus("ioman.adc.adc0", "status"))
        return values

    def _ubus(self, place: str, method: str, **arguments: object) -> object:
        more = (json.dumps(arguments),) if arguments else ()
        return ubus.decode(self._questions.ask("ubus", "call", place, method, *more, rest=_SELDOM))

    def _ask_identity(self) -> Values:
        """What does not change while the router runs, or hardly ever."""
        values: Values = {}
        if not (self._root / "sys/mnf_info/name").exists():
            values |= ubus.identity(self._ubus("mnfinfo", "get")) or known(
                {
                    "model": text("model", self._questions.ask("mnf_info", "-n")),
                    "lan_mac": mac(self._questions.ask("mnf_info", "-m")),
                }
            )
        hostname = self._questions.ask("uci", "-q", "get", "system.system.hostname")
        if _HOSTNAME.fullmatch(hostname):
            values["hostname"] = hostname
        return values

    # Modems

    def _modem(self, position: int) -> Values:
        # Only `ubus` is known to tell of a second modem.
        ways = (self._by_ubus, self._by_info, self._by_flags) if position == 0 else (self._by_ubus,)
        first = self._way_of.get(position, ways[0])
        gathered: Values = {}
        for way in (first, *(way for way in ways if way != first)):
            gathered = way(position) | gathered
            # Of some firmware a way answers, but knows of nothing but the hardware.
            if _OF_NETWORK & gathered.keys():
                self._way_of[position] = way
                break
        return gathered

    def _by_ubus(self, position: int) -> Values:
        place = f"gsm.modem{position}"
        said = self._ubus(place, "info")
        values = ubus.modem(said)
        if values and "sim_state" not in values:
            values |= ubus.pin_state(self._ubus(place, "get_pin_state"))
        if values:
            self._paths[position] = ubus.usb_path(said) or ""
        return values

    def _by_info(self, position: int) -> Values:
        said = ubus.decode(self._questions.ask("gsmctl", "--info", rest=_SELDOM))
        values = ubus.modem(said)
        if values:
            self._paths[position] = ubus.usb_path(said) or ""
        if values and "sim_state" not in values:
            values |= gsmctl.decode_flags({"u": self._questions.ask("gsmctl", "-u")})
        return values

    def _by_flags(self, position: int) -> Values:
        ask = self._questions.ask
        values = gsmctl.decode_signal(ask("gsmctl", "-q", rest=_SELDOM))
        lines: Mapping[str, str] | None = None
        if not self._one_by_one:
            said = ask("gsmctl", f"-{gsmctl.FLAGS}", rest=_SELDOM)
            lines = gsmctl.split_flags(said)
            # Where firmware leaves lines out, each flag is asked for alone from now on.
            self._one_by_one = bool(said) and lines is None
        if self._one_by_one:
            lines = {flag: ask("gsmctl", f"-{flag}") for flag in gsmctl.FLAGS}
        told = gsmctl.decode_flags(lines or {})
        if "imei" not in told:
            return values  # it is no modem that speaks: a message would be taken for a name
        slot = ask("gsmctl", f"-{gsmctl.SIM_FLAG}", rest=_SELDOM)
        return values | told | gsmctl.decode_flags({gsmctl.SIM_FLAG: slot})

    # Traffic

    def _traffic(self, values: Values) -> Values:
        """Bytes of the kernel's mobile interfaces, else what `mdcollect` counts since midnight.

        Whichever is seen first stays the source: one would look like a reset of the other.
        """
        readings: list[tuple[int, int, Mapping[str, int]]]
        if self._kernel_counts is not False and (counted := _mobile(values)):
            self._kernel_counts = True
            readings = [(0, 1, counted)]
        else:
            readings = [] if self._kernel_counts else self._collected(values)
            self._kernel_counts = False if readings else self._kernel_counts
        sums: dict[str, int] = {}
        for position, sim, carried in readings:
            for name, reading in carried.items():
                counter = self._counters.setdefault((name, position), Counter(U32))
                total = counter.read(reading, sim=sim)
                if total is not None:
                    sums[name] = sums.get(name, 0) + total
        return known(sums)

    def _collected(self, values: Values) -> list[tuple[int, int, Mapping[str, int]]]:
        """By modem: its position, its SIM, and what it carried."""
        found: list[tuple[int, int, Mapping[str, int]]] = []
        for position, path in self._paths.items():
            sim = values.get("sim_slot" if position == 0 else f"sim_slot_{position + 1}", 1)
            if path and isinstance(sim, int):
                told = self._ubus(
                    "mdcollect", "get", period="day", sim=sim, modem=path, current=True
                )
                if counted := _mobile(ubus.usage(told)):
                    found.append((position, sim, counted))
        return found


def _mobile(values: Values) -> dict[str, int]:
    return {name: v for name in _TRAFFIC if type(v := values.get(name)) is int}
