"""What the programs of a RutOS router print: `ubus`, `gsmctl`, `mnf_info`, `uci`."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from firmware_sim.surfaces.facts import REGISTRATIONS, SIM_OK, SIM_PIN, ModemState, RouterState

NOTHING = "N/A"
_PINS = {SIM_OK: "OK", SIM_PIN: "Required PIN, 3 attempts left"}


class Form(StrEnum):
    """How the modem's part of the firmware speaks."""

    UBUS = "ubus"
    INFO = "info"  # `gsmctl --info`, and no `ubus` object
    OLD = "old"  # flags of `gsmctl`, each a line


def form_of(state: RouterState) -> Form:
    """As this model's firmware has it."""
    return Form.OLD if state.old else Form.UBUS


def modem_info(modem: ModemState) -> dict[str, Any]:
    """One modem as JSON; numbers here, texts there, as firmware has it."""
    return {
        "model": modem.model,
        "manuf": "Quectel",
        "usb_id": modem.path,
        "name": "Internal modem",
        "builtin": True,
        "simcount": modem.sim_count,
        "cache": {
            "firmware": modem.firmware,
            "imei": modem.imei,
            "serial_num": "",
            "imsi": modem.imsi or NOTHING,
            "iccid": modem.iccid or NOTHING,
            "sim": modem.sim_slot,
            "operator": modem.operator or NOTHING,
            "provider_name": modem.operator or NOTHING,
            "net_mode_str": modem.network_type or NOTHING,
            "band_str": modem.band or NOTHING,
            "reg_stat": modem.registration,
            "reg_stat_str": REGISTRATIONS[modem.registration],
            "reg_ci": NOTHING if modem.cell is None else f"{modem.cell:08X}",
            "reg_tac": NOTHING if modem.tac is None else f"{modem.tac:04X}",
            "modem_state": 1,
            "rssi_value": NOTHING if modem.rssi is None else modem.rssi,
            "rsrp_value": NOTHING if modem.rsrp is None else str(modem.rsrp),
            "rsrq_value": NOTHING if modem.rsrq is None else modem.rsrq,
            "sinr_value": NOTHING if modem.sinr is None else modem.sinr,
            "volte_ready": False,
            "temperature": modem.temperature,
            "cell_info": [],
            "ca_info": [],
        },
        "pdp_addr": ["10.20.30.40"] if modem.connected else [],
    }


def ubus_answers(state: RouterState, form: Form) -> Mapping[str, Any]:
    """By the arguments behind `ubus call`; what is missing is not found."""
    answers: dict[str, Any] = {
        "system board": {
            "hostname": state.hostname,
            "model": f"Teltonika {state.name}",
            "release": {"distribution": "OpenWrt", "version": "21.02.0"},
        },
        "system info": {"uptime": state.uptime_s},
    }
    if form is not Form.OLD:
        answers["mnfinfo get"] = {
            "mnfinfo": {
                "serial": state.serial,
                "mac": state.lan_mac.replace(":", ""),
                "macEth": state.wan_mac.replace(":", ""),
                "name": state.product_code,
                "hwver": state.hwver,
                "batch": state.batch,
                "blver": state.blver,
            }
        }
    if form is Form.UBUS:
        for number, modem in enumerate(state.modems):
            answers |= _modem_objects(f"gsm.modem{number}", modem)
    if state.gps:
        answers["gpsd position"] = _position(state)
    if state.digital_input is not None:
        answers["ioman.gpio.din1 status"] = {"value": str(int(state.digital_input))}
    if state.analog_mv is not None:
        answers["ioman.adc.adc0 status"] = {"value": f"{state.analog_mv / 1_000:.2f}"}
    for modem in state.modems:
        for sim in range(modem.sim_count):
            asked = {"period": "day", "sim": sim + 1, "modem": modem.path, "current": True}
            used = {"tx": modem.sent_today[sim], "rx": modem.received_today[sim]}
            answers[f"mdcollect get {json.dumps(asked)}"] = used
    return answers


def _modem_objects(place: str, modem: ModemState) -> Mapping[str, Any]:
    if modem.offline:
        return {f"{place} info": {}}
    pin = _PINS.get(modem.sim_state, "Not inserted")
    return {
        f"{place} info": modem_info(modem),
        f"{place} get_pin_state": {"state": pin, "state_id": modem.sim_state},
        f"{place} get_temperature": {"temperature_value": modem.temperature},
        f"{place} get_iccid": {"iccid": modem.iccid or NOTHING},
    }


def _position(state: RouterState) -> Mapping[str, str]:
    position = state.position
    if position is None:
        return {}
    return {
        "fix_status": "1",
        "latitude": f"{position.latitude_e7 / 1e7:.7f}",
        "longitude": f"{position.longitude_e7 / 1e7:.7f}",
        "altitude": str(position.altitude_m),
        "speed": f"{position.speed_tenths / 10:.1f}",
        "angle": "12",
        "satellites": str(position.satellites),
        "accuracy": "1.2",
    }


def gsmctl_lines(modem: ModemState, form: Form) -> Mapping[str, str]:
    """What each flag prints; `q` may be of several lines."""
    named = {"RSSI": modem.rssi, "RSRP": modem.rsrp, "SINR": modem.sinr, "RSRQ": modem.rsrq}
    signal = "\n".join(f"{k}: {NOTHING if v is None else v}" for k, v in named.items())
    if form is Form.OLD:
        signal = NOTHING if modem.rssi is None else str(modem.rssi)
    return {
        "q": signal,
        "o": modem.operator or NOTHING,
        "t": modem.network_type or NOTHING,
        "g": REGISTRATIONS[modem.registration],
        "j": "connected" if modem.connected else "disconnected",
        "i": modem.imei,
        "J": modem.iccid or NOTHING,
        "x": modem.imsi or NOTHING,
        "c": str(modem.temperature),
        "b": (modem.band or NOTHING).replace(" ", "_"),
        "C": NOTHING if modem.cell is None else f"{modem.cell:08X}",
        "u": _PINS.get(modem.sim_state, "Not inserted"),
        "T": f"sim{modem.sim_slot}",
        "m": modem.model,
        "y": modem.firmware,
    }


def mnf_info_lines(state: RouterState) -> Mapping[str, str]:
    """What each flag of `mnf_info` prints."""
    return {
        "-s": state.serial,
        "-m": state.lan_mac.replace(":", "").upper(),
        "-t": state.wan_mac.replace(":", "").upper(),
        "-n": state.product_code,
        "-H": state.hwver,
        "-b": state.batch,
        "-v": state.blver,
    }
