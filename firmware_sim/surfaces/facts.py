"""What a simulated router is at one instant, and what every collector should report of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from firmware_sim.profiles import with_luhn
from firmware_sim.world import World
from wire.fields import BY_NAME, Value

# Numbers of RutOS and 3GPP, as the surfaces give them, and what a collector makes of them.
HOME, SEARCHING, DENIED, ROAMING = 1, 2, 3, 5
REGISTRATIONS: Mapping[int, str] = {
    0: "Not registered",
    HOME: "Registered, home",
    SEARCHING: "Searching",
    DENIED: "Denied",
    4: "Unknown",
    ROAMING: "Registered, roaming",
}
SIM_OK, SIM_PIN, SIM_MISSING = 1, 4, 10
SIM_STATES: Mapping[int, str] = {
    SIM_OK: "Ready",
    SIM_PIN: "PIN required",
    SIM_MISSING: "Not inserted",
}
_MODEM_PATHS = ("3-1", "1-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModemState:
    """One modem and its SIM. None is what it does not know now, such as the cell without a SIM."""

    path: str  # of its USB port, by which RutOS names it
    model: str
    firmware: str
    imei: str
    sim_slot: int
    sim_count: int
    sim_state: int
    registration: int
    connected: bool
    temperature: int  # 0.1 °C, in whole degrees
    imsi: str | None
    iccid: str | None
    operator: str | None
    operator_number: str | None
    network_type: str | None  # LTE, LTE-CA, 5G-NSA, 3G, 2G
    band: str | None  # LTE B3, 5G N78, WCDMA 900, GSM 900
    cell: int | None
    tac: int | None
    rssi: int | None
    rsrp: int | None
    rsrq: int | None
    sinr: int | None
    received: int  # bytes since the router started
    sent: int
    received_today: tuple[int, ...]  # by SIM, since local midnight
    sent_today: tuple[int, ...]
    offline: bool = False  # it does not answer the router


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionState:
    """A GPS receiver with a fix."""

    latitude_e7: int
    longitude_e7: int
    altitude_m: int
    speed_tenths: int  # 0.1 km/h
    satellites: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """Everything that the surfaces show."""

    serial: str
    lan_mac: str  # small letters, with colons
    wan_mac: str
    name: str  # RUTX11
    product_code: str
    firmware: str
    hwver: str
    batch: str
    blver: str
    hostname: str
    uptime_s: int
    load_hundredths: int
    memory_kib: int
    memory_available_kib: int
    flash_kib: int
    flash_free_kib: int
    board_temperature: int  # 0.1 °C
    wan_interface: str
    wan_address: str
    received: int  # bytes on all interfaces that are not mobile
    sent: int
    clients: int
    modems: tuple[ModemState, ...]
    gps: bool
    position: PositionState | None
    digital_input: bool | None
    analog_mv: int | None
    old: bool  # older forms of commands and API
    key_is_imei: bool


def state_of(world: World, at_s: float) -> RouterState:
    """The router of this world at this moment of its story."""
    values, profile = world.read(at_s), world.profile
    tail = int(world.mac.replace(":", ""), 16) + 1
    wan_mac = f"{tail:012x}"
    return RouterState(
        serial=world.serial,
        lan_mac=world.mac.lower(),
        wan_mac=":".join(wan_mac[i : i + 2] for i in range(0, 12, 2)),
        name=profile.name,
        product_code=profile.model,
        firmware=profile.firmware,
        hwver="0303",
        batch="0021",
        blver="3.0",
        hostname=world.hostname,
        uptime_s=_number(values, "uptime"),
        load_hundredths=_number(values, "load_1min"),
        memory_kib=_number(values, "memory_total"),
        memory_available_kib=_number(values, "memory_available"),
        flash_kib=_number(values, "flash_total"),
        flash_free_kib=_number(values, "flash_free"),
        board_temperature=_number(values, "temperature"),
        wan_interface=_text(values, "wan_interface"),
        wan_address=_text(values, "wan_address"),
        received=_number(values, "received"),
        sent=_number(values, "sent"),
        clients=_number(values, "clients"),
        modems=tuple(_modem(world, values, position) for position in range(len(profile.modems))),
        gps=profile.gps,
        position=_position(values) if profile.gps else None,
        digital_input=bool(values["digital_input"]) if profile.inputs else None,
        analog_mv=_number(values, "analog_input") if profile.inputs else None,
        old=profile.old,
        key_is_imei=profile.key_is_imei,
    )


def _modem(world: World, values: Mapping[str, Value], position: int) -> ModemState:
    end = "" if position == 0 else f"_{position + 1}"
    iccid = _text(values, f"iccid{end}")
    number = iccid[2:7]
    model, firmware = world.profile.modems[position]
    sims = world.profile.sims
    received = _number(values, "mobile_received") if position == 0 else 0
    sent = _number(values, "mobile_sent") if position == 0 else 0
    return ModemState(
        path=_MODEM_PATHS[position],
        model=model,
        firmware=firmware,
        imei=_text(values, f"imei{end}"),
        sim_slot=_number(values, f"sim_slot{end}"),
        sim_count=sims,
        sim_state=SIM_OK,
        registration=HOME,
        connected=True,
        temperature=_number(values, f"modem_temperature{end}"),
        imsi=number + iccid[-11:-1],
        iccid=iccid,
        operator=_text(values, f"operator{end}"),
        operator_number=number,
        network_type=_text(values, f"network_type{end}"),
        band=_text(values, f"band{end}"),
        cell=int(_text(values, f"cell_id{end}")),
        tac=int(_text(values, f"tac{end}")),
        rssi=_number(values, f"rssi{end}"),
        rsrp=_number_or_none(values, f"rsrp{end}"),
        rsrq=_number_or_none(values, f"rsrq{end}"),
        sinr=_number_or_none(values, f"sinr{end}"),
        received=received,
        sent=sent,
        received_today=(received, *[0] * (sims - 1)),
        sent_today=(sent, *[0] * (sims - 1)),
    )


def _position(values: Mapping[str, Value]) -> PositionState:
    return PositionState(
        latitude_e7=_number(values, "latitude"),
        longitude_e7=_number(values, "longitude"),
        altitude_m=_number(values, "altitude"),
        speed_tenths=_number(values, "speed"),
        satellites=_number(values, "satellites"),
    )


def _number(values: Mapping[str, Value], name: str) -> int:
    value = values[name]
    assert type(value) is int, name
    return value


def _number_or_none(values: Mapping[str, Value], name: str) -> int | None:
    return _number(values, name) if name in values else None


def _text(values: Mapping[str, Value], name: str) -> str:
    value = values[name]
    assert isinstance(value, str), name
    return value


# Other lives


def without_sim(modem: ModemState, sim_state: int = SIM_MISSING) -> ModemState:
    """No SIM, or one that wants its PIN: no network either."""
    return replace(
        modem,
        sim_state=sim_state,
        registration=0,
        connected=False,
        imsi=None,
        iccid=None,
        operator=None,
        operator_number=None,
        network_type=None,
        band=None,
        cell=None,
        tac=None,
        rssi=None,
        rsrp=None,
        rsrq=None,
        sinr=None,
    )


def other_sim(modem: ModemState) -> ModemState:
    """The same modem with the SIM of its other slot, roaming."""
    return replace(
        modem,
        sim_slot=2 if modem.sim_slot == 1 else 1,
        iccid=with_luhn("8944020000000000000"[:18]),
        operator="Vodafone UK",
        operator_number="23415",
        registration=ROAMING,
    )


# What is expected


def expected_modem(modem: ModemState) -> dict[str, Value]:
    """The values of one modem, under the names of the first."""
    values: dict[str, Value | None] = {
        "imei": modem.imei,
        "iccid": modem.iccid,
        "sim_slot": modem.sim_slot,
        "sim_state": SIM_STATES[modem.sim_state],
        "registration": REGISTRATIONS[modem.registration],
        "data_connection": "Connected" if modem.connected else "Disconnected",
        "modem_temperature": modem.temperature,
        "operator": modem.operator,
        "network_type": modem.network_type,
        "band": modem.band,
        "cell_id": None if modem.cell is None else str(modem.cell),
        "tac": None if modem.tac is None else str(modem.tac),
        "rssi": modem.rssi,
        "rsrp": modem.rsrp,
        "rsrq": modem.rsrq,
        "sinr": modem.sinr,
    }
    return {name: value for name, value in values.items() if value is not None}


def expected(state: RouterState) -> dict[str, Value]:
    """What a collector reports that sees everything; one that sees less reports a part of it."""
    values: dict[str, Value] = {
        "uptime": state.uptime_s,
        "load_1min": state.load_hundredths,
        "memory_total": state.memory_kib,
        "memory_available": state.memory_available_kib,
        "flash_total": state.flash_kib,
        "flash_free": state.flash_free_kib,
        "temperature": state.board_temperature,
        "received": state.received,
        "sent": state.sent,
        "wan_address": state.wan_address,
        "wan_interface": state.wan_interface,
        "hostname": state.hostname,
        "model": state.product_code,
        "firmware": state.firmware,
        "lan_mac": state.lan_mac,
        "clients": state.clients,
        "mobile_received": sum(modem.received for modem in state.modems),
        "mobile_sent": sum(modem.sent for modem in state.modems),
    }
    for position, modem in enumerate(state.modems):
        if not modem.offline:
            end = "" if position == 0 else f"_{position + 1}"
            seen = expected_modem(modem)
            values |= {name + end: value for name, value in seen.items() if name + end in BY_NAME}
    if state.position is not None:
        values |= {
            "latitude": state.position.latitude_e7,
            "longitude": state.position.longitude_e7,
            "altitude": state.position.altitude_m,
            "speed": state.position.speed_tenths,
            "satellites": state.position.satellites,
        }
    if state.digital_input is not None:
        values["digital_input"] = state.digital_input
    if state.analog_mv is not None:
        values["analog_input"] = state.analog_mv
    return values
