"""The world around one simulated router: signal, traffic, heat, and its mishaps, from a seed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from firmware_sim.profiles import PROFILES, Profile, mac_of, serial_text, with_luhn
from wire.fields import Value

_STEP_S = 5
_STEPS_MAX = 720  # a longer silence is walked through in coarser steps
_DAY_S = 86_400
_REBOOT_EVERY_S = 8 * 3_600
_CUT_EVERY_S = 2 * 3_600
_OPERATORS = (
    ("LT BITE GSM", "24602"),
    ("Telia LT", "24601"),
    ("TELE2 LT", "24603"),
    ("Vodafone.de", "26202"),
    ("Orange F", "20801"),
)


class EventKind(StrEnum):
    """What can befall a router."""

    REBOOT = "reboot"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that begins `at_s` seconds after the story does, and lasts `for_s`."""

    at_s: float
    kind: EventKind
    for_s: float


def signal_of(rsrp: float, sinr: float, network_type: str) -> dict[str, Value]:
    """Strength and quality; only LTE and 5G know more than the strength."""
    strength: dict[str, Value] = {"rssi": max(-113, min(-51, round(rsrp + 27)))}
    if network_type in ("2G", "3G"):
        return strength
    quality = max(-20, min(-5, round(-14 + sinr / 3)))
    return strength | {"rsrp": round(rsrp), "rsrq": quality, "sinr": round(sinr)}


def band_for(network_type: str, band: str, bands: tuple[str, ...]) -> str:
    """The band, or the nearest thing to it that this technology has."""
    if network_type in ("2G", "3G"):
        return "GSM 900" if network_type == "2G" else "WCDMA 900"
    family = "5G" if network_type.startswith("5G") else "LTE"
    return band if band.startswith(family) else next(b for b in bands if b.startswith(family))


class SecondModem:
    """What the second modem of a router says; it stands still where the first one moves."""

    def __init__(self, rng: Random, operator: str) -> None:
        self._operator, network = rng.choice([o for o in _OPERATORS if o[0] != operator])
        self._imei = with_luhn(f"86{rng.randrange(10**12):012d}")
        self._iccid = with_luhn(f"89{network}{rng.randrange(10**11):011d}")
        self._cell = rng.randrange(1 << 20) << 8 | rng.randrange(1, 4)
        self._tac = rng.randrange(1, 0xFFFE)

    def read(self, rsrp: float, sinr: float, temperature: int) -> dict[str, Value]:
        """The values of this moment, somewhat weaker than the first modem's."""
        signal = signal_of(max(-130, rsrp - 6), max(-15, sinr - 3), "LTE")
        return {
            **{f"{name}_2": value for name, value in signal.items()},
            "modem_temperature_2": temperature,
            "operator_2": self._operator,
            "network_type_2": "LTE",
            "registration_2": "Registered, home",
            "data_connection_2": "Connected",
            "cell_id_2": str(self._cell),
            "tac_2": str(self._tac),
            "band_2": "LTE B20",
            "sim_slot_2": 1,
            "sim_state_2": "Ready",
            "imei_2": self._imei,
            "iccid_2": self._iccid,
        }


