"""Decodes the JSON of `ubus`, and of `gsmctl --info`, which is the same."""

import json
from typing import Any

from agent.collectors.reading import (
    Values,
    band,
    boolean,
    cell_id,
    digits,
    known,
    mac,
    member,
    network_type,
    number,
    position,
    registration,
    signal,
    sim_slot,
    sim_state,
    tac,
    temperature,
    text,
    whole,
)

_REGISTERED = ("Registered, home", "Registered, roaming")


def decode(said: str) -> Any:
    """The object; None when it is none."""
    try:
        found = json.loads(said, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _integer(said: str) -> int | None:
    # One of thousands of digits would take long, and no value is like that.
    return int(said) if len(said) < 20 else None


def modem(said: Any) -> Values:
    """One modem: `ubus call gsm.modemN info`, `gsmctl --info`."""
    cache = member(said, "cache")
    registered = registration(member(cache, "reg_stat"))
    if registered is None:
        registered = registration(member(cache, "reg_stat_str"))
    told = sim_state(member(cache, "pin_state_str"))
    values = known(
        {
            "imei": digits("imei", member(cache, "imei")),
            "iccid": digits("iccid", member(cache, "iccid")),
            "sim_slot": sim_slot(member(cache, "sim")),
            "operator": text("operator", member(cache, "operator")),
            "network_type": network_type(member(cache, "net_mode_str")),
            "band": band(member(cache, "band_str")),
            "registration": registered,
            "cell_id": cell_id(member(cache, "reg_ci"), hexadecimal=True),
            "tac": tac(member(cache, "reg_tac"), hexadecimal=True),
            "modem_temperature": temperature(
                "modem_temperature", member(cache, "temperature"), tenths=True
            ),
            # A modem that is registered has a SIM in order; of others it may have to be asked.
            "sim_state": "Ready" if registered in _REGISTERED else told,
        }
    )
    values |= signal({name: member(cache, f"{name}_value") for name in _SIGNAL})
    addresses = member(said, "pdp_addr")
    if values and isinstance(addresses, list):
        values["data_connection"] = "Connected" if any(addresses) else "Disconnected"
    return values


_SIGNAL = ("rssi", "rsrp", "rsrq", "sinr")


def usb_path(said: Any) -> str | None:
    """How RutOS names this modem."""
    return text("imei", member(said, "usb_id"))  # as short as one, and as clean


def pin_state(said: Any) -> Values:
    """`get_pin_state`, asked while a modem is not registered."""
    state = sim_state(member(said, "state_id")) or sim_state(member(said, "state"))
    return known({"sim_state": state})


def usage(said: Any) -> Values:
    """Bytes of one SIM, of `mdcollect`."""
    return known(
        {
            "mobile_received": whole("mobile_received", member(said, "rx")),
            "mobile_sent": whole("mobile_sent", member(said, "tx")),
        }
    )


def identity(said: Any) -> Values:
    """`ubus call mnfinfo get`."""
    return known(
        {
            "model": text("model", member(said, "mnfinfo", "name")),
            "lan_mac": mac(member(said, "mnfinfo", "mac")),
        }
    )


def gps(said: Any) -> Values:
    """`ubus call gpsd position`."""
    return position(said)


def digital_input(said: Any) -> Values:
    """`ubus call ioman.gpio.din1 status`."""
    return known({"digital_input": boolean(member(said, "value"))})


def analog_input(said: Any) -> Values:
    """`ubus call ioman.adc.adc0 status`, in volts."""
    volts = number(member(said, "value"))
    return known({"analog_input": whole("analog_input", volts, 1_000)})