class World:
    """One router's surroundings; the same seed and serial make the same story.

    The model is drawn too, unless one is given.
    """

    def __init__(self, seed: int, number: int, profile: Profile | None = None) -> None:
        self.number = number
        self.serial = serial_text(number)
        self.mac = mac_of(number)
        self._events_rng = Random(f"{seed}/{self.serial}/events")
        rng = self._rng = Random(f"{seed}/{self.serial}/world")
        drawn = rng.choices(PROFILES, [p.weight for p in PROFILES])[0]
        self.profile = profile or drawn
        self._operator, network = rng.choice(_OPERATORS)
        self._imei = with_luhn(f"86{rng.randrange(10**12):012d}")
        self._iccid = with_luhn(f"89{network}{rng.randrange(10**11):011d}")
        self._cell = rng.randrange(1 << 20) << 8 | rng.randrange(1, 4)
        self._tac = rng.randrange(1, 0xFFFE)
        self._band = rng.choice(self.profile.bands)
        self._network_type = self.profile.network_types[0]
        self._address = f"10.{rng.randrange(64, 128)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        self._home_rsrp = rng.uniform(-108, -82)
        self._rsrp = self._home_rsrp
        self._sinr = rng.uniform(4, 18)
        self._busy = rng.uniform(0.2, 1.5)
        self._warm = rng.uniform(330, 420)
        self._place = (rng.uniform(54.6, 55.9), rng.uniform(21.1, 25.6))
        self._moving = self.profile.gps and rng.random() < 0.5
        self._heading = rng.uniform(0, 2 * math.pi)
        self._speed_kmh = 0.0
        self._clients = rng.randrange(1, 12)
        self._second = SecondModem(Random(f"{seed}/{self.serial}/modem 2"), self._operator)
        self._received = self._sent = 0
        self._lan_received = self._lan_sent = 0
        self._load = 20.0
        self._at_s = 0.0
        self._booted_s = 0.0

    @property
    def hostname(self) -> str:
        """As RutOS names a router that nobody renamed."""
        return f"{self.profile.name}-{self.serial[-4:]}"

    def story(self, calm_s: float = 0.0) -> Iterator[Event]:
        """Reboots and network cuts, in order, without end; none in the first `calm_s`."""
        rng, at_s = self._events_rng, calm_s
        rate = 1 / _REBOOT_EVERY_S + 1 / _CUT_EVERY_S
        while True:
            at_s += max(60.0, rng.expovariate(rate))
            if rng.random() < (1 / _REBOOT_EVERY_S) / rate:
                yield Event(at_s, EventKind.REBOOT, rng.uniform(25, 70))
            else:
                yield Event(at_s, EventKind.CUT, rng.uniform(10, 180))

    def reboot(self, at_s: float) -> None:
        """Counters start again, and the operator gives another address."""
        self._walk_to(at_s)
        self._booted_s = at_s
        self._received = self._sent = self._lan_received = self._lan_sent = 0
        self._address = f"10.{self._rng.randrange(64, 128)}.{self._rng.randrange(256)}.7"

    def read(self, at_s: float) -> dict[str, Value]:
        """What the router's collectors would say at this moment of the story."""
        self._walk_to(at_s)
        profile = self.profile
        day = math.sin((at_s % _DAY_S) / _DAY_S * 2 * math.pi)
        board = round(self._warm + 35 * day + self._load / 8)
        used = 0.46 + 0.02 * math.sin(at_s / 900)
        values: dict[str, Value] = {
            "uptime": int(at_s - self._booted_s),
            "load_1min": round(self._load),
            "memory_total": profile.memory_kib,
            # RutOS rounds nothing here, but a sample that differs in a few pages says nothing.
            "memory_available": round(profile.memory_kib * (1 - used) / 512) * 512,
            "flash_total": profile.flash_kib,
            "flash_free": profile.flash_kib * 7 // 10,
            "temperature": board // 10 * 10,
            "modem_temperature": (board + 40) // 10 * 10,
            **signal_of(self._rsrp, self._sinr, self._network_type),
            "operator": self._operator,
            "network_type": self._network_type,
            "registration": "Registered, home",
            "data_connection": "Connected",
            "cell_id": str(self._cell),
            "tac": str(self._tac),
            "band": band_for(self._network_type, self._band, profile.bands),
            "sim_slot": 1,
            "sim_state": "Ready",
            "imei": self._imei,
            "iccid": self._iccid,
            "mobile_received": self._received,
            "mobile_sent": self._sent,
            "received": self._lan_received,
            "sent": self._lan_sent,
            "wan_address": self._address,
            "wan_interface": "qmimux0",
            "hostname": self.hostname,
            "model": profile.model,
            "firmware": profile.firmware,
            "lan_mac": self.mac.lower(),
            "clients": self._clients,
        }
        if profile.gps:
            values |= {
                "latitude": round(self._place[0] * 1e7),
                "longitude": round(self._place[1] * 1e7),
                "altitude": 120,
                "speed": round(self._speed_kmh * 10),
                "satellites": 9,
            }
        if profile.inputs:
            values |= {
                "digital_input": int(at_s // 1_800) % 2 == 1,
                "analog_input": 11_930,
                "supply_voltage": 12_050,
            }
        if len(profile.modems) > 1:
            values |= self._second.read(self._rsrp, self._sinr, (board + 60) // 10 * 10)
        return values

    def _walk_to(self, at_s: float) -> None:
        passed_s = at_s - self._at_s
        if passed_s < _STEP_S:
            return
        steps = min(int(passed_s / _STEP_S), _STEPS_MAX)
        for _ in range(steps):
            self._step(passed_s / steps)
        self._at_s = at_s

    def _step(self, for_s: float) -> None:
        rng = self._rng
        self._rsrp += (self._home_rsrp - self._rsrp) * 0.02 + rng.gauss(0, 0.35)
        self._rsrp = min(-60.0, max(-130.0, self._rsrp))
        self._sinr += (10 + (self._rsrp + 95) / 4 - self._sinr) * 0.05 + rng.gauss(0, 0.3)
        self._sinr = min(30.0, max(-15.0, self._sinr))
        self._load += (25 * self._busy - self._load) * 0.1 + rng.gauss(0, 2)
        self._load = max(1.0, self._load)
        if rng.random() < 0.8 * for_s / 60:
            burst = rng.expovariate(1 / (60_000 * self._busy))
            self._received += int(burst * 8)
            self._sent += int(burst)
            self._lan_received += int(burst)
            self._lan_sent += int(burst * 8)
        if rng.random() < for_s / 900:
            self._clients = max(0, min(30, self._clients + rng.choice((-1, 1))))
        # A moving router changes cells often, a fixed one now and then.
        if rng.random() < for_s / (240 if self._moving else 14_400):
            self._cell = rng.randrange(1 << 20) << 8 | rng.randrange(1, 4)
            self._band = rng.choice(self.profile.bands)
            self._network_type = rng.choices(self.profile.network_types, (9, 1))[0]
        if self._moving:
            self._move(for_s)

    def _move(self, for_s: float) -> None:
        rng = self._rng
        self._speed_kmh = min(90.0, max(0.0, self._speed_kmh + rng.gauss(0.3, 6)))
        self._heading += rng.gauss(0, 0.15)
        km = self._speed_kmh * for_s / 3_600
        north = km * math.cos(self._heading) / 111
        east = km * math.sin(self._heading) / 64
        self._place = (
            min(60.0, max(50.0, self._place[0] + north)),
            min(30.0, max(15.0, self._place[1] + east)),
        )
